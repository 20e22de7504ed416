//! Packages in whole runs: which of their images reach a device, and what an image needs of it.

use std::sync::Arc;

use flashfleet::image::{ImageBuilder, ImageSet, PackageInspection, TlvType};
use flashfleet::report::Verdict;
use flashfleet::sim::SimSpec;

use super::line::{Line, in_virtual_time};
use super::package::pack;

fn image(version: &str, seed: u8) -> ImageBuilder {
    ImageBuilder::new().version(version).payload(&[seed; 3_000])
}

fn package(manifest: &str, entries: &[(&str, &[u8])]) -> ImageSet {
    let entries: Vec<_> = entries.iter().copied().chain([("manifest.json", manifest.as_bytes())]).collect();
    let package = PackageInspection::of_bytes(&pack(&entries)).expect("a package");
    ImageSet::of_package(package).expect("right images")
}

#[test]
fn of_a_pair_the_device_gets_the_one_for_its_other_slot() {
    in_virtual_time(async {
        let manifest = r#"{"files": [{"file": "a", "image_index": "0", "slot": "0"},
                                     {"file": "b", "image_index": "0", "slot": "1"}]}"#;
        let (a, b) = (image("2.0.0", 1).build(), image("2.0.0", 2).build());
        let set = package(manifest, &[("a", &a), ("b", &b)]);
        let expected = set.members()[1].image.hash().to_vec();
        let mut line = Line::new(&SimSpec { count: 2, ..SimSpec::default() });
        line.plan.images.insert("app".to_owned(), Arc::new(set));
        let finished = line.run().await;
        assert_eq!(finished.verdicts(), [Verdict::Passed; 2]);
        for index in 0..2 {
            let truth = line.device(index).running().expect("it runs");
            assert_eq!((truth.hash, truth.confirmed), (expected.clone(), true));
        }
    });
}

#[test]
fn an_image_that_needs_another_one_is_noted_where_the_device_does_not_tell_of_it() {
    in_virtual_time(async {
        let needs = [1, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0];
        let app = image("2.0.0", 1).protected_tlv(TlvType::DEPENDENCY, &needs).build();
        let set = package(r#"{"files": [{"file": "app.bin"}]}"#, &[("app.bin", &app)]);
        let mut line = Line::new(&SimSpec::default());
        line.plan.images.insert("app".to_owned(), Arc::new(set));
        let finished = line.run().await;
        assert_eq!(finished.verdicts(), [Verdict::Passed]);
        let notes = &finished.report.devices[0].steps[0].detail.notes;
        assert!(notes.iter().any(|note| note.contains("could not be checked")), "{notes:?}");
    });
}

#[test]
fn an_image_that_needs_a_later_one_of_its_own_number_is_refused_and_nothing_is_written() {
    in_virtual_time(async {
        // What it puts there itself is what counts.
        let needs = [0, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0];
        let app = image("2.0.0", 1).protected_tlv(TlvType::DEPENDENCY, &needs).build();
        let set = package(r#"{"files": [{"file": "app.bin"}]}"#, &[("app.bin", &app)]);
        let mut line = Line::new(&SimSpec { version: "10.0.0".to_owned(), ..SimSpec::default() });
        line.plan.images.insert("app".to_owned(), Arc::new(set));
        let finished = line.run().await;
        assert_eq!(
            (finished.verdicts()[0], finished.code(0).as_str()),
            (Verdict::Failed, "image.dependency_not_met")
        );
        assert_eq!(finished.report.devices[0].changed, Some(false));
        assert_eq!((line.device(0).bytes_written(), line.device(0).boots()), (0, 0));
    });
}
