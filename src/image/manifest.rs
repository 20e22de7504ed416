//! `manifest.json` of a package: which file is for which image number and slot. Files are not opened here.
//!
//! The format is that of nRF Connect SDK (`scripts/bootloader/generate_zip.py` and `cmake/fw_zip.cmake` there), which
//! other builds write too. Numbers stand there as numbers or as text.

use serde_json::{Map, Value};

use super::error::ImageError;
use super::zip_fault::{ZipFault, shown};

/// Largest manifest, in bytes.
pub(super) const MAX_MANIFEST_SIZE: u64 = 256 << 10;

/// Most files of one manifest: two slots of 16 images.
const MAX_FILES: usize = 32;

/// Highest image number: MCUboot's slots are numbered in flash maps of at most 32.
const MAX_IMAGE_NUMBER: u64 = 15;

/// Versions of the format that are known to mean the same.
const FORMAT_VERSIONS: [u64; 2] = [0, 1];

/// A manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// What the package calls itself.
    pub name: Option<String>,
    /// Its files, in its order. Never empty.
    pub files: Vec<ManifestFile>,
}

/// One file of a package, as the manifest has it. What it does not say is `None`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ManifestFile {
    /// `file`: name of the entry in the archive.
    pub file: String,
    /// `type`, for example `application`.
    pub kind: Option<String>,
    /// `board`.
    pub board: Option<String>,
    /// `soc`.
    pub soc: Option<String>,
    /// `image_index`: the image number.
    pub image_number: Option<u32>,
    /// `slot`, within its image: 0 or 1. Only builds for direct XIP have it, where each slot has its own file.
    pub slot: Option<u32>,
    /// `slot_index_primary`: the image's first slot, counted over all images from 1.
    pub slot_index_primary: Option<u32>,
    /// `slot_index_secondary`: the image's second slot, counted over all images from 1.
    pub slot_index_secondary: Option<u32>,
    /// `load_address`: where the slot, or the image in it, lies.
    pub load_address: Option<u64>,
    /// `size`, in bytes.
    pub size: Option<u64>,
    /// `version_MCUBOOT` or `version_MCUBOOT+XIP`: what was given to imgtool as version.
    pub version: Option<String>,
    /// `modtime`: when the file was built, in seconds since 1970.
    pub modified: Option<u64>,
}

impl Manifest {
    /// Reads a manifest.
    ///
    /// # Errors
    ///
    /// `image.zip_manifest_invalid`; `image.zip_unsupported` for packages of other kinds, such as those of nRF5 SDK.
    pub fn parse(bytes: &[u8]) -> Result<Self, ImageError> {
        // Some editors begin with a byte order mark.
        let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
        let value: Value = serde_json::from_slice(bytes)
            .map_err(|error| invalid(format!("it is no JSON: {}", shown(&error.to_string()))))?;
        let Value::Object(object) = value else { return Err(invalid("it is no JSON object".into())) };
        if object.contains_key("manifest") {
            return Err(unsupported("one for the bootloader of nRF5 SDK"));
        }
        if let Some(version) = number(&object, "format-version", "the manifest")?
            && !FORMAT_VERSIONS.contains(&version)
        {
            return Err(invalid(format!("its `format-version` is {version}, and known are 0 and 1")));
        }
        let Some(Value::Array(files)) = object.get("files") else {
            return Err(invalid("it has no list `files`".into()));
        };
        if files.is_empty() || files.len() > MAX_FILES {
            return Err(invalid(format!("it lists {} files, and 1 to {MAX_FILES} are known", files.len())));
        }
        let name = text(&object, "name", "the manifest")?;
        let files = files.iter().enumerate().map(|(index, file)| ManifestFile::parse(index, file));
        let files = files.collect::<Result<Vec<_>, _>>()?;
        for (index, file) in files.iter().enumerate() {
            if files.iter().take(index).any(|other| other.file == file.file) {
                return Err(invalid(format!("it names `{}` twice", shown(&file.file))));
            }
        }
        Ok(Self { name, files })
    }
}

impl ManifestFile {
    fn parse(index: usize, value: &Value) -> Result<Self, ImageError> {
        let Value::Object(object) = value else {
            return Err(invalid(format!("entry {} of `files` is no JSON object", index + 1)));
        };
        let place = format!("entry {} of `files`", index + 1);
        let Some(file) = text(object, "file", &place)?.filter(|file| !file.is_empty()) else {
            return Err(invalid(format!("{place} has no `file`")));
        };
        let place = format!("`{}`", shown(&file));
        let kind = text(object, "type", &place)?;
        // What a device does with these is not what it does with an image in a slot.
        match kind.as_deref() {
            Some("mcuboot") => {
                return Err(unsupported("an update of MCUboot itself, for which no device tells what runs"));
            }
            Some("suit-envelope" | "cache") => return Err(unsupported("one for SUIT")),
            _ => {}
        }
        let image_number = match number(object, "image_index", &place)? {
            None => number(object, "image", &place)?,
            given => given,
        };
        let image_number = match image_number {
            Some(number) if number > MAX_IMAGE_NUMBER => {
                return Err(invalid(format!(
                    "{place} has image number {number}, and the highest is {MAX_IMAGE_NUMBER}"
                )));
            }
            number => number.and_then(|number| u32::try_from(number).ok()),
        };
        let version = match text(object, "version_MCUBOOT", &place)? {
            None => text(object, "version_MCUBOOT+XIP", &place)?,
            given => given,
        };
        Ok(Self {
            kind,
            board: text(object, "board", &place)?,
            soc: text(object, "soc", &place)?,
            slot: slot(object, image_number.unwrap_or(0), &place)?,
            image_number,
            slot_index_primary: small(object, "slot_index_primary", &place)?,
            slot_index_secondary: small(object, "slot_index_secondary", &place)?,
            load_address: number(object, "load_address", &place)?,
            size: number(object, "size", &place)?,
            version,
            modified: number(object, "modtime", &place)?,
            file,
        })
    }
}

/// `slot` within its image. Builds count slots over all images from 0, two each; some count within the image.
fn slot(object: &Map<String, Value>, image_number: u32, place: &str) -> Result<Option<u32>, ImageError> {
    let Some(slot) = small(object, "slot", place)? else { return Ok(None) };
    let within = slot.checked_sub(2 * image_number).unwrap_or(slot);
    if within > 1 {
        return Err(invalid(format!("{place} has slot {slot}, which image {image_number} does not have")));
    }
    Ok(Some(within))
}

fn small(object: &Map<String, Value>, key: &str, place: &str) -> Result<Option<u32>, ImageError> {
    let Some(value) = number(object, key, place)? else { return Ok(None) };
    u32::try_from(value).map(Some).map_err(|_| invalid(format!("`{key}` of {place} is {value}")))
}

/// A number, or a text with one: decimal, or hexadecimal behind `0x`.
fn number(object: &Map<String, Value>, key: &str, place: &str) -> Result<Option<u64>, ImageError> {
    let parsed = match object.get(key) {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::Number(number)) => number.as_u64(),
        Some(Value::String(text)) => {
            let digits = text.trim();
            let (digits, radix) = match digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X")) {
                Some(digits) => (digits, 16),
                None => (digits, 10),
            };
            // `from_str_radix` takes a sign.
            let plain = digits.bytes().all(|byte| byte.is_ascii_alphanumeric());
            plain.then(|| u64::from_str_radix(digits, radix).ok()).flatten()
        }
        Some(_) => None,
    };
    parsed.map(Some).ok_or_else(|| {
        let value = object.get(key).map(Value::to_string).unwrap_or_default();
        invalid(format!("`{key}` of {place} is no whole number: {}", shown(&value)))
    })
}

fn text(object: &Map<String, Value>, key: &str, place: &str) -> Result<Option<String>, ImageError> {
    match object.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(other) => Err(invalid(format!("`{key}` of {place} is no text: {}", shown(&other.to_string())))),
    }
}

fn invalid(reason: String) -> ImageError {
    ZipFault::Manifest { reason }.into()
}

fn unsupported(what: &str) -> ImageError {
    ZipFault::Unsupported { what: what.to_owned() }.into()
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn file(more: &str) -> String {
        format!(r#"{{"format-version": 0, "files": [{{"file": "app.bin"{more}}}]}}"#)
    }

    /// As `generate_zip.py` writes it for two cores: numbers from the command line are text, hexadecimal ones numbers.
    #[test]
    fn a_manifest_of_nrf_connect_sdk() {
        let text = r#"{"format-version": 0, "time": 1700000000, "name": "sensor", "files": [
            {"type": "application", "board": "nrf5340dk", "soc": "nRF5340_CPUAPP_QKAA", "load_address": 66048,
             "image_index": "0", "slot_index_primary": "1", "slot_index_secondary": "2",
             "version_MCUBOOT": "2.4.0+7", "size": 300000, "file": "app.bin", "modtime": 1690000000},
            {"type": "application", "board": "nrf5340dk_cpunet", "image_index": "1", "slot_index_primary": "3",
             "slot_index_secondary": "4", "load_address": "0x01008800", "version": "1", "size": 200000,
             "file": "net.bin", "modtime": 1690000001}]}"#;
        let manifest = Manifest::parse(text.as_bytes()).unwrap();
        assert_eq!(manifest.name.as_deref(), Some("sensor"));
        let [app, net] = &manifest.files[..] else { panic!("{manifest:?}") };
        assert_eq!(
            *app,
            ManifestFile {
                file: "app.bin".into(),
                kind: Some("application".into()),
                board: Some("nrf5340dk".into()),
                soc: Some("nRF5340_CPUAPP_QKAA".into()),
                image_number: Some(0),
                slot: None,
                slot_index_primary: Some(1),
                slot_index_secondary: Some(2),
                load_address: Some(0x1_0200),
                size: Some(300_000),
                version: Some("2.4.0+7".into()),
                modified: Some(1_690_000_000),
            }
        );
        assert_eq!(
            (net.image_number, net.load_address, net.soc.as_deref()),
            (Some(1), Some(0x0100_8800), None)
        );
        assert_eq!(net.version, None, "`version` is of the other core's bootloader");
    }

    #[rstest]
    #[case(r#", "image_index": "0", "slot": "1""#, Some(0), Some(1))]
    #[case(r#", "image_index": 1, "slot": 3"#, Some(1), Some(1))]
    #[case(r#", "image_index": 1, "slot": 2"#, Some(1), Some(0))]
    #[case(r#", "image_index": 1, "slot": 1"#, Some(1), Some(1))]
    #[case(r#", "image": 2"#, Some(2), None)]
    #[case(r#", "image_index": null"#, None, None)]
    #[case("", None, None)]
    fn image_numbers_and_slots(#[case] more: &str, #[case] number: Option<u32>, #[case] slot: Option<u32>) {
        let manifest = Manifest::parse(file(more).as_bytes()).unwrap();
        assert_eq!((manifest.files[0].image_number, manifest.files[0].slot), (number, slot));
    }

    #[rstest]
    #[case(r#", "image_index": "one""#, "`image_index` of `app.bin` is no whole number")]
    #[case(r#", "image_index": "+1""#, "no whole number")]
    #[case(r#", "image_index": 1.5"#, "no whole number: 1.5")]
    #[case(r#", "image_index": -1"#, "no whole number: -1")]
    #[case(r#", "image_index": 16"#, "image number 16, and the highest is 15")]
    #[case(r#", "slot": 2"#, "slot 2, which image 0 does not have")]
    #[case(r#", "slot": 4294967296"#, "`slot` of `app.bin` is 4294967296")]
    #[case(r#", "size": [1]"#, "`size` of `app.bin` is no whole number: [1]")]
    #[case(r#", "board": 5"#, "`board` of `app.bin` is no text: 5")]
    #[case(r#"}, {"file": "app.bin""#, "it names `app.bin` twice")]
    #[case(r#"}, {"board": "x""#, "entry 2 of `files` has no `file`")]
    #[case(r#"}, {"file": """#, "entry 2 of `files` has no `file`")]
    #[case(r"}, 5, {", "entry 2 of `files` is no JSON object")]
    fn what_is_wrong_with_a_file_is_told(#[case] more: &str, #[case] says: &str) {
        let error = Manifest::parse(file(more).as_bytes()).unwrap_err();
        assert_eq!(error.code(), "image.zip_manifest_invalid");
        assert!(error.to_string().contains(says), "{error}");
    }

    #[rstest]
    #[case("", "it is no JSON")]
    #[case("[]", "it is no JSON object")]
    #[case("{}", "it has no list `files`")]
    #[case(r#"{"files": {}}"#, "it has no list `files`")]
    #[case(r#"{"files": []}"#, "it lists 0 files")]
    #[case(r#"{"format-version": 2, "files": []}"#, "`format-version` is 2")]
    fn what_is_wrong_with_the_manifest_is_told(#[case] text: &str, #[case] says: &str) {
        let error = Manifest::parse(text.as_bytes()).unwrap_err();
        assert_eq!(error.code(), "image.zip_manifest_invalid");
        assert!(error.to_string().contains(says), "{error}");
    }

    #[test]
    fn too_many_files_and_too_deep_a_nest_are_refused() {
        let files = vec![r#"{"file": "a"}"#; MAX_FILES + 1].join(",");
        let error = Manifest::parse(format!(r#"{{"files": [{files}]}}"#).as_bytes()).unwrap_err();
        assert!(error.to_string().contains("it lists 33 files"), "{error}");
        let deep = "[".repeat(100_000);
        assert_eq!(Manifest::parse(deep.as_bytes()).unwrap_err().code(), "image.zip_manifest_invalid");
    }

    #[rstest]
    #[case(r#"{"manifest": {"application": {"bin_file": "a.bin", "dat_file": "a.dat"}}}"#, "nRF5 SDK")]
    #[case(&file(r#", "type": "mcuboot""#), "MCUboot itself")]
    #[case(&file(r#", "type": "suit-envelope""#), "SUIT")]
    fn packages_of_other_kinds_are_called_by_their_name(#[case] text: &str, #[case] says: &str) {
        let error = Manifest::parse(text.as_bytes()).unwrap_err();
        assert_eq!(error.code(), "image.zip_unsupported");
        assert!(error.to_string().contains(says), "{error}");
    }

    #[test]
    fn what_a_message_repeats_is_on_one_line_and_short() {
        let name = format!("a\\n{}", "x".repeat(500));
        let text = format!(r#"{{"files": [{{"file": "{name}", "size": true}}]}}"#);
        let message = Manifest::parse(text.as_bytes()).unwrap_err().to_string();
        assert!(message.contains("a\\n") && !message.contains('\n') && message.len() < 250, "{message}");
    }
}
