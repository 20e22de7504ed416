//! A plan from a stranger: it is read, or everything that is wrong with it is told, each with a place in it.

#![no_main]

use std::path::Path;

use flashfleet::plan::parse;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    match parse(text, Path::new("/nowhere/plan.yaml")) {
        Ok(plan) => {
            for target in &plan.targets {
                assert!(!target.steps.is_empty(), "{}", target.name);
            }
        }
        Err(found) => {
            assert!(!found.items().is_empty());
            for item in found.items() {
                assert!(!item.code.is_empty() && !item.help.is_empty(), "{item:?}");
                if let Some(place) = &item.place {
                    assert!(place.line >= 1 && place.line <= text.lines().count().max(1) + 1, "{item:?}");
                }
            }
            let _ = (found.render(false), found.render(true), found.to_json(), found.to_cause());
        }
    }
});
