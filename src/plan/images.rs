//! The plan's images: each file or package opened once and checked against what the plan says of it.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use semver::VersionReq;

use super::keys::{IMAGE, MAX_IMAGE_NUMBER, SIM_IMAGE};
use super::problems::{closest, excerpt};
use super::reader::{Fields, Reader, lower_first};
use super::yaml::{Node, Value};
use crate::image::{Flags, Image, ImageBuilder, ImageSet, Member, PublicKey, Version};

/// Bytes of a simulated image where the plan does not say.
const SIM_IMAGE_SIZE: usize = 64 * 1024;

/// One entry of `images`.
#[derive(Debug)]
pub(super) struct PlanImage {
    /// `None` where it could not be loaded, which has been reported.
    pub(super) set: Option<Arc<ImageSet>>,
    /// Made for this run: for simulated devices only.
    pub(super) simulated: bool,
}

impl PlanImage {
    /// The one image that there is for an image number.
    pub(super) fn only(&self, number: u32) -> Option<&Image> {
        match &self.set.as_ref()?.for_image(number)[..] {
            [member] => Some(&member.image),
            _ => None,
        }
    }
}

/// The images by name, those that could not be loaded included.
pub(super) type Images = BTreeMap<String, PlanImage>;

/// Reads the map `images`; `base` is the folder that file names are relative to. `None` where there is no map, and so
/// nothing is known of any name.
pub(super) fn read(reader: &Reader<'_>, node: &Node, base: &Path) -> Option<Images> {
    let Value::Mapping(entries) = &node.value else {
        reader.wrong_type(
            node,
            "`images`",
            "a map",
            "give each image a name: `images: { app: { file: app.bin } }`",
        );
        return None;
    };
    let mut images = Images::new();
    for (key, node) in entries {
        if key.name.trim().is_empty() || key.name.chars().any(char::is_control) {
            let message = format!("`{}` is no name for an image", excerpt(&key.name));
            reader.problems.add("plan.bad_text", &key.at, message, "use a word, for example `app`");
        }
        images.insert(key.name.clone(), read_image(reader, node, base));
    }
    Some(images)
}

fn read_image(reader: &Reader<'_>, node: &Node, base: &Path) -> PlanImage {
    let Some(fields) = reader.fields(node, &IMAGE) else {
        return PlanImage { set: None, simulated: false };
    };
    let simulated = fields.get("sim").is_some();
    let set = match (fields.get("file"), fields.get("sim")) {
        (Some(file), None) => {
            let set = reader.text(file, "`file`").and_then(|name| load(reader, &file.at, base, name));
            check_signature(&fields, set.as_ref(), base);
            set
        }
        (None, Some(sim)) => {
            for key in ["sha256", "verify_key"].into_iter().filter(|key| fields.get(key).is_some()) {
                let message = format!("a simulated image cannot have `{key}`");
                reader.problems.add("plan.contradiction", &fields.key_at(key), message, "it is for files");
            }
            make(reader, sim).map(ImageSet::from)
        }
        (Some(_), Some(_)) => {
            let help = "keep `file` for real devices, or `sim` for simulated ones";
            let message = "an image has both `file` and `sim`";
            reader.problems.add("plan.contradiction", &fields.key_at("sim"), message, help);
            None
        }
        (None, None) => {
            let help = "`file`: the MCUboot image file; or `sim`: an image for simulated devices";
            reader.problems.add("plan.missing_key", &node.at, "an image needs the key `file` or `sim`", help);
            None
        }
    };
    check_pin(&fields, set.as_ref());
    check_version(&fields, set.as_ref());
    PlanImage { set: set.map(Arc::new), simulated }
}

fn load(reader: &Reader<'_>, at: &Range<usize>, base: &Path, name: &str) -> Option<ImageSet> {
    let path = base.join(name);
    match ImageSet::load(&path) {
        Ok(set) => Some(set),
        Err(error) => {
            let help = match (path.exists(), similar_file(&path)) {
                (false, Some(similar)) => format!("did you mean `{}`? {}", excerpt(&similar), error.help()),
                _ => error.help(),
            };
            reader.problems.add(error.code(), at, lower_first(&error.to_string()), help);
            None
        }
    }
}

/// A file in the same folder with a name that is close.
pub(super) fn similar_file(path: &Path) -> Option<String> {
    let wanted = path.file_name()?.to_str()?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let names: Vec<String> = std::fs::read_dir(folder)
        .ok()?
        .take(1000)
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .collect();
    closest(wanted, names.iter().map(String::as_str)).map(str::to_owned)
}

fn make(reader: &Reader<'_>, node: &Node) -> Option<Image> {
    let fields = reader.fields(node, &SIM_IMAGE)?;
    let size = fields.whole("size");
    let flags = if fields.flag("ram_load") == Some(true) { Flags::RAM_LOAD } else { Flags::default() };
    let version_node = fields.get("version")?;
    let version = match reader.text(version_node, "`version`")?.parse::<Version>() {
        Ok(version) => version,
        Err(error) => {
            let help = "write major.minor.revision, for example `\"2.0.0\"`";
            reader.problems.add("plan.bad_version", &version_node.at, error.to_string(), help);
            return None;
        }
    };
    // Every version gets other content, so that every image has another hash.
    let seed = version.to_bytes();
    let payload: Vec<u8> = seed.iter().copied().cycle().take(size.unwrap_or(SIM_IMAGE_SIZE)).collect();
    let builder = ImageBuilder::new().parsed_version(version).payload(&payload).flags(flags);
    match Image::from_bytes(builder.build()) {
        Ok(image) => Some(image),
        Err(error) => {
            reader.problems.add(error.code(), &node.at, error.to_string(), error.help());
            None
        }
    }
}

fn check_pin(fields: &Fields<'_>, set: Option<&ImageSet>) {
    let Some(node) = fields.get("sha256") else { return };
    let Some(text) = fields.text("sha256") else { return };
    let problems = fields.reader.problems;
    let help = "write the 64 hexadecimal digits that `sha256sum FILE` prints";
    let mut pin = [0; 32];
    if hex::decode_to_slice(text, &mut pin).is_err() {
        let message = format!("`sha256` is no SHA-256 in hex: it has {} characters", text.chars().count());
        problems.add("plan.bad_hash", &node.at, message, help);
        return;
    }
    let Some(set) = set else { return };
    if set.source_sha256() != &pin {
        let message = format!(
            "the file's SHA-256 is {}, and not what is pinned here",
            hex::encode(set.source_sha256())
        );
        let help = "name the file that was meant, or pin the new hash";
        problems.add("plan.image_sha256", &node.at, message, help);
    }
}

/// One requirement, on every image there is, or one for each image number of a package.
fn check_version(fields: &Fields<'_>, set: Option<&ImageSet>) {
    let Some(node) = fields.get("version") else { return };
    let Value::Mapping(entries) = &node.value else {
        let Some(requirement) = read_requirement(fields, "version") else { return };
        let members = set.map(ImageSet::members).unwrap_or_default();
        check_members(fields.reader, node, &requirement, members.iter());
        return;
    };
    let problems = fields.reader.problems;
    if entries.is_empty() {
        let help = "write one requirement, or one for each image number: `{ 0: \">=2.4.0\", 1: \">=1.1\" }`";
        problems.add("plan.empty_map", &node.at, "`version` is empty", help);
    }
    let numbers = set.map(ImageSet::image_numbers);
    if numbers.as_ref().is_some_and(Vec::is_empty) {
        let message = "`version` has image numbers, and this is one image without a package around it";
        problems.add(
            "plan.contradiction",
            &node.at,
            message,
            "write one requirement: `version: \">=2.4.0\"`",
        );
        return;
    }
    for (key, value) in entries {
        let number =
            key.name.parse().ok().filter(|number: &u32| {
                u64::from(*number) <= MAX_IMAGE_NUMBER && number.to_string() == key.name
            });
        let requirement = requirement(fields.reader, value, "`version`");
        let Some(number) = number else {
            let message = format!("`{}` is no image number from 0 to {MAX_IMAGE_NUMBER}", excerpt(&key.name));
            problems.add(
                "plan.bad_image_number",
                &key.at,
                message,
                "write `0: \">=2.4.0\"`, with the number of an image",
            );
            continue;
        };
        if let Some(numbers) = numbers.as_ref().filter(|numbers| !numbers.contains(&number)) {
            let has = numbers.iter().map(u32::to_string).collect::<Vec<_>>().join(", ");
            let message = format!("the package has no image {number}");
            problems.add(
                "plan.unknown_image_number",
                &key.at,
                message,
                format!("image numbers of this package: {has}"),
            );
        }
        if let (Some(requirement), Some(set)) = (requirement, set) {
            check_members(fields.reader, value, &requirement, set.for_image(number).into_iter());
        }
    }
}

fn check_members<'m>(
    reader: &Reader<'_>,
    node: &Node,
    requirement: &VersionReq,
    members: impl Iterator<Item = &'m Member>,
) {
    for member in members {
        let image = &member.image;
        if image.parsed_version().satisfies(requirement) {
            continue;
        }
        let what = member.file.as_ref().map_or_else(|| "the image".to_owned(), |file| format!("`{file}`"));
        let message = format!("{what} has version {}, and not {requirement}", image.version());
        let help = "name the file that was meant, or change the requirement";
        reader.problems.add("plan.image_version", &node.at, message, help);
    }
}

fn check_signature(fields: &Fields<'_>, set: Option<&ImageSet>, base: &Path) {
    let Some(node) = fields.get("verify_key") else { return };
    let Some(name) = fields.text("verify_key") else { return };
    let verified = PublicKey::load(&base.join(name)).and_then(|key| match set {
        Some(set) => set.verify(&key),
        None => Ok(()),
    });
    if let Err(error) = verified {
        let message = lower_first(&error.to_string());
        fields.reader.problems.add(error.code(), &node.at, message, error.help());
    }
}

/// A requirement on a version. A version alone means exactly this one: `semver` would take it for `^`, which lets
/// newer firmware pass as what was asked for.
pub(super) fn read_requirement(fields: &Fields<'_>, name: &str) -> Option<VersionReq> {
    requirement(fields.reader, fields.get(name)?, &format!("`{name}`"))
}

fn requirement(reader: &Reader<'_>, node: &Node, what: &str) -> Option<VersionReq> {
    let parsed = parse_requirement(reader.text(node, what)?);
    if let Err(reason) = &parsed {
        let message = format!("{what} is no requirement on a version: {reason}");
        let help = "write for example `\">=2.4.0\"`, `\">=2.4.0, <3\"` or `\"2.4.0\"` for exactly this one";
        reader.problems.add("plan.bad_version", &node.at, message, help);
    }
    parsed.ok()
}

fn parse_requirement(text: &str) -> Result<VersionReq, String> {
    if text.contains('+') {
        return Err("the build number is not compared".to_owned());
    }
    let exact = |part: &str| {
        let part = part.trim();
        let bare = part.starts_with(|c: char| c.is_ascii_digit()) && !part.contains(['*', 'x', 'X']);
        if bare { format!("={part}") } else { part.to_owned() }
    };
    let text = text.split(',').map(exact).collect::<Vec<_>>().join(", ");
    VersionReq::parse(&text).map_err(|error| lower_first(&error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_alone_is_required_exactly() {
        let holds = |requirement: &str, version: &str| {
            version.parse::<Version>().unwrap().satisfies(&parse_requirement(requirement).unwrap())
        };
        assert!(holds("2.4.0", "2.4.0"));
        assert!(holds("2.4.0", "2.4.0+7"));
        assert!(!holds("2.4.0", "2.4.1"));
        assert!(holds("2.4", "2.4.9"));
        assert!(!holds("2.4", "2.5.0"));
        assert!(holds("2.*", "2.5.0"));
        assert!(holds(">=2.4.0, <3", "2.5.0"));
        assert!(!holds(">=2.4.0, <3", "3.0.0"));
        assert!(holds("^2.4.0", "2.5.0"));
    }

    #[test]
    fn what_cannot_be_compared_is_refused() {
        for text in ["", "new", ">=", "2.4.0.7", "2.4.0+7", ">=2.4.0 <3", "1,,2"] {
            assert!(parse_requirement(text).is_err(), "{text}");
        }
    }
}
