//! Progress as bars: a block of running devices that never grows beyond the screen, a line per finished device above
//! it, an overall bar below it.

use std::collections::VecDeque;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::lines;
use super::tracker::{Running, Tracker};
use crate::report::event::{DeviceId, Event, EventKind};
use crate::report::text;

/// Most devices that have a bar of their own.
const MAX_ROWS: usize = 12;

/// Drawn at most this often per second, whatever happens.
const REFRESH_HZ: u8 = 10;

/// The block of bars.
#[derive(Debug)]
pub(super) struct Bars {
    multi: MultiProgress,
    overall: ProgressBar,
    rows: Vec<Row>,
    max_rows: usize,
    /// Columns of the screen, where it is not standard error that tells.
    fixed_width: Option<u16>,
    /// Running devices without a bar, by their start.
    waiting: VecDeque<DeviceId>,
}

#[derive(Debug)]
struct Row {
    device: DeviceId,
    bar: ProgressBar,
}

impl Bars {
    /// On standard error.
    pub(super) fn new() -> Self {
        let height = usize::from(console::Term::stderr().size().0);
        // Two lines are left for the overall bar and the line that was printed last.
        Self::on_target(
            ProgressDrawTarget::stderr_with_hz(REFRESH_HZ),
            height.saturating_sub(2).clamp(1, MAX_ROWS),
            None,
        )
    }

    fn on_target(target: ProgressDrawTarget, max_rows: usize, fixed_width: Option<u16>) -> Self {
        let multi = MultiProgress::with_draw_target(target);
        let overall = multi.add(ProgressBar::new(0));
        overall.set_style(style("{elapsed_precise} [{wide_bar:.cyan}] {pos}/{len} devices{msg}"));
        Self { multi, overall, rows: Vec::new(), max_rows, fixed_width, waiting: VecDeque::new() }
    }

    /// Columns of the screen at this moment: a window may have been made narrower.
    fn width(&self) -> usize {
        self.fixed_width.unwrap_or_else(|| console::Term::stderr().size().1).into()
    }

    pub(super) fn on(&mut self, event: &Event, ended: Option<&Running>, tracker: &Tracker, colours: bool) {
        match (&event.kind, &event.device) {
            (EventKind::DeviceFound { .. }, _) => self.overall.set_length(tracker.found as u64),
            (EventKind::DeviceStarted { .. }, Some(device)) => self.start(device, tracker),
            (EventKind::StepStarted { .. }, Some(device)) => {
                if let Some(row) = self.rows.iter().find(|row| row.device == *device) {
                    describe(&row.bar, device, tracker, self.width());
                }
            }
            (EventKind::DeviceFinished { .. }, Some(device)) => {
                if let Some(line) = ended.and_then(|ended| lines::finished(ended, &event.kind, colours)) {
                    let _ = self.multi.println(line);
                }
                self.end(device, tracker);
            }
            (EventKind::TargetUnmet { target, expected, found, .. }, _) => {
                let _ = self.multi.println(format!("target {target}: expected {expected}, found {found}"));
            }
            (EventKind::Note { message, .. }, _) => {
                let _ = self.multi.println(format!("note: {}", text::printable(message)));
            }
            _ => {}
        }
    }

    pub(super) fn progress(&self, device: &DeviceId, done: u64, total: u64) {
        if let Some(row) = self.rows.iter().find(|row| row.device == *device) {
            row.bar.set_length(total);
            row.bar.set_position(done);
        }
    }

    /// Draws everything anew: times go on, and what came too fast to be drawn is caught up with.
    pub(super) fn tick(&self) {
        self.rows.iter().for_each(|row| row.bar.tick());
        self.overall.tick();
    }

    /// Takes everything off the screen but the lines that were printed.
    pub(super) fn clear(&self) {
        self.overall.finish_and_clear();
        self.rows.iter().for_each(|row| row.bar.finish_and_clear());
        let _ = self.multi.clear();
    }

    fn start(&mut self, device: &DeviceId, tracker: &Tracker) {
        let known = self.rows.iter().any(|row| row.device == *device) || self.waiting.contains(device);
        if !known {
            self.waiting.push_back(device.clone());
        }
        self.fill(tracker);
    }

    fn end(&mut self, device: &DeviceId, tracker: &Tracker) {
        self.overall.set_position(tracker.finished as u64);
        if let Some(at) = self.rows.iter().position(|row| row.device == *device) {
            let row = self.rows.remove(at);
            row.bar.finish_and_clear();
            self.multi.remove(&row.bar);
        } else {
            self.waiting.retain(|waiting| waiting != device);
        }
        self.fill(tracker);
    }

    /// Gives free rows to those that wait longest.
    fn fill(&mut self, tracker: &Tracker) {
        while self.rows.len() < self.max_rows {
            let Some(device) = self.waiting.pop_front() else { break };
            let bar = self.multi.insert_before(&self.overall, ProgressBar::new(0));
            describe(&bar, &device, tracker, self.width());
            self.rows.push(Row { device, bar });
        }
        let more = self.waiting.len();
        self.overall.set_message(match (more, tracker.not_passed) {
            (0, 0) => String::new(),
            (0, bad) => format!(", {bad} not passed"),
            (more, 0) => format!(", {more} more running"),
            (more, bad) => format!(", {more} more running, {bad} not passed"),
        });
    }
}

/// Columns that a row with everything needs at most, and one without a bar.
const WIDE: usize = 114;
const MIDDLE: usize = 78;

/// Puts name, step and state of a device on its bar.
fn describe(bar: &ProgressBar, device: &DeviceId, tracker: &Tracker, width: usize) {
    let Some(running) = tracker.get(device) else { return };
    let moves = running.step.starts_with("upload") || running.total > 0;
    // First, so that nothing is drawn with the last step's style.
    bar.set_style(style(&template(width, moves)));
    bar.set_prefix(running.title.clone());
    bar.set_message(running.step.clone());
    bar.reset();
    bar.set_length(running.total);
    bar.set_position(running.done);
    // The draws above may have come too fast to be shown, and the next one is a second away.
    bar.force_draw();
}

/// What a row shows: less on a narrow screen, as a row that takes two lines is left behind when it is drawn anew.
fn template(width: usize, moves: bool) -> String {
    let narrow = width.saturating_sub(10).max(1);
    match (moves, width) {
        (true, WIDE..) => "  {prefix:28!} {msg:16!} [{bar:20}] {decimal_bytes}/{decimal_total_bytes}  \
                           {decimal_bytes_per_sec}  {eta} left"
            .to_owned(),
        (true, MIDDLE..) => {
            "  {prefix:28!} {msg:16!} {percent:>3}%  {decimal_bytes_per_sec}  {eta} left".to_owned()
        }
        (true, _) => format!("  {{prefix:{narrow}!}} {{percent:>3}}%"),
        (false, MIDDLE..) => "  {prefix:28!} {msg:16!} {elapsed}".to_owned(),
        (false, _) => format!("  {{prefix:{narrow}!}} {{elapsed}}"),
    }
}

/// A style; the crate's own bar where the template were wrong, which a test rules out.
fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template)
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("=> ")
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;
    use indicatif::InMemoryTerm;

    use super::*;
    use crate::identity::Identity;
    use crate::report::event::{PlannedStep, Verdict};

    const HEIGHT: u16 = 24;

    struct Stage {
        term: InMemoryTerm,
        bars: Bars,
        tracker: Tracker,
        seq: u64,
    }

    impl Stage {
        fn new() -> Self {
            Self::of_width(120)
        }

        fn of_width(width: u16) -> Self {
            let term = InMemoryTerm::new(HEIGHT, width);
            let target = ProgressDrawTarget::term_like_with_hz(Box::new(term.clone()), u8::MAX);
            let bars = Bars::on_target(target, MAX_ROWS, Some(width));
            Self { bars, term, tracker: Tracker::default(), seq: 0 }
        }

        fn tell(&mut self, device: usize, kind: EventKind) {
            let at = DateTime::UNIX_EPOCH;
            let event = Event { seq: self.seq, at, device: Some(DeviceId(format!("d{device}"))), kind };
            self.seq += 1;
            let ended = self.tracker.on(&event);
            self.bars.on(&event, ended.as_ref(), &self.tracker, false);
        }

        fn start(&mut self, device: usize) {
            let (target, address) = ("rack".to_owned(), format!("sim:{device}"));
            let steps = vec![PlannedStep { name: "upload app".to_owned() }];
            self.tell(
                device,
                EventKind::DeviceFound {
                    target,
                    address,
                    identity: Identity::default(),
                    steps,
                    carried_from: None,
                },
            );
            self.tell(device, EventKind::DeviceStarted { attempt: 1 });
            self.tell(device, EventKind::StepStarted { step: 0, name: "upload app".to_owned() });
        }

        fn finish(&mut self, device: usize, verdict: Verdict) {
            self.tell(
                device,
                EventKind::DeviceFinished {
                    verdict,
                    changed: Some(true),
                    cause: None,
                    attempts: 1,
                    images: Vec::new(),
                    on_test: false,
                    duration_s: 1.0,
                },
            );
        }

        fn screen(&self) -> String {
            // Drawing is allowed every few milliseconds: wait until each row may be drawn once.
            std::thread::sleep(std::time::Duration::from_millis(60));
            self.bars.tick();
            self.term.contents()
        }
    }

    #[test]
    fn the_block_never_grows_beyond_its_cap() {
        let mut stage = Stage::new();
        (0..1000).for_each(|device| stage.start(device));
        assert_eq!(stage.bars.rows.len(), MAX_ROWS);
        let screen = stage.screen();
        assert_eq!(screen.lines().filter(|line| line.contains("upload app")).count(), MAX_ROWS, "{screen}");
        assert!(screen.contains("0/1000 devices, 988 more running"), "{screen}");
    }

    #[test]
    fn a_finished_device_leaves_its_line_and_its_row() {
        let mut stage = Stage::new();
        (0..MAX_ROWS + 1).for_each(|device| stage.start(device));
        stage.finish(0, Verdict::Passed);
        stage.finish(1, Verdict::Failed);
        let screen = stage.screen();
        assert!(screen.contains("passed    rack sim:0  1.0 s"), "{screen}");
        assert!(screen.contains("failed    rack sim:1  upload app:"), "{screen}");
        assert!(
            screen.lines().any(|line| line.contains("rack sim:12 ") && line.contains("upload app")),
            "the one that waited has a row now: {screen}"
        );
        assert!(screen.contains("2/13 devices, 1 not passed"), "{screen}");
        stage.bars.clear();
        let left = stage.term.contents();
        assert_eq!(left.lines().count(), 2, "only the lines stay: {left}");
    }

    #[test]
    fn a_row_tells_bytes_rate_and_time_left() {
        let mut stage = Stage::new();
        stage.start(0);
        stage.bars.progress(&DeviceId("d0".to_owned()), 500_000, 1_000_000);
        let screen = stage.screen();
        assert!(screen.contains("500.00 kB/1.00 MB"), "{screen}");
        assert!(screen.contains(" left"), "{screen}");
    }

    #[test]
    fn a_row_takes_one_line_however_narrow_the_screen_is() {
        for width in [20, 40, 60, 77, 78, 80, 100, 113, 114, 120] {
            let mut stage = Stage::of_width(width);
            (0..3).for_each(|device| stage.start(device));
            for device in 0..3 {
                stage.bars.progress(&DeviceId(format!("d{device}")), 123_450_000, 999_990_000);
            }
            let screen = stage.screen();
            let rows: Vec<&str> = screen.lines().filter(|line| line.contains("rack sim:")).collect();
            assert_eq!(rows.len(), 3, "{width} columns: {screen}");
            assert!(rows.iter().all(|row| row.contains("12%") || row.contains("123.45 MB")), "{screen}");
            let others = screen.lines().filter(|line| !line.contains("rack sim:")).count();
            assert!(others <= 1 || width < 60, "{width} columns, what is left is the overall bar: {screen}");
        }
    }

    #[test]
    fn a_new_step_is_shown_at_once_and_without_the_last_ones_bytes() {
        let mut stage = Stage::new();
        stage.start(0);
        // Until nothing more is drawn for now.
        (0..1000).for_each(|done| stage.bars.progress(&DeviceId("d0".to_owned()), done, 1_000_000));
        stage.tell(0, EventKind::StepStarted { step: 1, name: "test-boot".to_owned() });
        let screen = stage.term.contents();
        assert!(screen.contains("test-boot"), "{screen}");
        assert!(!screen.contains(" B"), "{screen}");
    }
}
