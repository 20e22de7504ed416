//! How long each phase waits, and how messages are filled, where links and servers are not as they should be.

use std::sync::Arc;
use std::time::Duration;

use flashfleet::image::{Image, ImageBuilder};
use flashfleet::plan::{Auto, Step};
use flashfleet::report::{Outcome, Verdict};
use flashfleet::sim::{FaultSpec, SimSpec};
use tokio::time::Instant;

use super::line::{Line, faulty, in_virtual_time, upload};

/// A line with a second image, and a step that uploads it.
fn with_other(spec: &SimSpec) -> (Line, Step) {
    let mut line = Line::new(spec);
    let bytes = ImageBuilder::new().version("3.0.0").payload(&[3; 4_000]).build();
    let other = Image::from_bytes(bytes).expect("a valid image");
    line.plan.images.insert("other".to_owned(), Arc::new(other.into()));
    let step = Step::Upload { image: "other".to_owned(), image_number: 0, upgrade_only: false, force: false };
    (line, step)
}

#[test]
fn link_with_long_round_trips_is_asked_patiently_after_a_reset_without_the_plan_saying_so() {
    in_virtual_time(async {
        // Longer both ways than a question waits by default.
        let line = Line::new(&SimSpec { latency_ms: 600, ..SimSpec::default() });
        let finished = line.run().await;
        assert_eq!(finished.outcome, Outcome::Passed, "{:?}", finished.report.devices[0].cause);
    });
}

#[test]
fn message_size_that_met_silence_is_not_tried_a_second_time() {
    in_virtual_time(async {
        let (mut line, other) = with_other(&SimSpec { line_buffers: 64, ..SimSpec::default() });
        line.plan.targets[0].link.buffer = Auto::Fixed(2048);
        line.plan.targets[0].steps = vec![other, upload()];
        let finished = line.run().await;
        assert_eq!(finished.outcome, Outcome::Passed, "{:?}", finished.report.devices[0].cause);
        let steps = &finished.report.devices[0].steps;
        let figures = |step: usize| steps[step].detail.upload.clone().expect("figures");
        assert!(steps[0].detail.notes.iter().any(|note| note.contains("in a message of 380 bytes")));
        assert!((40.0..50.0).contains(&figures(0).duration_s), "the silence costs the time of a first chunk");
        assert_eq!(steps[1].detail.notes, Vec::<String>::new());
        assert_eq!(figures(1).frame_bytes, 380);
        assert!(figures(1).duration_s < 10.0, "{:?}", figures(1));
    });
}

#[test]
fn report_says_where_the_files_hash_found_no_room() {
    in_virtual_time(async {
        for (buffer, told) in [(100, true), (104, false)] {
            let mut line = Line::new(&SimSpec::default());
            line.plan.targets[0].link.buffer = Auto::Fixed(buffer);
            let finished = line.run().await;
            let device = &finished.report.devices[0];
            assert_eq!(finished.outcome, Outcome::Passed, "{:?}", device.cause);
            let said =
                device.steps[0].detail.notes.iter().any(|note| note.contains("no room for the file's"));
            assert_eq!(said, told, "{buffer}: {:?}", device.steps[0].detail.notes);
        }
    });
}

#[test]
fn every_phase_ends_at_the_devices_deadline() {
    let deadline = Duration::from_secs(20);
    let at = |fault: FaultSpec, step: usize, erase: bool| {
        in_virtual_time(async {
            let (mut line, other) = with_other(&SimSpec { swap_ms: 0, ..faulty(fault) });
            line.plan.policy.deadline = deadline;
            if erase {
                line.plan.targets[0].steps.insert(0, other);
            }
            let start = Instant::now();
            let finished = line.run().await;
            let took = start.elapsed();
            let device = &finished.report.devices[0];
            assert_eq!(device.verdict, Verdict::TimedOut, "{:?}", device.cause);
            assert_eq!(device.steps.iter().position(|step| step.verdict.is_none()), Some(step + 1));
            assert!((deadline..deadline + Duration::from_secs(4)).contains(&took), "{took:?}");
        });
    };
    // The second upload erases what the first one wrote.
    at(FaultSpec { slow_erase_ms: 60_000, ..FaultSpec::default() }, 1, true);
    at(FaultSpec { hang_at_byte: Some(6_000), ..FaultSpec::default() }, 0, false);
    at(FaultSpec { hang_on_test_boot: true, ..FaultSpec::default() }, 1, false);
}
