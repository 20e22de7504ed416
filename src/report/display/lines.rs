//! The line that a finished device leaves. Shared by bars and plain lines.

use console::Style;

use super::tracker::Running;
use crate::report::event::{EventKind, ImageOutcome, Verdict};
use crate::report::model::ON_TEST;
use crate::report::text;

/// Width of the longest verdict.
const VERDICT_WIDTH: usize = 9;

/// How a verdict looks; plain where there are no colours.
pub(in crate::report) fn verdict_style(verdict: Verdict, colours: bool) -> Style {
    let style = Style::new().for_stderr().force_styling(colours).bold();
    match verdict {
        Verdict::Passed => style.green(),
        Verdict::Failed | Verdict::Error | Verdict::TimedOut => style.red(),
        Verdict::Aborted => style.yellow(),
    }
}

/// `passed    sensors 1-2.3  1.0.0 → 2.0.0  12.3 s  4.50 kB/s`, or with step and cause where it did not pass. `None`
/// for any other event.
pub(super) fn finished(device: &Running, event: &EventKind, colours: bool) -> Option<String> {
    let EventKind::DeviceFinished { verdict, changed, cause, images, on_test, duration_s, .. } = event else {
        return None;
    };
    let mut line = format!(
        "{} {}",
        verdict_style(*verdict, colours).apply_to(format!("{verdict:<VERDICT_WIDTH$}")),
        device.title
    );
    if *verdict == Verdict::Passed {
        if *changed == Some(false) {
            line.push_str("  already current");
        }
        images.iter().filter_map(image_change).for_each(|change| {
            line.push_str("  ");
            line.push_str(&change);
        });
        line.push_str("  ");
        line.push_str(&text::seconds(*duration_s));
        for upload in images.iter().filter_map(|image| image.upload.as_ref()) {
            line.push_str("  ");
            line.push_str(&text::rate(upload.bytes_per_s));
        }
        if *on_test {
            line.push_str("  ");
            line.push_str(ON_TEST);
        }
    } else {
        let step = device.failed_step.as_deref().unwrap_or(&device.step);
        if !step.is_empty() {
            line.push_str("  ");
            line.push_str(step);
            line.push(':');
        }
        if let Some(cause) = cause {
            line.push_str("  ");
            line.push_str(&text::printable(&cause.to_string()));
        }
    }
    Some(line)
}

fn image_change(image: &ImageOutcome) -> Option<String> {
    let after = image.after.as_ref()?;
    let change = match &image.before {
        Some(before) if before.hash == after.hash && before.version == after.version => after.version.clone(),
        Some(before) if before.version == after.version => {
            format!("{} → {}", text::image(before), text::image(after))
        }
        Some(before) => format!("{} → {}", before.version, after.version),
        None => after.version.clone(),
    };
    Some(text::printable(&change))
}
