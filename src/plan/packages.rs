//! What a step that names a package means: one upload for each of its images. How packages are read does not live here.

use super::derived;
use super::images::{Images, PlanImage};
use super::model::Step;
use super::problems::excerpt;
use super::reader::{Fields, Reader};
use super::yaml::Node;

/// An upload of a package as one step for each image number in it, in the package's order, or as the one for the image
/// number that `node`, the step, gives. Every other step is itself. `None` where the package has no such image, which
/// is reported.
pub(super) fn expand(reader: &Reader<'_>, step: Step, node: &Node, images: &Images) -> Option<Vec<Step>> {
    let Step::Upload { image, image_number, upgrade_only, force } = &step else { return Some(vec![step]) };
    let numbers = images.get(image).and_then(|image| Some(image.set.as_ref()?.image_numbers()));
    let Some(numbers) = numbers.filter(|numbers| !numbers.is_empty()) else { return Some(vec![step]) };
    if let Some(at) = derived::find(node, "upload.image_number") {
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
