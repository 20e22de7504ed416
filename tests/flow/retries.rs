//! Attempts: for link and station causes only, never after the device said no, and never a second reset blindly.

use std::time::Duration;

use flashfleet::cause::{Cause, Class};
use flashfleet::flow::{Action, Directive, Flow, FlowEvent, Outcome};
use flashfleet::report::Verdict;

use super::board::{Board, Boot, config, default_steps, figures, link_failure, reset, upload, walk};

#[test]
fn a_broken_link_is_tried_again_as_often_as_the_plan_allows() {
    let mut board =
        Board { instead: vec![("upload", link_failure()), ("upload", link_failure())], ..Board::new() };
    let mut config = config(default_steps());
    config.attempts = 3;
    let walked = walk(&mut board, &config);
    assert_eq!((walked.result.verdict, walked.result.attempts, walked.retried), (Verdict::Passed, 3, 2));
    assert_eq!(walked.ended[0].attempts, 3);

    let mut board = Board { instead: vec![("upload", link_failure()); 3], ..Board::new() };
    let walked = walk(&mut board, &config);
    assert_eq!(
        (walked.result.verdict, walked.code(), walked.result.attempts),
        (Verdict::Error, "link.no_answer", 3)
    );
}

#[test]
fn what_the_device_refused_is_not_tried_again() {
    for boot in [Boot::Reverts, Boot::Hangs] {
        let mut board = Board { boot, ..Board::new() };
        let mut config = config(default_steps());
        config.attempts = 5;
        let walked = walk(&mut board, &config);
        assert_eq!((walked.result.verdict, walked.retried), (Verdict::Failed, 0), "{boot:?}");
        assert_eq!(board.resets, 1);
    }
    let refusal = Cause::new(Class::Image, "smp.img_mgmt.no_free_slot", "expected success", "look");
    let mut board = Board { instead: vec![("upload", Outcome::Failed(refusal))], ..Board::new() };
    let mut config = config(default_steps());
    config.attempts = 5;
    assert_eq!(walk(&mut board, &config).result.attempts, 1);
}

#[test]
fn a_link_that_breaks_after_a_reset_never_costs_a_second_one() {
    // The reads: look and read-back of the upload, look and marks of the test boot, its proof, look and read-back of the
    // confirm, proof of the last reset. Each is broken once, in a run of its own.
    for broken in 0..8 {
        let mut board = Board { break_read: Some(broken), ..Board::new() };
        let mut config = config(default_steps());
        config.attempts = 2;
        let walked = walk(&mut board, &config);
        assert_eq!(walked.result.verdict, Verdict::Passed, "read {broken}: {:?}", walked.result.cause);
        assert_eq!(board.resets, 2, "read {broken}");
    }
}

#[test]
fn a_reset_that_never_went_out_is_sent_by_the_next_attempt() {
    let mut board = Board { instead: vec![("reset", link_failure())], ..Board::new() };
    let mut config = config(vec![reset()]);
    let walked = walk(&mut board.clone(), &config);
    assert_eq!((walked.result.verdict, walked.code()), (Verdict::Error, "link.no_answer"));
    assert!(!walked.result.changed, "nothing went out");
    config.attempts = 2;
    let walked = walk(&mut board, &config);
    assert_eq!(walked.result.verdict, Verdict::Passed, "{:?}", walked.result.cause);
    assert_eq!((board.resets, board.trail().as_str()), (1, "reset wait reset await read"));
    assert!(walked.result.changed);
}

#[test]
fn an_attempt_after_a_reset_that_went_out_waits_as_long_as_the_first_and_sends_none() {
    let mut board = Board { break_read: Some(0), ..Board::new() };
    let mut config = config(vec![reset()]);
    config.attempts = 2;
    // Over before the look after the return is answered, so that the look's failure ends the first attempt.
    config.return_within = Duration::from_millis(50);
    let walked = walk(&mut board, &config);
    assert_eq!(walked.result.verdict, Verdict::Passed, "{:?}", walked.result.cause);
    assert_eq!((board.resets, board.trail().as_str()), (1, "reset await read wait await read"));
    let waits: Vec<_> = board
        .actions
        .iter()
        .filter_map(|action| match action {
            Action::AwaitReturn { within, .. } => Some(*within),
            _ => None,
        })
        .collect();
    assert_eq!(waits, [config.return_within; 2]);
}

#[test]
fn a_stop_lets_the_step_end_and_starts_no_other() {
    let mut board = Board::new();
    let config = config(default_steps());
    let mut flow = Flow::new(&config);
    let mut steps = Vec::new();
    let result = loop {
        match flow.next(Duration::ZERO) {
            Directive::Perform(action) => {
                let outcome = board.act(&action);
                if outcome == (Outcome::Uploaded { figures: figures(), notes: Vec::new() }) {
                    flow.stop_after_step(Cause::new(
                        Class::Station,
                        "run.interrupted",
                        "interrupted",
                        "run again",
                    ));
                }
                flow.handle(outcome);
            }
            Directive::Tell(FlowEvent::StepEnded(step)) => steps.push((step.name, step.verdict)),
            Directive::Tell(_) => {}
            Directive::Finished(result) => break result,
        }
    };
    assert_eq!(steps, [("upload app".to_owned(), Verdict::Passed)]);
    assert_eq!(result.verdict, Verdict::Aborted);
    assert!(result.changed);
    assert_eq!(board.resets, 0);
}

#[test]
fn a_stop_before_the_first_step_leaves_the_device_untouched() {
    let mut flow = Flow::new(&config(vec![upload()]));
    flow.stop_after_step(Cause::new(Class::Station, "run.interrupted", "interrupted", "run again"));
    let Directive::Finished(result) = flow.next(Duration::ZERO) else { panic!("nothing is to be done") };
    assert_eq!((result.verdict, result.changed), (Verdict::Aborted, false));
}
