//! Runs in which everything works: what is passed is what the devices themselves say.

use std::time::Duration;

use flashfleet::plan::Step;
use flashfleet::report::{EventKind, Outcome, Verdict};
use flashfleet::sim::{BootMode, SimSpec};
use tokio::time::Instant;

use super::line::{Line, in_virtual_time, new_image, reset, upload};

#[test]
fn eight_devices_run_the_new_image_confirmed_and_after_one_more_reset() {
    in_virtual_time(async {
        let line = Line::new(&SimSpec { count: 8, ..SimSpec::default() });
        let finished = line.run().await;
        assert_eq!(finished.outcome, Outcome::Passed);
        assert_eq!(finished.verdicts(), [Verdict::Passed; 8]);
        for (index, device) in finished.report.devices.iter().enumerate() {
            let truth = line.device(index).running().expect("it runs");
            assert!(truth.confirmed, "device {index}");
            assert_eq!(truth.hash, new_image().hash(), "device {index}");
            assert_eq!(line.device(index).boots(), 2, "one reset to test, one to see that it stays");
            let after = device.images[0].after.as_ref().expect("read back");
            assert_eq!(after.hash.as_deref(), Some(hex::encode(&truth.hash).as_str()));
            assert_eq!(device.changed, Some(true));
        }
    });
}

#[test]
fn the_same_run_again_changes_nothing() {
    in_virtual_time(async {
        let line = Line::new(&SimSpec { count: 4, ..SimSpec::default() });
        assert_eq!(line.run().await.outcome, Outcome::Passed);
        let before: Vec<_> =
            (0..4).map(|index| (line.device(index).boots(), line.device(index).bytes_written())).collect();
        let again = line.run().await;
        assert_eq!(again.outcome, Outcome::Passed);
        assert_eq!(again.report.summary.already_current, 4);
        assert!(again.report.devices.iter().all(|device| device.changed == Some(false)));
        let after: Vec<_> =
            (0..4).map(|index| (line.device(index).boots(), line.device(index).bytes_written())).collect();
        assert_eq!(before, after, "not a byte written, not a reset sent");
    });
}

#[test]
fn without_confirm_the_report_says_on_test_and_the_next_reset_reverts() {
    in_virtual_time(async {
        let mut line = Line::new(&SimSpec::default());
        line.plan.targets[0].steps = vec![upload(), Step::TestBoot];
        let finished = line.run().await;
        assert_eq!(finished.outcome, Outcome::Passed);
        assert!(finished.report.devices[0].on_test);
        line.device(0).reset_line();
        tokio::time::sleep(Duration::from_secs(10)).await;
        let truth = line.device(0).running().expect("it runs");
        assert_eq!((truth.version.as_str(), truth.confirmed), ("1.0.0", true));
    });
}

#[test]
fn a_test_left_by_an_earlier_run_is_confirmed_without_another_upload() {
    in_virtual_time(async {
        let mut line = Line::new(&SimSpec::default());
        line.plan.targets[0].steps = vec![upload(), Step::TestBoot];
        line.run().await;
        let written = line.device(0).bytes_written();
        line.plan.targets[0].steps = super::line::default_steps();
        assert_eq!(line.run().await.outcome, Outcome::Passed);
        assert_eq!(line.device(0).bytes_written(), written);
        assert!(line.device(0).running().expect("it runs").confirmed);
    });
}

#[test]
fn every_mode_that_can_be_proven_passes() {
    for mode in [BootMode::SwapOffset, BootMode::SwapMove, BootMode::SwapScratch, BootMode::Overwrite] {
        in_virtual_time(async {
            let line = Line::new(&SimSpec { mode, ..SimSpec::default() });
            let finished = line.run().await;
            assert_eq!(finished.outcome, Outcome::Passed, "{mode:?}: {:?}", finished.report.devices[0].cause);
        });
    }
}

#[test]
fn a_server_without_params_gets_messages_of_a_safe_size() {
    in_virtual_time(async {
        let line = Line::new(&SimSpec { params: false, bootloader_info: false, ..SimSpec::default() });
        let finished = line.run().await;
        assert_eq!(finished.outcome, Outcome::Passed, "{:?}", finished.report.devices[0].cause);
        let upload = finished.report.devices[0].images[0].upload.as_ref().expect("figures");
        assert!(upload.frame_bytes <= 252, "{upload:?}");
    });
}

#[test]
fn buffers_are_filled_to_the_last_byte_and_never_beyond() {
    for buf_size in [256, 384, 512, 1024, 2048] {
        in_virtual_time(async {
            let line = Line::new(&SimSpec { buf_size, line_buffers: 64, ..SimSpec::default() });
            let finished = line.run().await;
            assert_eq!(
                finished.outcome,
                Outcome::Passed,
                "{buf_size}: {:?}",
                finished.report.devices[0].cause
            );
            let upload = finished.report.devices[0].images[0].upload.as_ref().expect("figures");
            assert_eq!(
                upload.frame_bytes,
                u64::from(buf_size) - 4,
                "length and CRC take four bytes of the buffer"
            );
        });
    }
}

#[test]
fn buffers_too_small_for_an_image_list_prove_nothing_and_are_told_as_such() {
    in_virtual_time(async {
        let line = Line::new(&SimSpec { buf_size: 96, ..SimSpec::default() });
        let finished = line.run().await;
        assert_eq!(
            (finished.verdicts()[0], finished.code(0).as_str()),
            (Verdict::Failed, "smp.mgmt.message_too_large")
        );
    });
}

#[test]
fn sixty_four_paced_devices_take_as_long_as_one() {
    let virtual_seconds = |count| {
        in_virtual_time(async move {
            let line = Line::new(&SimSpec { count, baud: Some(115_200), ..SimSpec::default() });
            let start = Instant::now();
            assert_eq!(line.run().await.outcome, Outcome::Passed);
            start.elapsed().as_secs_f64()
        })
    };
    let (one, many) = (virtual_seconds(1), virtual_seconds(64));
    assert!(many < one * 1.05, "one takes {one} s, 64 take {many} s");
}

#[test]
fn verify_delay_and_erase_do_what_they_say() {
    in_virtual_time(async {
        let mut line = Line::new(&SimSpec { mode: BootMode::SwapScratch, ..SimSpec::default() });
        line.plan.targets[0].steps.extend([
            Step::Verify {
                version: Some("=2.0.0".parse().expect("a requirement")),
                hash: Some(new_image().hash().to_vec()),
                confirmed: Some(true),
                echo: Some("hello".to_owned()),
            },
            Step::Delay(Duration::from_secs(3)),
            Step::Erase { slot: 1 },
            reset(),
        ]);
        let start = Instant::now();
        let finished = line.run().await;
        assert_eq!(finished.outcome, Outcome::Passed, "{:?}", finished.report.devices[0].cause);
        assert!(start.elapsed() > Duration::from_secs(3));
        assert_eq!(line.device(0).slot(1).version, None, "slot 1 is empty");
    });
}

#[test]
fn events_are_ordered_and_carry_their_figures() {
    in_virtual_time(async {
        let line = Line::new(&SimSpec { count: 3, baud: Some(1_000_000), ..SimSpec::default() });
        let finished = line.run().await;
        let in_order = finished.events.iter().enumerate().all(|(index, event)| event.seq == index as u64);
        assert!(in_order, "seq counts without a gap");
        assert!(
            matches!(&finished.events[0].kind, EventKind::RunStarted { schema, .. } if schema == "flashfleet.events/1")
        );
        assert!(matches!(finished.events.last().expect("events").kind, EventKind::RunFinished { .. }));
        assert!(finished.events.iter().any(|event| matches!(event.kind, EventKind::Progress { .. })));
        for device in &finished.report.devices {
            let upload = device.images[0].upload.as_ref().expect("figures");
            assert_eq!(upload.bytes, new_image().bytes().len() as u64);
            assert!(
                upload.link_limit_bytes_per_s.is_some_and(|limit| upload.bytes_per_s < limit),
                "{upload:?}"
            );
        }
    });
}

#[test]
fn progress_belongs_to_the_step_that_makes_it_and_grows() {
    in_virtual_time(async {
        let mut line = Line::new(&SimSpec { baud: Some(115_200), ..SimSpec::default() });
        line.plan.targets[0].steps = vec![Step::Delay(Duration::from_millis(1)), upload()];
        let finished = line.run().await;
        let (mut open, mut last, mut told) = (None, 0, 0);
        for event in &finished.events {
            match &event.kind {
                EventKind::StepStarted { step, .. } => open = Some(*step),
                EventKind::StepFinished(_) => open = None,
                EventKind::Progress { step, done, total } => {
                    assert_eq!((open, *step), (Some(1), 1), "the upload is the second step");
                    assert!(*done >= last && *total == new_image().bytes().len() as u64, "{done} of {total}");
                    (last, told) = (*done, told + 1);
                }
                _ => {}
            }
        }
        assert_eq!(last, new_image().bytes().len() as u64, "the last one is whole");
        assert!(told > 2, "{told}");
    });
}
