//! How figures and devices are written for people: bytes, rates, times, versions. Used by summary, display and HTML.

use indicatif::DecimalBytes;

use super::event::ImageView;

/// Characters of a hash that people compare.
const SHORT_HASH: usize = 12;

/// `1.25 MB`.
pub(super) fn bytes(count: u64) -> String {
    DecimalBytes(count).to_string()
}

/// `12.50 kB/s`.
pub(super) fn rate(bytes_per_s: f64) -> String {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates; for people only")]
    let whole = bytes_per_s.round() as u64;
    format!("{}/s", bytes(whole))
}

/// `850 ms`, `12.3 s`, `2 min 5 s`, `1 h 4 min`.
pub(super) fn seconds(seconds: f64) -> String {
    let seconds = super::normalise::finite(seconds);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates; for people only")]
    let whole = seconds.round() as u64;
    match seconds {
        s if s < 0.9995 => format!("{:.0} ms", s * 1e3),
        s if s < 59.95 => format!("{s:.1} s"),
        _ if whole < 3600 => format!("{} min {} s", whole / 60, whole % 60),
        _ => format!("{} h {} min", whole / 3600, whole % 3600 / 60),
    }
}

/// `2.0.0 (1f2e3d4c5b6a)`, for where versions alone do not tell images apart.
pub(super) fn image(view: &ImageView) -> String {
    match &view.hash {
        Some(hash) => {
            let short: String = hash.chars().take(SHORT_HASH).collect();
            format!("{} ({short})", view.version)
        }
        None => view.version.clone(),
    }
}

/// `1 device`, `2 devices`.
pub(super) fn count(number: usize, noun: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {noun}{plural}")
}

/// One line without control characters: what a device says must not steer a person's terminal.
pub(super) fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_short() {
        let cases = [
            (0.0, "0 ms"),
            (0.85, "850 ms"),
            (0.9999, "1.0 s"),
            (12.34, "12.3 s"),
            (59.96, "1 min 0 s"),
            (125.0, "2 min 5 s"),
            (3599.6, "1 h 0 min"),
            (3840.0, "1 h 4 min"),
            (f64::NAN, "0 ms"),
        ];
        for (figure, text) in cases {
            assert_eq!(seconds(figure), text);
        }
    }

    #[test]
    fn terminal_sequences_lose_their_power() {
        assert_eq!(printable("a\u{1b}[2Jb\nc\u{9b}d"), "a [2Jb c d");
    }
}
