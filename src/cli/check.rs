//! `flashfleet check PLAN`: everything that can be known of a plan without touching a device.

use std::fmt::Write as _;
use std::io::Write;
use std::path::PathBuf;

use clap::Args;
use serde_json::{Value, json};

use super::diagnose::show_plan_errors;
use super::output::print_json;
use crate::exit::Exit;
use crate::image::{ImageSet, Member};
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
    let images = plan.images.iter().map(|(name, set)| image_document(name, set));
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

/// What there is of one entry of `images`. A package has no version, hash and size of its own: its images do.
fn image_document(name: &str, set: &ImageSet) -> Value {
    let member = |member: &Member| {
        json!({
            "file": member.file,
            "image_number": member.image_number,
            "slot": member.slot,
            "version": member.image.version(),
            "hash": hex::encode(member.image.hash()),
            "bytes": member.image.bytes().len(),
            "flags": member.image.header().flags.names(),
            "dependencies": member.image.layout().dependencies().map(|it| it.to_string()).collect::<Vec<_>>(),
        })
    };
    let only = match set.members() {
        [only] => Some(&only.image),
        _ => None,
    };
    json!({
        "name": name,
        "version": only.map(|image| image.version()),
        "hash": only.map(|image| hex::encode(image.hash())),
        "sha256": hex::encode(set.source_sha256()),
        "bytes": only.map(|image| image.bytes().len()),
        "images": set.members().iter().map(member).collect::<Vec<_>>(),
    })
}

fn describe_image(name: &str, set: &ImageSet) -> String {
    let mut text = String::new();
    let members = set.members();
    let is_package = members.iter().any(|member| member.file.is_some());
    if is_package {
        let images =
            if members.len() == 1 { "1 image".to_owned() } else { format!("{} images", members.len()) };
        let _ = writeln!(text, "  image {name}: package of {images}");
    }
    for member in members {
        let image = &member.image;
        let head = match &member.file {
            None => format!("  image {name}"),
            Some(file) => {
                let slot = member.slot.map(|slot| format!(", slot {slot}")).unwrap_or_default();
                format!("    image {}{slot}: {file}", member.image_number.unwrap_or(0))
            }
        };
        let between = if member.file.is_some() { ", " } else { ": " };
        let _ = write!(text, "{head}{between}version {}, {} bytes", image.version(), image.bytes().len());
        let flags = image.header().flags;
        for (is_set, word) in [(flags.is_encrypted(), "encrypted"), (flags.is_compressed(), "compressed")] {
            if is_set {
                let _ = write!(text, ", {word}");
            }
        }
        let _ = writeln!(text, ", hash {}", hex::encode(image.hash()));
        for dependency in image.layout().dependencies() {
            let _ = writeln!(text, "      needs {dependency}");
        }
    }
    text
}

fn summary(plan: &Plan) -> String {
    let mut text = format!("plan {}: valid\n", plan.name);
    for (name, set) in &plan.images {
        text.push_str(&describe_image(name, set));
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
