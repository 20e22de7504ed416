//! What a step that names a package means: one upload for each of its images. How packages are read does not live here.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::ops::Range;

use super::images::{Images, PlanImage};
use super::problems::{Problems, excerpt};
use super::reader::{Fields, Reader};
use super::step::Step;
use super::yaml::{Node, Value};
use crate::image::{DependencySlot, Member};

/// An upload of a package as one step for each image number in it, in the package's order, or as the one for the image
/// number that `node`, the step, gives. Every other step is itself. `None` where the package has no such image, which
/// is reported.
pub(super) fn expand(reader: &Reader<'_>, step: Step, node: &Node, images: &Images) -> Option<Vec<Step>> {
    let Step::Upload { image, image_number, upgrade_only, force } = &step else { return Some(vec![step]) };
    let numbers = images.get(image).and_then(|image| Some(image.set.as_ref()?.image_numbers()));
    let Some(numbers) = numbers.filter(|numbers| !numbers.is_empty()) else { return Some(vec![step]) };
    if let Some(at) = given_number(node) {
        if numbers.contains(image_number) {
            return Some(vec![step]);
        }
        let message = format!("package `{}` has no image {image_number}", excerpt(image));
        let has = numbers.iter().map(u32::to_string).collect::<Vec<_>>().join(", ");
        let help = format!("image numbers of this package: {has}; without `image_number` each is uploaded");
        reader.problems.add("plan.unknown_image_number", at, message, help);
        return None;
    }
    let upload = |image_number| Step::Upload {
        image: image.clone(),
        image_number,
        upgrade_only: *upgrade_only,
        force: *force,
    };
    Some(numbers.into_iter().map(upload).collect())
}

/// Where a step says which image number is meant.
fn given_number(step: &Node) -> Option<&Range<usize>> {
    let upload = entry(step, "upload")?;
    entry(upload, "image_number").map(|node| &node.at)
}

fn entry<'n>(node: &'n Node, name: &str) -> Option<&'n Node> {
    let Value::Mapping(entries) = &node.value else { return None };
    entries.iter().find(|(key, _)| key.name == name).map(|(_, node)| node.as_ref())
}

/// Images that are booted together although one is older than another needs it: no device could ever boot that. What
/// an image needs of those that a device has already is asked of the device.
pub(super) fn check_dependencies(problems: &Problems<'_>, steps: &[(Step, Range<usize>)], images: &Images) {
    let mut together: BTreeMap<u32, (&str, Vec<&Member>, &Range<usize>)> = BTreeMap::new();
    for (step, at) in steps {
        match step {
            Step::Upload { image, image_number, .. } => {
                let set = images.get(image).and_then(|image| image.set.as_ref());
                let members = set.map(|set| set.for_image(*image_number)).unwrap_or_default();
                together.insert(*image_number, (image, members, at));
            }
            Step::TestBoot | Step::Reset { .. } => {
                let booted = std::mem::take(&mut together);
                for (name, members, at) in booted.values() {
                    for member in members {
                        check_member(problems, name, member, at, &booted);
                    }
                }
            }
            _ => {}
        }
    }
}

fn check_member(
    problems: &Problems<'_>,
    name: &str,
    member: &Member,
    at: &Range<usize>,
    booted: &BTreeMap<u32, (&str, Vec<&Member>, &Range<usize>)>,
) {
    let needs = member.image.layout().dependencies().filter(|it| it.slot == DependencySlot::Active);
    for dependency in needs {
        let Some((_, others, _)) = booted.get(&dependency.image_number) else { continue };
        let older = others
            .iter()
            .map(|other| other.image.parsed_version())
            .find(|version| version.cmp_without_build(&dependency.version) == Ordering::Less);
        if let Some(version) = older {
            let message = format!(
                "image `{}`, version {}, needs {dependency}, and version {version} is uploaded with it",
                excerpt(name),
                member.image.version()
            );
            let help = "name images that were built for each other: no bootloader would boot these together";
            problems.add("image.dependency_not_met", at, message, help);
        }
    }
}

/// The TLV hash that the name of an image stands for: in a package that of its first image number, on which a `verify`
/// looks.
pub(super) fn hash_of(fields: &Fields<'_>, name: &str, image: &PlanImage) -> Option<Vec<u8>> {
    let set = image.set.as_ref()?;
    let number = set.image_numbers().into_iter().min().unwrap_or(0);
    if let Some(image) = image.only(number) {
        return Some(image.hash().to_vec());
    }
    let node = fields.get("hash")?;
    let message =
        format!("package `{}` has an image for each slot, and which one runs is not known", excerpt(name));
    let help = "require a `version` instead, or write the hash itself";
    fields.reader.problems.add("plan.ambiguous_image", &node.at, message, help);
    None
}
