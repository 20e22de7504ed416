//! `flashfleet check PLAN`: everything that can be known of a plan without touching a device.

use std::fmt::Write as _;
use std::io::Write;
use std::path::PathBuf;

use clap::Args;
use serde_json::{Value, json};

use super::diagnose::show_plan_errors;
use super::output::print_json;
use crate::exit::Exit;
use crate::plan::{Diagnostics, Match, MatchKind, Pattern, Plan, Step, Target, UdpTarget};

/// What `--json` writes: the schema's name.
const SCHEMA: &str = "flashfleet.check/1";

/// Most addresses or patterns that the summary of one target shows.
const MAX_SHOWN: usize = 4;

/// Parse and validate a plan, open and check its images; touch no device.
#[derive(Debug, Args)]
pub struct CheckArgs {
    /// The plan.
    pub plan: PathBuf,
    /// Write the result as JSON to standard output.
    #[arg(long)]
    pub json: bool,
}

/// Runs the command.
pub fn run(args: &CheckArgs, out: &mut dyn Write, err: &mut dyn Write) -> Exit {
    let result = crate::plan::load(&args.plan);
    match &result {
        Ok(plan) => {
            // Nothing can be done where standard error is gone; the exit code says it all.
            let _ = err.write_all(summary(plan).as_bytes());
        }
        Err(diagnostics) => show_plan_errors(err, diagnostics),
    }
    let exit = if result.is_ok() { Exit::Passed } else { Exit::Usage };
    if args.json { print_json(out, err, &document(&result), exit) } else { exit }
}

fn document(result: &Result<Plan, Diagnostics>) -> Value {
    match result {
        Ok(plan) => json!({
            "schema": SCHEMA,
            "file": plan.path.display().to_string(),
            "valid": true,
            "problems": [],
            "omitted": 0,
            "plan": plan_document(plan),
        }),
        Err(diagnostics) => json!({
            "schema": SCHEMA,
            "file": diagnostics.file().display().to_string(),
            "valid": false,
            "problems": diagnostics.to_json(),
            "omitted": diagnostics.omitted(),
            "plan": null,
        }),
    }
}

fn plan_document(plan: &Plan) -> Value {
    let images = plan.images.iter().map(|(name, image)| {
        json!({
            "name": name,
            "version": image.version(),
            "hash": hex::encode(image.hash()),
            "sha256": hex::encode(image.source_sha256()),
            "bytes": image.bytes().len(),
        })
    });
    let targets = plan.targets.iter().map(|target| {
        json!({
            "name": target.name,
            "match": ways(&target.matcher),
            "expect": target.expect.to_string(),
            "discover_s": target.discover.as_secs_f64(),
            "steps": target.steps.iter().map(Step::name).collect::<Vec<_>>(),
        })
    });
    json!({
        "name": plan.name,
        "sha256": plan.sha256,
        "images": images.collect::<Vec<_>>(),
        "targets": targets.collect::<Vec<_>>(),
    })
}

fn summary(plan: &Plan) -> String {
    let mut text = format!("plan {}: valid\n", plan.name);
    for (name, image) in &plan.images {
        let _ = writeln!(
            text,
            "  image {name}: version {}, {} bytes, hash {}",
            image.version(),
            image.bytes().len(),
            hex::encode(image.hash())
        );
    }
    for target in &plan.targets {
        text.push_str(&describe(target));
    }
    text
}

fn describe(target: &Target) -> String {
    let all = ways(&target.matcher);
    let mut shown = all.iter().take(MAX_SHOWN).cloned().collect::<Vec<_>>().join(", ");
    if all.len() > MAX_SHOWN {
        let _ = write!(shown, " and {} more", all.len() - MAX_SHOWN);
    }
    let steps: Vec<String> = target.steps.iter().map(Step::name).collect();
    format!(
        "  target {}: {shown}\n    expects {} within {}\n    {}\n",
        target.name,
        target.expect,
        humantime::format_duration(target.discover),
        steps.join(", "),
    )
}

/// Every way in which a match finds devices, then its conditions, in the grammar of the command line.
fn ways(matcher: &Match) -> Vec<String> {
    let of = |kind: &str, pattern: &Pattern| format!("{kind}:{}", pattern.as_str());
    let mut ways: Vec<String> = match &matcher.kind {
        MatchKind::Usb(patterns) => patterns.iter().map(|pattern| of("usb", pattern)).collect(),
        MatchKind::Port(globs) => globs.iter().map(|glob| format!("serial:{glob}")).collect(),
        MatchKind::Ble(patterns) => patterns.iter().map(|pattern| of("ble", pattern)).collect(),
        MatchKind::Udp(entries) => entries.iter().map(udp).collect(),
        MatchKind::Tcp(addresses) => addresses.iter().map(|address| format!("tcp:{address}")).collect(),
        MatchKind::Sim(spec) => vec![format!("{} simulated", spec.count)],
    };
    let conditions = [
        ("bootloader_usb", &matcher.bootloader_usb),
        ("serial_number", &matcher.serial_number),
        ("product", &matcher.product),
        ("hub_path", &matcher.hub_path),
    ];
    ways.extend(conditions.iter().filter_map(|(name, pattern)| {
        pattern.as_ref().map(|pattern| format!("{name} {}", pattern.as_str()))
    }));
    ways
}

fn udp(entry: &UdpTarget) -> String {
    let bracketed = |host: &str| if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
    match entry {
        UdpTarget::Host { host, port } => format!("udp:{}:{port}", bracketed(host)),
        UdpTarget::Range { first, last, port } => {
            format!("udp:{}-{}:{port}", bracketed(&first.to_string()), bracketed(&last.to_string()))
        }
    }
}
