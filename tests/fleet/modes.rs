//! Bootloaders that do not swap: the highest version boots from its slot or is copied to RAM, or the new image overwrites
//! the old one. Each verdict is held against what is true of the device.

use std::sync::Arc;

use flashfleet::image::{Flags, ImageBuilder, ImageSet};
use flashfleet::plan::{Auto, Bootloader, Step};
use flashfleet::report::{Outcome, Verdict};
use flashfleet::sim::{BootMode, FaultSpec, Power, SimSpec};
use flashfleet::smp::{Op, group};

use super::line::{Finished, Line, faulty, in_virtual_time, reset, upload};

/// An image for RAM and for any slot.
fn image(version: &str) -> ImageSet {
    let payload: Vec<u8> = (0..12_000_u32).map(|n| n.to_le_bytes()[0] ^ 0xa5).collect();
    let bytes = ImageBuilder::new().version(version).flags(Flags::RAM_LOAD).payload(&payload).build();
    Arc::new(flashfleet::image::Image::from_bytes(bytes).expect("a valid image")).into()
}

fn spec(mode: BootMode) -> SimSpec {
    SimSpec { mode, ..SimSpec::default() }
}

/// Devices that run 1.0.0; the plan says the mode where they do not.
fn line(spec: &SimSpec, version: &str) -> Line {
    let mut line = Line::new(spec);
    line.plan.images.insert("app".to_owned(), Arc::new(image(version)));
    if spec.mode == BootMode::RamLoad {
        line.plan.targets[0].bootloader = Auto::Fixed(Bootloader::RamLoad);
    }
    line
}

fn notes(finished: &Finished) -> String {
    let steps = &finished.report.devices[0].steps;
    steps.iter().flat_map(|step| step.detail.notes.clone()).collect::<Vec<_>>().join("; ")
}

/// How often the device was asked to change the state of an image.
fn state_writes(line: &Line) -> usize {
    let seen = line.device(0).requests();
    seen.iter()
        .filter(|seen| (seen.group, seen.command) == (group::IMAGE, 0) && seen.op == Some(Op::Write))
        .count()
}

const BY_VERSION: [BootMode; 2] = [BootMode::DirectXip, BootMode::RamLoad];

#[test]
fn the_higher_version_runs_from_one_slot_and_the_next_from_the_other() {
    for mode in BY_VERSION {
        in_virtual_time(async {
            let mut line = line(&spec(mode), "2.0.0");
            for (version, slot) in [("2.0.0", 1), ("2.1.0", 0), ("2.1.1", 1)] {
                line.plan.images.insert("app".to_owned(), Arc::new(image(version)));
                let finished = line.run().await;
                assert_eq!(
                    finished.outcome,
                    Outcome::Passed,
                    "{mode:?}: {:?}",
                    finished.report.devices[0].cause
                );
                let device = &finished.report.devices[0];
                assert!(!device.on_test && device.changed == Some(true));
                let truth = line.device(0).running().expect("it runs");
                assert_eq!(truth.version, version);
                assert_eq!(line.device(0).slot(slot).hash, Some(truth.hash.clone()), "{mode:?}");
                assert_eq!(
                    device.images[0].after.as_ref().and_then(|after| after.hash.clone()),
                    Some(hex::encode(truth.hash))
                );
                assert_eq!(state_writes(&line), 0, "there are no marks in this mode");
                assert!(notes(&finished).contains("whether it works or not"), "{}", notes(&finished));
            }
        });
    }
}

#[test]
fn with_revert_the_usual_steps_hold_in_both_slots() {
    in_virtual_time(async {
        let mut line = line(&spec(BootMode::DirectXipWithRevert), "2.0.0");
        for version in ["2.0.0", "2.1.0"] {
            line.plan.images.insert("app".to_owned(), Arc::new(image(version)));
            let finished = line.run().await;
            assert_eq!(finished.outcome, Outcome::Passed, "{:?}", finished.report.devices[0].cause);
            let truth = line.device(0).running().expect("it runs");
            assert_eq!((truth.version.as_str(), truth.confirmed), (version, true));
        }
        // Without a confirm it is on test, and the next reset shows that this was true.
        line.plan.images.insert("app".to_owned(), Arc::new(image("3.0.0")));
        line.plan.targets[0].steps = vec![upload(), Step::TestBoot];
        let finished = line.run().await;
        assert!(finished.report.devices[0].on_test, "{:?}", finished.report.devices[0].cause);
        line.device(0).reset_line();
        assert_eq!(line.device(0).running().expect("the old one runs").version, "2.1.0");
    });
}

#[test]
fn a_version_that_would_never_boot_costs_the_device_nothing() {
    for mode in [BootMode::DirectXip, BootMode::RamLoad, BootMode::DirectXipWithRevert] {
        for version in ["0.9.0", "1.0.0"] {
            in_virtual_time(async {
                let line = line(&spec(mode), version);
                let finished = line.run().await;
                assert_eq!(finished.verdicts(), [Verdict::Failed]);
                assert_eq!(finished.code(0), "image.never_boots", "{mode:?} {version}");
                assert_eq!(finished.report.devices[0].changed, Some(false));
                assert_eq!(line.device(0).bytes_written(), 0);
                assert_eq!(line.device(0).boots(), 0);
            });
        }
    }
}

#[test]
fn a_crash_after_the_reset_is_never_a_pass_and_nothing_comes_back() {
    for mode in BY_VERSION {
        in_virtual_time(async {
            let spec =
                SimSpec { mode, ..faulty(FaultSpec { hang_on_test_boot: true, ..FaultSpec::default() }) };
            let line = line(&spec, "2.0.0");
            let finished = line.run().await;
            assert_eq!(finished.code(0), "device.never_returned", "{mode:?}");
            assert!(notes(&finished).contains("whether it works or not"), "{}", notes(&finished));
            // What the report says is not proven is what happens: the old image does not come back.
            line.device(0).reset_line();
            tokio::time::sleep(std::time::Duration::from_secs(10)).await;
            assert_eq!(line.device(0).power(), Power::Stuck);
            assert_eq!(line.device(0).running().expect("it was started").version, "2.0.0");
        });
    }
}

#[test]
fn a_device_that_does_not_tell_needs_the_plans_word_and_one_that_tells_otherwise_is_refused() {
    in_virtual_time(async {
        // Zephyr has no number for RAM load, and some servers do not answer at all.
        for bootloader_info in [true, false] {
            let silent = SimSpec { bootloader_info, ..spec(BootMode::RamLoad) };
            assert_eq!(line(&silent, "2.0.0").run().await.outcome, Outcome::Passed);
            let mut unsaid = line(&silent, "2.0.0");
            unsaid.plan.targets[0].bootloader = Auto::Auto;
            let finished = unsaid.run().await;
            assert_eq!(finished.code(0), "device.mode_unknown");
            assert_eq!((unsaid.device(0).bytes_written(), unsaid.device(0).boots()), (0, 0));
        }
        let mut swap = line(&spec(BootMode::SwapMove), "2.0.0");
        swap.plan.targets[0].bootloader = Auto::Fixed(Bootloader::RamLoad);
        let finished = swap.run().await;
        assert_eq!(
            (finished.code(0).as_str(), finished.report.devices[0].changed),
            ("device.other_mode", Some(false))
        );
        assert_eq!((swap.device(0).bytes_written(), swap.device(0).boots()), (0, 0));
    });
}

#[test]
fn an_image_for_the_other_slot_is_refused_by_the_server_or_passed_over_and_told() {
    // The slots of a simulated device begin at 0x10000.
    let first = ImageBuilder::new().version("2.0.0").flags(Flags::ROM_FIXED).load_address(0x1_0000).build();
    let first: ImageSet =
        Arc::new(flashfleet::image::Image::from_bytes(first).expect("a valid image")).into();
    for (reject_mismatched_slot, code) in
        [(true, "smp.img_mgmt.invalid_flash_address"), (false, "image.not_booted")]
    {
        in_virtual_time(async {
            let spec = SimSpec { reject_mismatched_slot, ..spec(BootMode::DirectXip) };
            let mut line = line(&spec, "2.0.0");
            line.plan.images.insert("app".to_owned(), Arc::new(first.clone()));
            let finished = line.run().await;
            assert_eq!(finished.code(0), code, "{:?}", finished.report.devices[0].cause);
            assert_eq!(line.device(0).running().expect("the old one runs").version, "1.0.0");
        });
    }
}

#[test]
fn overwriting_passes_without_a_word_of_a_revert_and_what_it_overwrites_is_gone() {
    in_virtual_time(async {
        let mut line = line(&spec(BootMode::Overwrite), "2.0.0");
        line.plan.targets[0].steps = vec![upload(), Step::TestBoot, reset()];
        let finished = line.run().await;
        assert_eq!(finished.outcome, Outcome::Passed, "{:?}", finished.report.devices[0].cause);
        assert!(!finished.report.devices[0].on_test);
        assert!(notes(&finished).contains("nothing goes back to the old one"), "{}", notes(&finished));
        assert_eq!(line.device(0).running().expect("it runs").version, "2.0.0");
        assert_eq!(line.device(0).slot(1).hash, None);
    });
}

#[test]
fn an_older_version_is_refused_before_the_upload_where_the_bootloader_says_that_it_would() {
    for mode in [BootMode::Overwrite, BootMode::SwapMove] {
        in_virtual_time(async {
            let spec = SimSpec { no_downgrade: true, ..spec(mode) };
            let refused = line(&spec, "0.9.0");
            let finished = refused.run().await;
            assert_eq!(finished.code(0), "image.downgrade", "{mode:?}");
            assert_eq!(
                (refused.device(0).bytes_written(), finished.report.devices[0].changed),
                (0, Some(false))
            );
            assert_eq!(line(&spec, "1.0.0+5").run().await.outcome, Outcome::Passed, "an equal one is taken");
        });
    }
}

#[test]
fn a_single_slot_is_refused_and_the_way_on_is_told() {
    in_virtual_time(async {
        let line = line(&spec(BootMode::Single), "2.0.0");
        let finished = line.run().await;
        assert_eq!(finished.code(0), "device.mode_not_supported");
        let help =
            finished.report.devices[0].cause.as_ref().map(|cause| cause.help.clone()).unwrap_or_default();
        assert!(help.contains("boot_mode: bootloader"), "{help}");
        assert_eq!(line.device(0).bytes_written(), 0);
    });
}

#[test]
fn a_lost_reset_answer_costs_no_second_reset() {
    for mode in BY_VERSION {
        in_virtual_time(async {
            let spec =
                SimSpec { mode, ..faulty(FaultSpec { lose_reset_answer: true, ..FaultSpec::default() }) };
            let mut line = line(&spec, "2.0.0");
            line.plan.targets[0].steps = vec![upload(), Step::TestBoot];
            assert_eq!(line.run().await.outcome, Outcome::Passed, "{mode:?}");
            assert_eq!(line.device(0).boots(), 1);
        });
    }
}
