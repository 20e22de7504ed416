//! Packages in whole runs: which of their images reach a device, and what an image needs of it.

use std::sync::Arc;

use flashfleet::image::{Flags, ImageBuilder, ImageSet, PackageInspection, TlvType};
use flashfleet::plan::Step;
use flashfleet::report::Verdict;
use flashfleet::sim::{BootMode, SimSpec};

use super::line::{Finished, Line, in_virtual_time};
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

#[test]
fn with_direct_xip_a_device_gets_the_one_for_the_slot_that_does_not_run_again_and_again() {
    let manifest = r#"{"files": [{"file": "a", "image_index": "0", "slot": "0"},
                                 {"file": "b", "image_index": "0", "slot": "1"}]}"#;
    // The slots of a simulated device lie at 0x10000 and behind that.
    let linked =
        |version: &str, address| image(version, 1).flags(Flags::ROM_FIXED).load_address(address).build();
    for mode in [BootMode::DirectXip, BootMode::DirectXipWithRevert] {
        in_virtual_time(async {
            let spec =
                SimSpec { mode, slot_size: 0x2_0000, reject_mismatched_slot: true, ..SimSpec::default() };
            let mut line = Line::new(&spec);
            for (version, slot) in [("2.0.0", 1), ("3.0.0", 0), ("4.0.0", 1)] {
                let (a, b) = (linked(version, 0x1_0000), linked(version, 0x3_0000));
                let set = package(manifest, &[("a", &a), ("b", &b)]);
                let expected = set.members()[slot].image.hash().to_vec();
                line.plan.images.insert("app".to_owned(), Arc::new(set));
                let finished = line.run().await;
                assert_eq!(
                    finished.verdicts(),
                    [Verdict::Passed],
                    "{mode:?} {version}: {}",
                    finished.code(0)
                );
                assert_eq!(line.device(0).running().expect("it runs").hash, expected);
                assert_eq!(line.device(0).slot(slot).hash, Some(expected));
            }
        });
    }
}

/// A package of two images, and the default steps for it on a device that has both and runs 1.0.0.
async fn update_two(spec: &SimSpec) -> (Line, ImageSet, Finished) {
    let manifest = r#"{"files": [{"file": "app", "image_index": "0"}, {"file": "net", "image_index": "1"}]}"#;
    let (app, net) = (image("2.0.0", 1).build(), image("2.5.0", 2).build());
    let set = package(manifest, &[("app", &app), ("net", &net)]);
    // A list of four images needs more than the usual buffer.
    let mut line = Line::new(&SimSpec { images: 2, buf_size: 1024, ..spec.clone() });
    line.plan.targets[0].steps = Step::update("app", &set);
    line.plan.images.insert("app".to_owned(), Arc::new(set.clone()));
    let finished = line.run().await;
    (line, set, finished)
}

#[test]
fn both_images_of_a_package_run_and_stay_where_the_server_confirms_both() {
    for mode in [BootMode::SwapOffset, BootMode::SwapMove, BootMode::Overwrite] {
        in_virtual_time(async {
            let spec = SimSpec { mode, confirm_other_images: true, ..SimSpec::default() };
            let (line, set, finished) = update_two(&spec).await;
            assert_eq!(
                finished.verdicts(),
                [Verdict::Passed],
                "{mode:?}: {:?}",
                finished.report.devices[0].cause
            );
            line.device(0).reset_line();
            for number in 0..2 {
                let truth = line.device(0).running_image(number).expect("it runs");
                let expected = set.members()[number].image.hash().to_vec();
                assert_eq!((truth.hash, truth.confirmed), (expected, true), "{mode:?}, image {number}");
            }
            let told = &finished.report.devices[0].images;
            let after =
                |at: usize| told[at].after.as_ref().map(|after| after.version.clone()).unwrap_or_default();
            assert_eq!((after(0), after(1)), ("2.0.0".to_owned(), "2.5.0".to_owned()), "{told:?}");
        });
    }
}

#[test]
fn where_the_server_confirms_only_the_one_that_executes_nothing_is_confirmed_and_all_go_back() {
    in_virtual_time(async {
        let (line, _, finished) = update_two(&SimSpec::default()).await;
        assert_eq!(
            (finished.verdicts()[0], finished.code(0).as_str()),
            (Verdict::Failed, "smp.img_mgmt.image_confirmation_denied")
        );
        line.device(0).reset_line();
        for number in 0..2 {
            assert_eq!(line.device(0).running_image(number).expect("it runs").version, "1.0.0");
        }
    });
}

#[test]
fn an_image_number_that_the_device_does_not_have_is_refused_before_anything_is_written() {
    in_virtual_time(async {
        let manifest =
            r#"{"files": [{"file": "app", "image_index": "0"}, {"file": "net", "image_index": "2"}]}"#;
        let (app, net) = (image("2.0.0", 1).build(), image("2.5.0", 2).build());
        let set = package(manifest, &[("app", &app), ("net", &net)]);
        let mut line = Line::new(&SimSpec { images: 2, ..SimSpec::default() });
        line.plan.targets[0].steps = Step::update("app", &set);
        line.plan.images.insert("app".to_owned(), Arc::new(set));
        let finished = line.run().await;
        assert_eq!(finished.code(0), "device.no_such_image");
        assert_eq!(line.device(0).bytes_written(), 0);
    });
}
