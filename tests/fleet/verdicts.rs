//! Devices that fail: the verdict must be the truth of the device, and never a pass.

use std::time::Duration;

use flashfleet::report::{Outcome, Verdict};
use flashfleet::sim::{FaultSpec, Power, SimSpec};

use super::line::{Finished, Line, faulty, in_virtual_time, new_image};

fn run_one(fault: FaultSpec) -> (Finished, Line) {
    in_virtual_time(async {
        let line = Line::new(&faulty(fault));
        (line.run().await, line)
    })
}

fn expect_code(fault: FaultSpec, verdict: Verdict, code: &str) -> (Finished, Line) {
    let (finished, line) = run_one(fault);
    assert_eq!(
        (finished.verdicts()[0], finished.code(0).as_str()),
        (verdict, code),
        "{:?}",
        finished.report.devices[0].cause
    );
    assert_eq!(finished.outcome, Outcome::NotPassed);
    (finished, line)
}

#[test]
fn an_image_that_crashes_in_its_test_boot_is_reverted_and_the_old_one_lives() {
    let (_, line) = expect_code(
        FaultSpec { crash_on_test_boot: true, ..FaultSpec::default() },
        Verdict::Failed,
        "image.reverted",
    );
    let truth = line.device(0).running().expect("the old firmware runs");
    assert_eq!((truth.version.as_str(), truth.confirmed), ("1.0.0", true));
}

#[test]
fn an_image_that_hangs_never_returns_until_the_reset_line_is_pulled() {
    in_virtual_time(async {
        let line = Line::new(&faulty(FaultSpec { hang_on_test_boot: true, ..FaultSpec::default() }));
        let finished = line.run().await;
        assert_eq!(
            (finished.verdicts()[0], finished.code(0).as_str()),
            (Verdict::Failed, "device.never_returned")
        );
        assert_eq!(line.device(0).boots(), 1, "it was reset once and left alone");
        line.device(0).reset_line();
        tokio::time::sleep(Duration::from_secs(10)).await;
        assert_eq!(line.device(0).running().expect("it runs").version, "1.0.0");
    });
}

#[test]
fn an_image_without_smp_never_returns() {
    let (_, line) = expect_code(
        FaultSpec { mute_on_test_boot: true, ..FaultSpec::default() },
        Verdict::Failed,
        "device.never_returned",
    );
    assert_eq!(line.device(0).power(), Power::Mute);
}

#[test]
fn a_bootloader_that_does_not_swap_leaves_it_pending_or_reverted_and_never_passed() {
    let (finished, _) = run_one(FaultSpec { ignore_swap: true, ..FaultSpec::default() });
    assert_eq!(finished.verdicts()[0], Verdict::Failed, "{:?}", finished.report.devices[0].cause);
}

#[test]
fn a_reset_that_is_answered_and_ignored_is_swap_pending() {
    let (_, line) = expect_code(
        FaultSpec { ignore_reset: true, ..FaultSpec::default() },
        Verdict::Failed,
        "device.swap_pending",
    );
    assert_eq!(line.device(0).boots(), 0);
}

#[test]
fn a_hash_that_reads_back_wrong_is_never_a_pass() {
    let (finished, _) = run_one(FaultSpec { wrong_hash: true, ..FaultSpec::default() });
    assert_eq!(finished.verdicts()[0], Verdict::Failed, "{:?}", finished.report.devices[0].cause);
}

#[test]
fn a_confirm_that_does_not_hold_is_found() {
    expect_code(
        FaultSpec { forget_confirm: true, ..FaultSpec::default() },
        Verdict::Failed,
        "image.confirm_not_held",
    );
}

#[test]
fn a_lost_reset_answer_costs_no_second_reset() {
    let (finished, line) = run_one(FaultSpec { lose_reset_answer: true, ..FaultSpec::default() });
    assert_eq!(finished.outcome, Outcome::Passed, "{:?}", finished.report.devices[0].cause);
    assert_eq!(line.device(0).boots(), 2, "one to test, one at the end");
}

#[test]
fn a_lost_last_upload_answer_is_resolved_from_the_list() {
    let (finished, line) = run_one(FaultSpec { lose_last_upload_answer: true, ..FaultSpec::default() });
    assert_eq!(finished.outcome, Outcome::Passed, "{:?}", finished.report.devices[0].cause);
    let notes = &finished.report.devices[0].steps[0].detail.notes;
    assert!(notes.iter().any(|note| note.contains("the image list shows")), "{notes:?}");
    assert_eq!(line.device(0).running().expect("it runs").hash, new_image().hash());
}

#[test]
fn lossy_links_end_with_the_right_image_for_every_seed() {
    for seed in 0..12 {
        for (lose, corrupt) in [(0.05, 0.0), (0.0, 0.05), (0.01, 0.01)] {
            let (finished, line) = run_one(FaultSpec { seed, lose, corrupt, ..FaultSpec::default() });
            let cause = &finished.report.devices[0].cause;
            assert_eq!(
                finished.outcome,
                Outcome::Passed,
                "seed {seed}, {lose} lost, {corrupt} corrupt: {cause:?}"
            );
            // A last reset that was itself lost leaves nothing to see: then the report has to say so.
            let told = finished.report.devices[0].steps[3]
                .detail
                .notes
                .iter()
                .any(|note| note.contains("never answered"));
            let boots = line.device(0).boots();
            assert!(boots == 2 || (boots == 1 && told), "seed {seed}: {boots} boots, told: {told}");
        }
    }
}

#[test]
fn duplicated_and_late_answers_are_nobodys() {
    for seed in 0..8 {
        let fault = FaultSpec { seed, duplicate: 0.2, delay: 0.1, delay_ms: 4_000, ..FaultSpec::default() };
        let (finished, line) = run_one(fault);
        assert_eq!(finished.outcome, Outcome::Passed, "seed {seed}: {:?}", finished.report.devices[0].cause);
        assert_eq!(line.device(0).running().expect("it runs").hash, new_image().hash());
    }
}

#[test]
fn a_part_that_wedges_on_early_bytes_is_left_in_peace() {
    in_virtual_time(async {
        let spec = SimSpec {
            boot_ms: 3_000,
            ..faulty(FaultSpec { wedge_on_early_bytes: true, ..FaultSpec::default() })
        };
        let mut line = Line::new(&spec);
        line.plan.targets[0].link.quiet = Duration::from_secs(8);
        let finished = line.run().await;
        assert_eq!(finished.outcome, Outcome::Passed, "{:?}", finished.report.devices[0].cause);
    });
}

#[test]
fn a_device_that_vanishes_for_ever_in_mid_upload_is_an_error_of_the_link() {
    in_virtual_time(async {
        let fault = FaultSpec { only: vec![2], vanish_at_byte: Some(5_000), ..FaultSpec::default() };
        let line = Line::new(&SimSpec { count: 3, fault, ..SimSpec::default() });
        let finished = line.run().await;
        assert_eq!(finished.verdicts(), [Verdict::Passed, Verdict::Error, Verdict::Passed]);
        assert!(finished.code(1).starts_with("link."), "{}", finished.code(1));
        assert_eq!(finished.report.devices[1].changed, Some(true), "bytes were written");
    });
}

#[test]
fn a_device_that_vanishes_and_comes_back_is_tried_again_and_passes() {
    in_virtual_time(async {
        let fault = FaultSpec { vanish_at_byte: Some(5_000), vanish_ms: Some(2_000), ..FaultSpec::default() };
        let mut line = Line::new(&faulty(fault));
        line.plan.policy.attempts = 3;
        let finished = line.run().await;
        assert_eq!(finished.outcome, Outcome::Passed, "{:?}", finished.report.devices[0].cause);
        assert!(finished.report.devices[0].attempts > 1);
        assert_eq!(line.device(0).running().expect("it runs").hash, new_image().hash());
    });
}

#[test]
fn a_native_usb_port_that_goes_with_the_reset_is_found_again() {
    in_virtual_time(async {
        let line = Line::new(&SimSpec { count: 2, vanishes_in_reset: true, ..SimSpec::default() });
        let finished = line.run().await;
        assert_eq!(finished.outcome, Outcome::Passed, "{:?}", finished.report.devices[0].cause);
        let left =
            finished.report.devices[0].steps.iter().filter_map(|step| step.detail.left).collect::<Vec<_>>();
        assert_eq!(left, [flashfleet::report::Departure::Gone; 2]);
    });
}

#[test]
fn an_image_larger_than_the_slot_is_refused_and_not_a_byte_is_written() {
    in_virtual_time(async {
        let line = Line::new(&SimSpec { slot_size: 8 * 1024, ..SimSpec::default() });
        let finished = line.run().await;
        assert_eq!((finished.verdicts()[0], finished.code(0).as_str()), (Verdict::Failed, "image.too_large"));
        assert_eq!(line.device(0).bytes_written(), 0);
        assert_eq!(finished.report.devices[0].changed, Some(false));
    });
}
