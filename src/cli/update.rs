//! `flashfleet update DEVICE IMAGE`: a run of a plan with one device that is made in memory.

use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use clap::Args;
use clap::builder::PossibleValuesParser;

use super::diagnose::say;
use super::link::{DEVICE_HELP, LinkArgs};
use super::run::{OutputArgs, execute};
use super::smp::{check_sha256, sha256};
use super::stdin;
use crate::actors::{RunOptions, Source};
use crate::cause::{Cause, Class};
use crate::exit::Exit;
use crate::image::ImageSet;
use crate::plan::{Auto, Bootloader, Expect, LinkOptions, Match, Plan, Step, Target};
use crate::transport::{Address, AddressError, Candidate, Discovery, Firmware};

/// What the image, the target and the plan are called in reports.
const IMAGE: &str = "image";
const TARGET: &str = "device";
const PLAN: &str = "update";

/// Least time for a device's return, as in a plan.
const LEAST_RETURN: Duration = Duration::from_secs(1);

/// Update one device without a plan: upload, test boot, confirm, reset, with the proof after each.
#[derive(Debug, Args)]
pub struct UpdateArgs {
    /// The device.
    #[arg(value_name = "DEVICE", help = DEVICE_HELP)]
    device: String,
    /// The image: MCUboot .bin or .hex, or a package (.zip with manifest.json) of one or several; `-` for standard input.
    #[arg(value_name = "IMAGE")]
    image: PathBuf,
    /// Skip the test boot: mark the image to stay, reset, and prove that it runs. If it does not boot, nothing brings the
    /// old one back.
    #[arg(long, alias = "force-confirm")]
    confirm_directly: bool,
    /// Upload and mark the image, and leave the reset to somebody else: it is not seen to boot.
    #[arg(long, alias = "skip-reboot")]
    skip_reset: bool,
    /// The device is in MCUboot's serial recovery: write its primary slot, reset, and prove that the image runs. There is no
    /// test boot, and nothing brings the old image back.
    #[arg(long, conflicts_with_all = ["confirm_directly", "skip_reset", "upgrade_only"])]
    recovery: bool,
    /// How the device's bootloader puts a new image into use, where the device does not tell it [default: ask the device].
    #[arg(long, value_name = "MODE", value_parser = PossibleValuesParser::new(Bootloader::WORDS.map(|(word, _)| word)))]
    bootloader: Option<String>,
    /// Let the device refuse a version that is not newer.
    #[arg(long)]
    upgrade_only: bool,
    /// Upload even where the image is on the device already.
    #[arg(long)]
    force: bool,
    /// The whole file must hash to this SHA-256.
    #[arg(long, alias = "checksum", value_name = "HEX", value_parser = sha256)]
    sha256: Option<[u8; 32]>,
    /// How long the device may take from a reset until it answers [default: 60s].
    #[arg(long, value_name = "TIME", value_parser = return_within)]
    return_within: Option<Duration>,
    /// How long a device that is not there yet is waited for [default: 10s].
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    discover: Option<Duration>,
    #[command(flatten)]
    link: LinkArgs,
    #[command(flatten)]
    outputs: OutputArgs,
}

fn return_within(text: &str) -> Result<Duration, String> {
    let time = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    if time < LEAST_RETURN { Err("expected at least 1s".to_owned()) } else { Ok(time) }
}

/// Runs the command.
pub fn run(args: &UpdateArgs, err: &mut dyn Write) -> Exit {
    match prepare(args) {
        Ok((plan, source)) => {
            let options = RunOptions { run_id: uuid::Uuid::now_v7().to_string(), ..RunOptions::default() };
            let exit = execute(Arc::new(plan), options, source, &args.outputs, err);
            if args.skip_reset && exit == Exit::Passed && !args.outputs.quiet {
                // A pass without a boot must not look like one with it. Nothing can be done where the terminal is gone.
                let _ = writeln!(err, "not reset: what was marked is not proven to boot");
            }
            exit
        }
        Err(cause) => {
            say(err, &cause);
            Exit::of_cause(&cause)
        }
    }
}

/// Everything that can be wrong before a run begins.
fn prepare(args: &UpdateArgs) -> Result<(Plan, Arc<OneDevice>), Cause> {
    let address: Address = args.device.parse().map_err(|error| bad_device(args, error))?;
    let image = stdin::image_set(&args.image)?;
    check_sha256(&args.image, image.source_sha256(), args.sha256)?;
    let mut link = args.link.options();
    if let Some(within) = args.return_within {
        link.return_within = within;
        // The silence is part of the time.
        link.quiet = link.quiet.min(within / 2);
    }
    check_device(&address, &link)?;
    let source = Arc::new(OneDevice { address: address.clone(), discovery: Discovery::new() });
    Ok((plan(args, address.try_into()?, image, link), source))
}

/// Other tools want the file first.
fn bad_device(args: &UpdateArgs, error: AddressError) -> Cause {
    let image = args.image.to_string_lossy();
    let turned = image.parse::<Address>().is_ok();
    let help = format!("the device comes first: `flashfleet update {image} {}`", args.device);
    let cause = Cause::from(error);
    if turned { Cause { help, ..cause } } else { cause }
}

/// A selector that means several devices, or none that this program can reach, is refused like any other wrong argument.
/// That the device is not there, or that this machine cannot look for it, is for the run to find out and to report.
fn check_device(address: &Address, link: &LinkOptions) -> Result<(), Cause> {
    let station = |error: std::io::Error| {
        let message = format!("cannot start: {error}");
        Cause::new(Class::Station, "station.unavailable", message, "close other programs")
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(station)?;
    // What a look leaves open belongs to this runtime, so the run looks for itself.
    let looking = OneDevice { address: address.clone(), discovery: Discovery::new() };
    match runtime.block_on(looking.find(link)) {
        Err(cause) if cause.class == Class::Plan => Err(cause),
        _ => Ok(()),
    }
}

fn plan(args: &UpdateArgs, matcher: Match, image: ImageSet, link: LinkOptions) -> Plan {
    let target = Target {
        link,
        bootloader: bootloader(args),
        discover: args.discover.unwrap_or(Target::DISCOVER),
        expect: Expect { min: 1, max: Some(1) },
        starts_in: if args.recovery { Firmware::Bootloader } else { Firmware::Application },
        ..Target::new(TARGET, matcher, steps(args, &image))
    };
    Plan::new(PLAN).with_image(IMAGE, image).with_target(target)
}

fn bootloader(args: &UpdateArgs) -> Auto<Bootloader> {
    let mode = |word: &str| Bootloader::WORDS.into_iter().find(|(known, _)| *known == word);
    args.bootloader.as_deref().and_then(mode).map_or(Auto::Auto, |(_, mode)| Auto::Fixed(mode))
}

fn steps(args: &UpdateArgs, image: &ImageSet) -> Vec<Step> {
    let mut steps = if args.recovery { Step::recover(IMAGE, image) } else { Step::update(IMAGE, image) };
    for step in &mut steps {
        if let Step::Upload { upgrade_only, force, .. } = step {
            (*upgrade_only, *force) = (args.upgrade_only, args.force);
        }
    }
    if args.confirm_directly || args.skip_reset {
        steps.retain(|step| matches!(step, Step::Upload { .. }));
        steps.push(Step::Activate { permanent: args.confirm_directly, boot: !args.skip_reset });
    }
    steps
}

/// The one device that a person named.
struct OneDevice {
    address: Address,
    discovery: Discovery,
}

impl OneDevice {
    /// The device, several times where it has several ports: the run asks which one answers. Nothing while it is not
    /// there.
    async fn find(&self, link: &LinkOptions) -> Result<Vec<Candidate>, Cause> {
        match self.discovery.find(&self.address, link).await {
            Err(cause) if cause.code == "device.not_found" => Ok(Vec::new()),
            found => found,
        }
    }
}

#[async_trait]
impl Source for OneDevice {
    async fn candidates(&self, target: &Target) -> Result<Vec<Candidate>, Cause> {
        self.find(&target.link).await
    }
}
