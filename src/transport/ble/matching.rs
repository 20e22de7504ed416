//! Which peripheral a plan's `ble` patterns mean, and why not. Nothing is listened for here.

use super::super::matching::Mismatch;
use super::central::Advertisement;
use crate::plan::Pattern;

/// By what a peripheral matched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BleMatch {
    /// By its address: another address is another device.
    Address,
    /// By its name, which it keeps when its address changes.
    Name,
}

/// Whether one of `patterns` means this peripheral: by its name; by its address where the pattern is one; or by a pattern
/// on addresses where it advertises SMP. (`.*` must not reach for every telephone in the room.)
///
/// # Errors
/// What was expected and what the peripheral is.
pub fn matches_ble(patterns: &[Pattern], seen: &Advertisement) -> Result<BleMatch, Mismatch> {
    let is = |pattern: &Pattern| {
        is_address(pattern.as_str()) && pattern.as_str().eq_ignore_ascii_case(&seen.address)
    };
    if patterns.iter().any(is) {
        return Ok(BleMatch::Address);
    }
    if seen.name.as_ref().is_some_and(|name| patterns.iter().any(|pattern| pattern.matches(name))) {
        return Ok(BleMatch::Name);
    }
    let by_address = patterns.iter().any(|pattern| pattern.matches(&seen.address));
    if by_address && seen.smp {
        return Ok(BleMatch::Address);
    }
    let expected: Vec<&str> = patterns.iter().map(Pattern::as_str).collect();
    let expected = expected.join("` or `");
    Err(if by_address {
        Mismatch {
            key: "ble",
            expected: format!("{expected}` and an SMP service that is advertised, or `the address as it is"),
            actual: Some(seen.address.clone()),
        }
    } else {
        Mismatch {
            key: "ble",
            expected,
            actual: Some(seen.name.clone().unwrap_or_else(|| seen.address.clone())),
        }
    })
}

/// Whether a text is one address: six pairs of hexadecimal digits, or a UUID.
pub(in super::super) fn is_address(text: &str) -> bool {
    let pairs: Vec<&str> = text.split(':').collect();
    let is_pair = |pair: &&str| pair.len() == 2 && pair.bytes().all(|byte| byte.is_ascii_hexdigit());
    (pairs.len() == 6 && pairs.iter().all(is_pair))
        || (text.len() == 36 && uuid::Uuid::parse_str(text).is_ok())
}

/// An address as `Advertisement` writes it.
pub(in super::super) fn normal(address: &str) -> String {
    address.to_ascii_uppercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(address: &str, name: Option<&str>, smp: bool) -> Advertisement {
        Advertisement { address: address.to_owned(), name: name.map(str::to_owned), rssi: Some(-50), smp }
    }

    fn patterns(texts: &[&str]) -> Vec<Pattern> {
        texts.iter().map(|text| Pattern::new(text).unwrap()).collect()
    }

    #[test]
    fn names_are_matched_whole_and_without_an_advertised_service() {
        let beacons = patterns(&["Beacon-[0-9A-F]{4}"]);
        let matched = |name| matches_ble(&beacons, &seen("F0:F1:F2:F3:F4:00", Some(name), false)).is_ok();
        assert!(matched("Beacon-12AB"));
        assert!(!matched("Beacon-12ABC"));
        assert!(!matched("My Beacon-12AB"));
        let error = matches_ble(&beacons, &seen("F0:F1:F2:F3:F4:00", None, true)).unwrap_err();
        assert_eq!(error.to_string(), "ble: expected `Beacon-[0-9A-F]{4}`, got `F0:F1:F2:F3:F4:00`");
    }

    #[test]
    fn an_address_is_matched_in_any_case() {
        let one = patterns(&["f0:f1:f2:f3:f4:00"]);
        assert_eq!(matches_ble(&one, &seen("F0:F1:F2:F3:F4:00", Some("x"), false)), Ok(BleMatch::Address));
        assert!(matches_ble(&one, &seen("F0:F1:F2:F3:F4:01", Some("x"), true)).is_err());
        let uuid = "0e1f8a5c-0001-4b8e-a1f5-aabbccddeeff";
        assert_eq!(matches_ble(&patterns(&[uuid]), &seen(&normal(uuid), None, false)), Ok(BleMatch::Address));
    }

    #[test]
    fn a_pattern_on_addresses_means_smp_servers_only() {
        for text in [".*", "F0:F1:.*"] {
            let any = patterns(&[text]);
            assert_eq!(matches_ble(&any, &seen("F0:F1:F2:F3:F4:00", None, true)), Ok(BleMatch::Address));
            let error = matches_ble(&any, &seen("F0:F1:F2:F3:F4:00", None, false)).unwrap_err();
            assert!(error.to_string().contains("SMP service"), "{error}");
        }
    }

    #[test]
    fn addresses_are_told_from_names() {
        for text in ["F0:F1:F2:F3:F4:00", "f0:f1:f2:f3:f4:aa", "0e1f8a5c-0001-4b8e-a1f5-aabbccddeeff"] {
            assert!(is_address(text), "{text}");
        }
        for text in ["Beacon-01", "F0:F1:F2:F3:F4", "F0:F1:F2:F3:F4:0G", "F0:F1:F2:F3:F4:000", ""] {
            assert!(!is_address(text), "{text}");
        }
    }
}
