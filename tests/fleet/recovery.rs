//! Updates through MCUboot's serial recovery: what it is, what it proves, and what it leaves when it breaks off.

use std::sync::Arc;
use std::time::Duration;

use flashfleet::image::{Flags, Image, ImageBuilder};
use flashfleet::plan::{Auto, Step};
use flashfleet::report::{DeviceReport, Outcome, Verdict};
use flashfleet::sim::{BootMode, DeviceHandle, FaultSpec, Power, RecoverySpec, SimSpec};
use flashfleet::smp::Header;
use flashfleet::transport::Firmware;

use super::bus::{Bus, Shows};
use super::line::{Finished, Line, candidate, in_virtual_time, new_image, reset, upload};
use super::tap::Tapped;
use super::usb;

pub(crate) fn into_bootloader() -> Step {
    Step::Reset { force: false, boot_mode: Some(1) }
}

fn steps() -> Vec<Step> {
    vec![into_bootloader(), upload(), reset()]
}

fn spec(recovery: RecoverySpec) -> SimSpec {
    SimSpec { recovery: Some(recovery), ..SimSpec::default() }
}

/// A line whose devices are reset into their bootloader, or sit there already.
fn line(spec: &SimSpec) -> Line {
    let mut line = Line::new(spec);
    let starts = spec.recovery.as_ref().is_some_and(|recovery| recovery.starts);
    let target = &mut line.plan.targets[0];
    target.steps = if starts { vec![upload(), reset()] } else { steps() };
    if starts {
        target.starts_in = Firmware::Bootloader;
    }
    line
}

fn notes(device: &DeviceReport, step: usize) -> String {
    device.steps[step].detail.notes.join("\n")
}

fn passed(finished: &Finished) -> &DeviceReport {
    let device = &finished.report.devices[0];
    assert_eq!((device.verdict, finished.outcome), (Verdict::Passed, Outcome::Passed), "{:?}", device.cause);
    device
}

fn runs_new_image(device: &DeviceHandle) -> bool {
    let running = device.running().expect("an image");
    running.hash == new_image().hash() && running.confirmed && device.power() == Power::Running
}

#[test]
fn every_kind_of_recovery_writes_the_primary_slot_and_the_application_proves_it() {
    let kinds = [
        RecoverySpec::default(),
        RecoverySpec { params: false, hash: false, buf_size: 512, ..RecoverySpec::default() },
        RecoverySpec { legacy: true, params: false, hash: false, ..RecoverySpec::default() },
        RecoverySpec { echo: true, image_state: true, slot_info: true, ..RecoverySpec::default() },
        RecoverySpec { slot_info: true, direct_upload: true, write_align: 32, ..RecoverySpec::default() },
        RecoverySpec { direct_upload: true, write_align: 8, line_buffers: 16, ..RecoverySpec::default() },
    ];
    for kind in kinds {
        for starts in [false, true] {
            let recovery = RecoverySpec { starts, ..kind.clone() };
            in_virtual_time(async {
                let line = line(&spec(recovery.clone()));
                let finished = line.run().await;
                let report = passed(&finished);
                let device = line.device(0);
                assert!(report.changed == Some(true) && runs_new_image(&device), "{recovery:?}");
                assert_eq!(device.slot(1).bytes, 0, "the secondary slot was not touched: {recovery:?}");
                assert_eq!(device.boots(), if starts { 1 } else { 2 }, "{recovery:?}");
                let image = &report.images[0];
                assert_eq!(image.after.as_ref().map(|after| after.version.as_str()), Some("2.0.0"));
                let upload = image.upload.as_ref().expect("figures");
                assert_eq!((upload.window, upload.resent), (1, 0), "{recovery:?}");
                assert!(upload.frame_bytes <= u64::from(recovery.buf_size) - 4);
                let told = notes(report, 0);
                assert!(told.contains("MCUboot's serial recovery answers"), "{recovery:?}: {told}");
                assert_eq!(notes(report, usize::from(!starts)).contains("no hash"), !recovery.hash);
                // A second run finds nothing to do, wherever its plan thinks that the device is.
                let second = line.run().await;
                assert_eq!(passed(&second).changed, Some(false), "{recovery:?}");
                assert_eq!(
                    device.boots(),
                    if starts { 1 } else { 2 },
                    "no reset in the second run: {recovery:?}"
                );
            });
        }
    }
}

#[test]
fn a_device_that_takes_no_boot_mode_is_not_written_to() {
    for recovery in [None, Some(RecoverySpec { boot_mode: false, ..RecoverySpec::default() })] {
        in_virtual_time(async {
            let mut line = line(&SimSpec { recovery, ..SimSpec::default() });
            line.plan.targets[0].steps = steps();
            let finished = line.run().await;
            assert_eq!(finished.verdicts(), [Verdict::Failed]);
            assert_eq!(finished.code(0), "device.not_in_bootloader");
            assert_eq!((line.device(0).bytes_written(), line.device(0).boots()), (0, 1));
        });
    }
}

#[test]
fn a_device_that_is_in_its_application_although_the_plan_says_otherwise_is_not_written_to() {
    in_virtual_time(async {
        let mut line = line(&spec(RecoverySpec::default()));
        line.plan.targets[0].starts_in = Firmware::Bootloader;
        line.plan.targets[0].steps = vec![upload(), reset()];
        let finished = line.run().await;
        assert_eq!(finished.code(0), "device.not_in_bootloader");
        assert_eq!(finished.report.devices[0].changed, Some(false));
        assert_eq!((line.device(0).bytes_written(), line.device(0).boots()), (0, 0));
    });
}

#[test]
fn an_upload_that_breaks_off_leaves_no_application_and_is_made_anew_in_the_recovery() {
    in_virtual_time(async {
        let fault = FaultSpec { vanish_at_byte: Some(8000), vanish_ms: Some(1000), ..FaultSpec::default() };
        let line = line(&SimSpec { fault, ..spec(RecoverySpec::default()) });
        let finished = line.run().await;
        let report = passed(&finished);
        assert!(runs_new_image(&line.device(0)));
        assert_eq!(report.attempts, 2);
        assert!(
            line.device(0).bytes_written() > 12_000 + 7_000,
            "it begins again: the recovery resumes nothing"
        );
    });
}

#[test]
fn a_device_that_is_lost_in_mid_upload_is_no_pass_and_the_help_says_what_it_is_now() {
    in_virtual_time(async {
        let fault = FaultSpec { vanish_at_byte: Some(8000), ..FaultSpec::default() };
        let line = line(&SimSpec { fault, ..spec(RecoverySpec::default()) });
        let finished = line.run().await;
        assert_eq!(finished.verdicts(), [Verdict::Error]);
        let device = &finished.report.devices[0];
        assert_eq!(device.changed, Some(true));
        let cause = device.cause.as_ref().expect("a cause");
        assert!(cause.code.starts_with("link."), "{cause:?}");
        assert!(cause.help.contains("no application boots") && cause.help.contains("starts_in: bootloader"));
        assert_eq!(line.device(0).running(), None, "nothing that boots");

        // It is put back and sits in its bootloader: the next run says so.
        line.device(0).plug();
        let mut again = line;
        again.plan.targets[0].starts_in = Firmware::Bootloader;
        again.plan.targets[0].steps = vec![upload(), reset()];
        let finished = again.run().await;
        passed(&finished);
        assert!(runs_new_image(&again.device(0)));
    });
}

#[test]
fn a_bootloader_that_hangs_without_an_application_is_told_as_one_that_does_not_answer() {
    in_virtual_time(async {
        let fault = FaultSpec { vanish_at_byte: Some(8000), vanish_ms: Some(1000), ..FaultSpec::default() };
        let recovery = RecoverySpec { no_application: false, ..RecoverySpec::default() };
        let line = line(&SimSpec { fault, ..spec(recovery) });
        let finished = line.run().await;
        assert_eq!(finished.verdicts(), [Verdict::Error]);
        let cause = finished.report.devices[0].cause.clone().expect("a cause");
        assert!(cause.help.contains("no application boots"), "{cause:?}");
    });
}

#[test]
fn lost_answers_and_requests_change_nothing_in_the_end() {
    let lost = [
        FaultSpec { lose_last_upload_answer: true, ..FaultSpec::default() },
        FaultSpec { lose_reset_answer: true, ..FaultSpec::default() },
        FaultSpec { lose: 0.05, seed: 3, ..FaultSpec::default() },
        FaultSpec { chatter: 0.2, corrupt: 0.03, seed: 4, ..FaultSpec::default() },
    ];
    for fault in lost {
        for hash in [true, false] {
            in_virtual_time(async {
                let recovery = RecoverySpec { hash, ..RecoverySpec::default() };
                let line = line(&SimSpec { fault: fault.clone(), ..spec(recovery) });
                let finished = line.run().await;
                passed(&finished);
                assert!(runs_new_image(&line.device(0)), "{fault:?}");
                assert_eq!(line.device(0).boots(), 2, "{fault:?}");
            });
        }
    }
}

/// Where each slot has a number of its own, an upload names the slot, and the image list is still read by image numbers.
#[test]
fn the_upload_names_the_slot_by_the_number_that_the_bootloader_told() {
    in_virtual_time(async {
        let recovery =
            RecoverySpec { starts: true, slot_info: true, direct_upload: true, ..RecoverySpec::default() };
        let mut line = line(&spec(recovery));
        let connector = line.fleet.as_ref().expect("a simulated line").connector(0);
        let whole = u16::try_from(new_image().bytes().len()).expect("a small image").to_be_bytes();
        // That all of it is there is told by the image list alone.
        let tapped = Tapped::new(connector, move |_, message| {
            let (header, payload) = Header::split(&message).expect("a whole message");
            let last = (header.group, header.command) == (1, 1) && payload.windows(2).any(|two| two == whole);
            if last { None } else { Some(message) }
        });
        let tap = Arc::clone(&tapped.tap);
        line.devices.insert("line".to_owned(), vec![candidate(Arc::new(tapped))]);
        let finished = line.run().await;
        let told = notes(passed(&finished), 0);
        // The key "image" and the number 1, as CBOR.
        assert!(tap.said(1, 1, b"\x65image\x01"), "slot 0 is called 1 there");
        assert!(told.contains("the image list shows that the upload is complete"), "{told}");
        assert_eq!(line.device(0).bytes_written(), new_image().bytes().len() as u64, "written once");
    });
}

#[test]
fn an_image_that_the_bootloader_would_not_boot_is_told_before_it_is_left() {
    in_virtual_time(async {
        // Its hash is another kind than this MCUboot checks, as that of an image for another board may be.
        let line = line(&SimSpec {
            image_hash: flashfleet::sim::ImageHash::Sha512,
            ..spec(RecoverySpec::default())
        });
        let finished = line.run().await;
        assert_eq!(finished.code(0), "image.not_accepted");
        assert_eq!(finished.verdicts(), [Verdict::Failed]);
        let device = line.device(0);
        assert_eq!((device.power(), device.boots()), (Power::Recovery, 1), "it can be given another image");
    });
}

#[test]
fn a_bootloader_that_lists_no_hash_and_boots_nothing_still_answers_after_the_reset() {
    in_virtual_time(async {
        // Refused lists: the bootloader has none.
        let fault = FaultSpec {
            refuse: vec![flashfleet::sim::Refusal {
                group: 1,
                command: 0,
                rc: 8,
                of_group: false,
                from: 1,
                times: None,
            }],
            ..FaultSpec::default()
        };
        let line = line(&SimSpec {
            image_hash: flashfleet::sim::ImageHash::Sha512,
            fault,
            ..spec(RecoverySpec::default())
        });
        let finished = line.run().await;
        assert_eq!(finished.code(0), "device.still_in_bootloader", "{:?}", finished.report.devices[0].cause);
        assert_eq!(line.device(0).power(), Power::Recovery);
    });
}

#[test]
fn an_application_without_an_image_list_proves_nothing_and_the_report_says_so() {
    in_virtual_time(async {
        let refuse = |from, times| flashfleet::sim::Refusal {
            group: 1,
            command: 0,
            rc: 8,
            of_group: false,
            from,
            times,
        };
        let fault = FaultSpec { refuse: vec![refuse(1, None)], ..FaultSpec::default() };
        let line = line(&SimSpec { fault, ..spec(RecoverySpec::default()) });
        let finished = line.run().await;
        let report = passed(&finished);
        assert!(runs_new_image(&line.device(0)));
        let told = notes(report, 2);
        assert!(told.contains("nothing proves that what was uploaded runs"), "{told}");
    });
}

#[test]
fn a_pending_image_is_not_swapped_in_over_what_the_bootloader_wrote() {
    in_virtual_time(async {
        let mut line = line(&spec(RecoverySpec::default()));
        line.plan.targets[0].steps = vec![upload(), Step::Activate { permanent: false, boot: false }];
        passed(&line.run().await);
        line.plan.targets[0].steps = steps();
        let finished = line.run().await;
        assert_eq!(finished.code(0), "device.slots_unsettled");
        assert_eq!((line.device(0).boots(), line.device(0).is_pending()), (0, true));
    });
}

#[test]
fn a_line_of_bricked_boards_is_brought_back_at_once() {
    in_virtual_time(async {
        let recovery = RecoverySpec { starts: true, ..RecoverySpec::default() };
        let line = line(&SimSpec { count: 24, baud: Some(115_200), ..spec(recovery) });
        for index in 0..24 {
            line.device(index).program(0, b"nothing that boots");
        }
        let finished = line.run().await;
        assert_eq!(finished.outcome, Outcome::Passed, "{:?}", finished.report.devices[0].cause);
        assert!((0..24).all(|index| runs_new_image(&line.device(index))));
    });
}

#[test]
fn the_plan_says_how_large_messages_are_where_the_bootloader_does_not() {
    in_virtual_time(async {
        let recovery = RecoverySpec { params: false, buf_size: 1024, ..RecoverySpec::default() };
        let mut line = line(&spec(recovery));
        line.plan.targets[0].link.buffer = Auto::Fixed(1024);
        line.plan.targets[0].link.timeout = Auto::Fixed(Duration::from_secs(2));
        let finished = line.run().await;
        let upload = passed(&finished).images[0].upload.clone().expect("figures");
        assert!((1000..=1020).contains(&upload.frame_bytes), "{upload:?}");
    });
}

#[test]
fn boards_on_usb_are_followed_into_their_bootloader_and_back_under_other_ids() {
    for starts in [false, true] {
        in_virtual_time(async {
            let recovery = RecoverySpec { starts, ..RecoverySpec::default() };
            let bus = Bus::new(&SimSpec { count: 6, ..spec(recovery) }, Shows::board);
            let mut line = usb::line(6);
            let target = &mut line.plan.targets[0];
            target.matcher.bootloader_usb = Some(usb::pattern("2fe3:0100"));
            target.steps = if starts { vec![upload(), reset()] } else { steps() };
            target.starts_in = if starts { Firmware::Bootloader } else { Firmware::Application };
            for changed in [true, false] {
                let finished = usb::run(&line, &bus).await;
                assert_eq!(
                    finished.outcome,
                    Outcome::Passed,
                    "{starts}: {:?}",
                    finished.report.devices[0].cause
                );
                assert!((0..6).all(|index| runs_new_image(&bus.device(index))));
                assert!(
                    finished.report.devices.iter().all(|device| device.changed == Some(changed)),
                    "{starts}"
                );
            }
        });
    }
}

/// As a real MCUboot that loads into RAM does it (`tests/interop/fleet_recovery.rs`).
#[test]
fn where_the_higher_version_boots_the_primary_slot_need_not_be_what_runs() {
    let image = |version: &str, flags| {
        let bytes = ImageBuilder::new().version(version).flags(flags).payload(&[7; 5000]).build();
        Arc::new(Image::from_bytes(bytes).expect("a valid image"))
    };
    for (version, flags, code) in [
        ("2.0.0", Flags::RAM_LOAD, "image.other_runs"),
        ("4.0.0", Flags::RAM_LOAD, ""),
        ("4.0.0", Flags::default(), "image.not_accepted"),
    ] {
        in_virtual_time(async {
            let mut line = line(&SimSpec { mode: BootMode::RamLoad, ..spec(RecoverySpec::default()) });
            line.device(0).program(1, image("3.0.0", Flags::RAM_LOAD).bytes());
            line.device(0).reset_line();
            let new = image(version, flags);
            line.plan.images.insert("app".to_owned(), Arc::new(new.into()));
            let finished = line.run().await;
            assert_eq!(finished.code(0), code, "{version} {:?}", finished.report.devices[0].cause);
        });
    }
}
