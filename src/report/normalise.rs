//! What every event is brought to before it is written and counted, so that the log reads back as exactly what was
//! counted. Nothing here decides anything.

use super::event::{EventKind, ImageOutcome, StepDetail, StepFinished, UploadFigures};
use crate::cause::Cause;

/// Longest text of one field, in bytes. What a device or a program prints is cut here, so that no event grows past
/// [`MAX_LINE`](super::log::MAX_LINE).
pub const MAX_TEXT: usize = 16 * 1024;

/// Most notes that one step keeps.
const MAX_STEP_NOTES: usize = 16;

impl EventKind {
    /// The same event with finite figures (JSON has no NaN) rounded to a millionth, and texts of at most
    /// [`MAX_TEXT`] bytes.
    #[must_use]
    pub fn normalised(mut self) -> Self {
        match &mut self {
            Self::StepFinished(step) => normalise_step(step),
            Self::DeviceFinished { cause, images, duration_s, .. } => {
                *duration_s = finite(*duration_s);
                cause.iter_mut().for_each(normalise_cause);
                images.iter_mut().for_each(normalise_image);
            }
            Self::RunFinished { cause, duration_s, .. } => {
                *duration_s = finite(*duration_s);
                cause.iter_mut().for_each(normalise_cause);
            }
            Self::TargetUnmet { cause, .. } | Self::StepRetried { cause, .. } => normalise_cause(cause),
            Self::Note { message, .. } => shorten(message),
            Self::RunStarted { .. }
            | Self::DeviceFound { .. }
            | Self::DeviceStarted { .. }
            | Self::StepStarted { .. }
            | Self::Progress { .. } => {}
        }
        self
    }
}

fn normalise_step(step: &mut StepFinished) {
    let StepFinished { duration_s, cause, detail, .. } = step;
    *duration_s = finite(*duration_s);
    cause.iter_mut().for_each(normalise_cause);
    let StepDetail { skipped, upload, output, notes, running: _, left: _ } = detail;
    upload.iter_mut().for_each(normalise_upload);
    skipped.iter_mut().chain(output.iter_mut()).chain(notes.iter_mut()).for_each(shorten);
    if notes.len() > MAX_STEP_NOTES {
        let more = notes.len() - MAX_STEP_NOTES;
        notes.truncate(MAX_STEP_NOTES);
        notes.push(format!("… and {more} more notes"));
    }
}

fn normalise_image(image: &mut ImageOutcome) {
    image.upload.iter_mut().for_each(normalise_upload);
}

fn normalise_upload(upload: &mut UploadFigures) {
    upload.duration_s = finite(upload.duration_s);
    upload.bytes_per_s = finite(upload.bytes_per_s);
    upload.link_limit_bytes_per_s =
        upload.link_limit_bytes_per_s.filter(|limit| limit.is_finite()).map(finite);
    upload.diagnosis.iter_mut().for_each(|diagnosis| diagnosis.normalise());
}

fn normalise_cause(cause: &mut Cause) {
    shorten(&mut cause.message);
    shorten(&mut cause.help);
}

/// A figure that JSON can carry: not finite or negative becomes 0, the rest is rounded to a millionth.
pub(super) fn finite(figure: f64) -> f64 {
    if !figure.is_finite() || figure <= 0.0 {
        return 0.0;
    }
    let rounded = (figure * 1e6).round() / 1e6;
    // Figures near the end of the range overflow in between.
    if rounded.is_finite() { rounded } else { figure }
}

fn shorten(text: &mut String) {
    if text.len() <= MAX_TEXT {
        return;
    }
    let end = text.floor_char_boundary(MAX_TEXT);
    let more = text.len() - end;
    text.truncate(end);
    text.push_str(&format!("… ({more} bytes more)"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_that_json_cannot_carry_become_zero() {
        for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -1.0] {
            assert_eq!(finite(bad), 0.0);
        }
        assert_eq!(finite(0.1 + 0.2), 0.3);
        assert_eq!(finite(f64::MAX), f64::MAX);
    }

    #[test]
    fn long_texts_are_cut_at_a_character() {
        let mut text = "ä".repeat(MAX_TEXT);
        shorten(&mut text);
        assert!(text.len() < MAX_TEXT + 40, "{}", text.len());
        assert!(text.ends_with("bytes more)"), "{}", &text[text.len() - 40..]);
    }
}
