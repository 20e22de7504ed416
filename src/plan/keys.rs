//! Every key of the plan format, with the kind of value it takes and what it means: the one table that the reader
//! looks keys up in and that the JSON Schema is made of. How values are read does not live here.

use std::time::Duration;

use crate::smp::group;

/// A map of the plan.
#[derive(Debug)]
pub(super) struct Table {
    /// What the map is, as a message names it, for example `a target`.
    pub(super) what: &'static str,
    pub(super) keys: &'static [Key],
}

/// One key of a map.
#[derive(Debug)]
pub(super) struct Key {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    pub(super) required: bool,
    pub(super) doc: &'static str,
}

/// What a value may be.
#[derive(Debug)]
pub(super) enum Kind {
    /// Text on one line, not empty.
    Text,
    /// `true` or `false`.
    Flag,
    /// A whole number, both ends included.
    Whole(u64, u64),
    /// One of some words, each for a number, or a whole number, both ends included.
    WordOrWhole(&'static [(&'static str, u64)], u64, u64),
    /// A number, both ends included.
    Number(f64, f64),
    /// A duration such as `500ms`, both ends included.
    Time(Duration, Duration),
    /// A number of bytes, plain or such as `64KiB`, both ends included.
    Size(u64, u64),
    /// The size of a buffer, in bytes or as lines.
    Buffer,
    /// One of some words.
    Choice(&'static [&'static str]),
    /// The word `auto`, or something else.
    AutoOr(&'static Kind),
    /// A list that is not empty.
    List(&'static Kind),
    /// One of something, or a list of them that is not empty.
    OneOrList(&'static Kind),
    /// A regular expression, on a whole text or on a part of it.
    Expression,
    /// A glob.
    Glob,
    /// `HOST[:PORT]` or `FIRST-LAST[:PORT]`.
    UdpAddress,
    /// `HOST:PORT`.
    TcpAddress,
    /// SHA-256 in hex.
    Sha256,
    /// A hash in hex, or the name of an image.
    Hash,
    /// A requirement on a version.
    Requirement,
    /// A requirement on a version, or one for each image number.
    Requirements,
    /// An exact version.
    Version,
    /// `8`, `8..24` or `8..`.
    Expect,
    /// A map.
    Map(&'static Table),
    /// A map with free names.
    Named(&'static Table),
    /// A map of anything.
    AnyMap,
    /// Values of settings by name.
    SettingValues,
    /// Anything.
    Any,
    /// The steps of a target.
    Steps,
    /// A description of simulated devices.
    SimDevices,
}

const fn opt(name: &'static str, kind: Kind, doc: &'static str) -> Key {
    Key { name, kind, required: false, doc }
}

const fn req(name: &'static str, kind: Kind, doc: &'static str) -> Key {
    Key { name, kind, required: true, doc }
}

const fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

const MS: Duration = Duration::from_millis(1);
const HOUR: u64 = 3600;
const DAY: u64 = 24 * HOUR;

/// Most devices of one target.
const DEVICES: u64 = 100_000;

pub(super) static PLAN: Table = Table {
    what: "a plan",
    keys: &[
        req("version", Kind::Whole(1, 1), "Version of the plan format: 1."),
        opt("name", Kind::Text, "Name of the plan in reports. Default: the file's name without its ending."),
        opt("images", Kind::Named(&IMAGE), "Images by the name that steps use."),
        req(
            "targets",
            Kind::List(&Kind::Map(&TARGET)),
            "Groups of devices, and what is done to each device.",
        ),
        opt("policy", Kind::Map(&POLICY), "What holds for the whole run."),
    ],
};

pub(super) static IMAGE: Table = Table {
    what: "an image",
    keys: &[
        opt(
            "file",
            Kind::Text,
            "MCUboot image file (.bin, .hex) or package (.zip with manifest.json), relative to the plan. Either this or `sim`.",
        ),
        opt("sha256", Kind::Sha256, "The whole file must hash to this SHA-256."),
        opt(
            "version",
            Kind::Requirements,
            "Requirement on the version in the image header, for example `\">=2.4.0\"`. A version alone must be met exactly. Of a package, every image must meet it, or each its own: `{ 0: \">=2.4.0\", 1: \">=1.1\" }`, by image number.",
        ),
        opt(
            "verify_key",
            Kind::Text,
            "Public key file (PEM), relative to the plan: the signature must verify. Of a package, that of every image.",
        ),
        opt(
            "sim",
            Kind::Map(&SIM_IMAGE),
            "An image made for this run, instead of a file: for simulated devices only.",
        ),
    ],
};

pub(super) static SIM_IMAGE: Table = Table {
    what: "a simulated image",
    keys: &[
        req("version", Kind::Version, "Version in its header, `major.minor.revision[+build]`."),
        opt("size", Kind::Size(1024, 16 * 1024 * 1024), "Bytes of the image body. Default: 64KiB."),
        opt(
            "ram_load",
            Kind::Flag,
            "Whether it is made to be copied to RAM, for devices with `mode: ram_load`. Default: false.",
        ),
    ],
};

pub(super) static TARGET: Table = Table {
    what: "a target",
    keys: &[
        req("name", Kind::Text, "Name of the target: unique within the plan."),
        req(
            "match",
            Kind::Map(&MATCH),
            "Which devices: exactly one kind, and conditions that must all hold.",
        ),
        opt("link", Kind::Map(&LINK), "How to talk to the devices."),
        opt(
            "bootloader",
            Kind::Choice(&[
                "auto",
                "swap",
                "overwrite-only",
                "direct-xip",
                "direct-xip-with-revert",
                "ram-load",
            ]),
            "How MCUboot puts a new image into use, for devices that do not tell it. One that tells something else is refused. Default: auto, which is to ask the device.",
        ),
        opt(
            "discover",
            Kind::Time(secs(0), secs(DAY)),
            "How long to wait for `expect` devices. Default: 10s.",
        ),
        opt("expect", Kind::Expect, "How many devices there must be. Default: `\"1..\"`."),
        opt(
            "starts_in",
            Kind::Choice(&["application", "bootloader"]),
            "What answers before the first step: the application (default), or MCUboot in its serial recovery.",
        ),
        opt(
            "steps",
            Kind::Steps,
            "What is done to each device, in order. Default: upload the only image, test-boot, confirm, reset; where `starts_in` is `bootloader`: upload the only image, reset.",
        ),
    ],
};

/// The keys of [`MATCH`] that name a kind of device, of which exactly one is given.
pub(super) const MATCH_KINDS: [&str; 6] = ["usb", "port", "ble", "udp", "tcp", "sim"];

pub(super) static MATCH: Table = Table {
    what: "a match",
    keys: &[
        opt(
            "usb",
            Kind::OneOrList(&Kind::Expression),
            "Kind: USB serial. Regular expression on `vid:pid:interface`: case-insensitive, anchored, hexadecimal ids, decimal interface, which may be left out to mean any.",
        ),
        opt("port", Kind::OneOrList(&Kind::Glob), "Kind: serial ports. Glob on port names."),
        opt(
            "ble",
            Kind::OneOrList(&Kind::Expression),
            "Kind: Bluetooth Low Energy. Regular expression on names, or addresses.",
        ),
        opt(
            "udp",
            Kind::List(&Kind::UdpAddress),
            "Kind: UDP. `HOST[:PORT]` is a claim, `FIRST-LAST[:PORT]` a search. The port is 1337 where none is given.",
        ),
        opt("tcp", Kind::List(&Kind::TcpAddress), "Kind: serial servers over TCP. `HOST:PORT`."),
        opt("sim", Kind::SimDevices, "Kind: simulated devices."),
        opt(
            "bootloader_usb",
            Kind::Expression,
            "What the same board is called while in its bootloader, as in `usb`.",
        ),
        opt("serial_number", Kind::Expression, "Condition on the USB serial number."),
        opt("product", Kind::Expression, "Condition on the USB product string."),
        opt("hub_path", Kind::Expression, "Condition on the USB bus and port chain, for example `1-2.3`."),
    ],
};

pub(super) static LINK: Table = Table {
    what: "a link",
    keys: &[
        opt("baud", Kind::Whole(300, 20_000_000), "Bits per second on serial links. Default: 115200."),
        opt(
            "framing",
            Kind::Choice(&["console", "raw", "cobs", "auto"]),
            "Framing on serial links: base64 lines, bare messages, COBS, or found out. Default: console.",
        ),
        opt(
            "window",
            Kind::AutoOr(&Kind::Whole(1, 64)),
            "Requests in flight. Default: auto, which the server's buffers decide.",
        ),
        opt(
            "buffer",
            Kind::AutoOr(&Kind::Buffer),
            "The server's buffer: its size in bytes, or the length of its lines times their count, for example 128x4. Default: auto, which is to ask the server.",
        ),
        opt(
            "timeout",
            Kind::AutoOr(&Kind::Time(Duration::from_millis(10), secs(600))),
            "How long one request waits for its answer. Default: auto, which depends on the request.",
        ),
        opt("retries", Kind::Whole(0, 100), "How often a request is sent again. Default: 3."),
        opt("quiet", Kind::Time(secs(0), secs(600)), "Silence after a device left in a reset. Default: 1s."),
        opt(
            "return_within",
            Kind::Time(secs(1), secs(DAY)),
            "How long a device may take to answer after a reset. Default: 60s.",
        ),
        opt("dtr", Kind::Choice(&["keep", "on", "off"]), "The data terminal ready line. Default: keep."),
        opt("rts", Kind::Choice(&["keep", "on", "off"]), "The request to send line. Default: keep."),
        opt(
            "flow_control",
            Kind::Choice(&["none", "hardware", "software"]),
            "Flow control of a serial port. Default: none.",
        ),
        opt(
            "line_length",
            Kind::Whole(16, 4096),
            "Longest line of console framing, in bytes, marker and newline included; where `buffer` is told in lines, as long as these. Default: 128.",
        ),
        opt(
            "mtu",
            Kind::AutoOr(&Kind::Whole(23, 65_507)),
            "Largest UDP datagram, or most of the BLE MTU that is used, in bytes. Default: auto.",
        ),
    ],
};

pub(super) static POLICY: Table = Table {
    what: "a policy",
    keys: &[
        opt("parallel", Kind::Whole(1, DEVICES), "Devices at once. Default: no limit for wired devices."),
        opt("per_hub", Kind::Whole(1, DEVICES), "Devices at once behind one USB hub. Default: no limit."),
        opt("per_adapter", Kind::Whole(1, 64), "BLE connections at once on one adapter. Default: 3."),
        opt(
            "attempts",
            Kind::Whole(1, 100),
            "Attempts per device: for link and station causes only, never after an image was refused or reverted. Default: 3.",
        ),
        opt(
            "recover",
            Kind::List(&Kind::Text),
            "A program and its arguments, run once for a device that never returned.",
        ),
        opt(
            "deadline",
            Kind::Time(secs(1), secs(7 * DAY)),
            "Longest time per device, all attempts together. Default: 30m.",
        ),
        opt(
            "canary",
            Kind::Whole(0, DEVICES),
            "Finish this many first; go on only if they pass. Default: 0.",
        ),
        opt("stop_after", Kind::Map(&STOP_AFTER), "When to stop starting devices."),
    ],
};

pub(super) static STOP_AFTER: Table = Table {
    what: "a stop_after",
    keys: &[
        opt("failures", Kind::Whole(1, DEVICES), "This many devices did not pass."),
        opt(
            "percent",
            Kind::Number(0.01, 100.0),
            "This share of the finished devices did not pass, in percent.",
        ),
        opt(
            "of_at_least",
            Kind::Whole(1, DEVICES),
            "The share counts once this many devices have finished. Default: 1.",
        ),
    ],
};

/// One step form.
#[derive(Debug)]
pub(super) struct StepForm {
    pub(super) name: &'static str,
    pub(super) takes: Takes,
    pub(super) doc: &'static str,
}

/// What may follow the name of a step.
#[derive(Debug)]
pub(super) enum Takes {
    /// Nothing: the step is a word.
    Nothing,
    /// Nothing, or options.
    Options(&'static Table),
    /// One value, or a map in which the value has a key.
    ValueOrMap(&'static Kind, &'static Table),
    /// One value.
    Value(&'static Kind),
}

const fn step(name: &'static str, takes: Takes, doc: &'static str) -> StepForm {
    StepForm { name, takes, doc }
}

pub(super) const MAX_IMAGE_NUMBER: u64 = 15;

/// MCUboot numbers slots through: two for each image.
const MAX_SLOT: u64 = 2 * MAX_IMAGE_NUMBER + 1;

pub(super) static STEPS: [StepForm; 15] = [
    step(
        "upload",
        Takes::ValueOrMap(&Kind::Text, &UPLOAD),
        "Put an image into the secondary slot; nothing is done where it is already running and confirmed, or already there.",
    ),
    step(
        "test-boot",
        Takes::Nothing,
        "Mark the uploaded image for test, reset once, and prove that it runs.",
    ),
    step("confirm", Takes::Nothing, "Make the running image permanent, only where it is the uploaded one."),
    step("reset", Takes::Options(&RESET), "Reset once, and require that what was proved still holds."),
    step("verify", Takes::Value(&Kind::Map(&VERIFY)), "Require what is said of the running image."),
    step("erase", Takes::Options(&ERASE), "Erase a slot."),
    step(
        "run",
        Takes::Value(&Kind::List(&Kind::Text)),
        "Run a program on this machine, with FLASHFLEET_* variables naming the device; a non-zero exit fails the step.",
    ),
    step("delay", Takes::Value(&Kind::Time(MS, secs(DAY))), "Wait."),
    step(
        "erase-storage",
        Takes::Nothing,
        "Erase the storage partition, once: settings, and files where they lie in it.",
    ),
    step(
        "shell",
        Takes::Value(&Kind::Map(&SHELL)),
        "Run a shell command on the device, once: it must return 0, and the output must match.",
    ),
    step("put", Takes::Value(&Kind::Map(&PUT)), "Write a file to the device, and compare what is there."),
    step("get", Takes::Value(&Kind::Map(&GET)), "Read a file from the device."),
    step("settings", Takes::Value(&Kind::Map(&SETTINGS)), "Change settings."),
    step("set-time", Takes::Nothing, "Set the device's clock from this machine's, in UTC, and read it back."),
    step("smp", Takes::Value(&Kind::Map(&SMP)), "Any SMP command; a write is sent once."),
];

pub(super) static UPLOAD: Table = Table {
    what: "an upload",
    keys: &[
        req("image", Kind::Text, "Name of an image of the plan."),
        opt(
            "image_number",
            Kind::Whole(0, MAX_IMAGE_NUMBER),
            "Image number on the device. Default: 0, or of a package each of its images.",
        ),
        opt("upgrade_only", Kind::Flag, "Let the device refuse a version that is not newer. Default: false."),
        opt("force", Kind::Flag, "Upload even where the image is there already. Default: false."),
    ],
};

/// `smp_group_0.rst`, "System reset": `boot_mode`.
pub(super) static BOOT_MODES: [(&str, u64); 2] = [("normal", 0), ("bootloader", 1)];

/// The management groups that have a number in the specification, as `flashfleet smp` names them.
pub(super) static GROUPS: [(&str, u64); 8] = [
    ("os", group::OS as u64),
    ("image", group::IMAGE as u64),
    ("stat", group::STAT as u64),
    ("settings", group::SETTINGS as u64),
    ("fs", group::FS as u64),
    ("shell", group::SHELL as u64),
    ("enum", group::ENUM as u64),
    ("zephyr", group::ZEPHYR as u64),
];

pub(super) static RESET: Table = Table {
    what: "a reset",
    keys: &[
        opt("force", Kind::Flag, "Reset even where the application would refuse. Default: false."),
        opt(
            "boot_mode",
            Kind::WordOrWhole(&BOOT_MODES, 0, 255),
            "What to boot into: `normal`, `bootloader`, or a number that the device knows. Default: the application. What then runs is not proven.",
        ),
    ],
};

pub(super) static VERIFY: Table = Table {
    what: "a verify",
    keys: &[
        opt(
            "version",
            Kind::Requirement,
            "Requirement on the running version. A version alone must be met exactly.",
        ),
        opt("hash", Kind::Hash, "TLV hash of the running image in hex, or the name of an image of the plan."),
        opt("confirmed", Kind::Flag, "Whether the running image is confirmed."),
        opt("echo", Kind::Text, "A text that the device must send back."),
    ],
};

pub(super) static ERASE: Table = Table {
    what: "an erase",
    keys: &[opt("slot", Kind::Whole(0, MAX_SLOT), "Slot number. Default: 1, the secondary slot of image 0.")],
};

pub(super) static SHELL: Table = Table {
    what: "a shell step",
    keys: &[
        req("run", Kind::Text, "The command line."),
        opt(
            "expect",
            Kind::Expression,
            "Regular expression that must match somewhere in the output: case matters, `^` and `$` are the ends of a line.",
        ),
        opt(
            "timeout",
            Kind::Time(MS, secs(DAY)),
            "How long the command may run. Default: the link's `timeout`, or 30s where that is auto.",
        ),
    ],
};

pub(super) static PUT: Table = Table {
    what: "a put",
    keys: &[
        req(
            "file",
            Kind::Text,
            "File on this machine, relative to the plan; may hold `{serial_number}` and others.",
        ),
        req("to", Kind::Text, "Absolute path on the device; one that ends with `/` gets the file's name."),
    ],
};

pub(super) static GET: Table = Table {
    what: "a get",
    keys: &[
        req("from", Kind::Text, "Absolute path on the device."),
        req(
            "file",
            Kind::Text,
            "File on this machine, relative to the plan, with `{serial_number}` or another part of its own for each device.",
        ),
    ],
};

pub(super) static SETTINGS: Table = Table {
    what: "a settings step",
    keys: &[
        opt(
            "set",
            Kind::SettingValues,
            "Values by name: text, or its type and the value, for example `{ u32: 5 }` or `{ hex: \"00ff\" }`.",
        ),
        opt("delete", Kind::OneOrList(&Kind::Text), "Names of settings to delete from the storage."),
        opt("commit", Kind::Flag, "Whether to have the application apply what was set. Default: false."),
        opt("save", Kind::Flag, "Whether to save to the storage. Default: false."),
    ],
};

pub(super) static SMP: Table = Table {
    what: "an smp step",
    keys: &[
        req("op", Kind::Choice(&["read", "write"]), "Operation."),
        req("group", Kind::WordOrWhole(&GROUPS, 0, 65_535), "Group: a number, or a name such as `os`."),
        req("command", Kind::Whole(0, 255), "Command number."),
        opt("data", Kind::AnyMap, "What the request carries; byte strings as `{ $bytes: \"00ff\" }`."),
        opt("expect", Kind::Any, "What the answer must contain."),
    ],
};

/// Every table, for tests.
#[cfg(test)]
pub(super) static TABLES: [&Table; 17] = [
    &PLAN,
    &IMAGE,
    &SIM_IMAGE,
    &TARGET,
    &MATCH,
    &LINK,
    &POLICY,
    &STOP_AFTER,
    &UPLOAD,
    &RESET,
    &VERIFY,
    &ERASE,
    &SHELL,
    &PUT,
    &GET,
    &SETTINGS,
    &SMP,
];
