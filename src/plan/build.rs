//! Plans that are made in memory: by `flashfleet update`, by tests, and by programs that use the library. How a plan is
//! read from a file does not live here, nor what is checked of one.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::model::{Auto, Expect, LinkOptions, Match, MatchKind, Pattern, Plan, Policy, Target, UdpTarget};
use super::step::Step;
use crate::cause::{Cause, Class};
use crate::image::ImageSet;
use crate::sim::SimSpec;
use crate::transport::{Address, Firmware};

impl Plan {
    /// A plan without images and targets, and with the policy of a plan file that has none. It has no file: its path and
    /// hash are empty.
    ///
    /// What [`load`](super::load) checks of a file is up to whoever makes a plan: that names are unique, that steps name
    /// images that are there (`internal.unknown_image` at the device otherwise) and that they stand in an order that makes
    /// sense.
    ///
    /// ```
    /// use flashfleet::image::{Image, ImageBuilder, ImageSet};
    /// use flashfleet::plan::{Expect, Plan, Step, Target};
    /// use flashfleet::transport::Address;
    ///
    /// let bytes = ImageBuilder::new().version("2.0.0").payload(b"firmware").build();
    /// let image = ImageSet::from(Image::from_bytes(bytes)?);
    /// let boards: Address = "usb:2fe3:0004".parse()?;
    /// let target = Target {
    ///     expect: Expect { min: 24, max: Some(24) },
    ///     ..Target::new("boards", boards.try_into()?, Step::update("app", &image))
    /// };
    /// let plan = Plan::new("line").with_image("app", image).with_target(target);
    /// assert_eq!(plan.targets[0].steps.len(), 4);
    /// # Ok::<(), flashfleet::cause::Cause>(())
    /// ```
    #[must_use]
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            path: PathBuf::new(),
            sha256: String::new(),
            images: BTreeMap::new(),
            targets: Vec::new(),
            policy: Policy::default(),
        }
    }

    /// The same with one more image, or another of that name.
    #[must_use]
    pub fn with_image(mut self, name: impl Into<String>, image: impl Into<ImageSet>) -> Self {
        self.images.insert(name.into(), Arc::new(image.into()));
        self
    }

    /// The same with one more target.
    #[must_use]
    pub fn with_target(mut self, target: Target) -> Self {
        self.targets.push(target);
        self
    }
}

impl Target {
    /// How long to wait for devices where nothing else is said.
    pub const DISCOVER: Duration = Duration::from_secs(10);

    /// At least one device that `matcher` means, talked to as a plan file would without a `link`.
    #[must_use]
    pub fn new(name: impl Into<String>, matcher: Match, steps: Vec<Step>) -> Self {
        Self {
            name: name.into(),
            matcher,
            link: LinkOptions::default(),
            bootloader: Auto::Auto,
            discover: Self::DISCOVER,
            expect: Expect::default(),
            starts_in: Firmware::Application,
            steps,
        }
    }
}

/// Whatever is of this kind, without further conditions.
impl From<MatchKind> for Match {
    fn from(kind: MatchKind) -> Self {
        Self { kind, bootloader_usb: None, serial_number: None, product: None, hub_path: None }
    }
}

/// Simulated devices.
impl From<SimSpec> for Match {
    fn from(spec: SimSpec) -> Self {
        MatchKind::Sim(spec).into()
    }
}

/// What an address means, in the words of a plan. A `usb:` or `ble:` address may mean several devices.
impl TryFrom<Address> for Match {
    type Error = Cause;

    /// `cli.not_supported` for `sim:`: simulated devices are described, not named.
    fn try_from(address: Address) -> Result<Self, Cause> {
        let kind = match address {
            Address::Serial(path) => {
                let escaped = glob::Pattern::escape(&path);
                MatchKind::Port(glob::Pattern::new(&escaped).into_iter().collect())
            }
            Address::Usb(pattern) => MatchKind::Usb(vec![pattern]),
            Address::Udp(place) => {
                MatchKind::Udp(vec![UdpTarget::Host { host: place.host, port: place.port }])
            }
            Address::Tcp(place) => MatchKind::Tcp(vec![place.to_string()]),
            Address::Ble(name) => MatchKind::Ble(Pattern::new(&regex::escape(&name)).into_iter().collect()),
            Address::Sim(name) => {
                return Err(Cause::new(
                    Class::Plan,
                    "cli.not_supported",
                    format!("expected a device that can be looked for, got the simulated device `{name}`"),
                    "describe simulated devices with `match: { sim: … }`",
                ));
            }
        };
        Ok(kind.into())
    }
}

impl Step {
    /// Uploads an image of the plan as image 0, where it is not on the device yet.
    #[must_use]
    pub fn upload(image: impl Into<String>) -> Self {
        Self::Upload { image: image.into(), image_number: 0, upgrade_only: false, force: false }
    }

    /// A reset into the application, with the proof that what ran still runs.
    #[must_use]
    pub fn reset() -> Self {
        Self::Reset { force: false, boot_mode: None }
    }

    /// What a target of a plan file without `steps` does with the plan's only image: upload, of a package one for each
    /// image number in it, test boot, confirm, reset.
    #[must_use]
    pub fn update(name: &str, image: &ImageSet) -> Vec<Self> {
        let mut steps = Self::uploads(name, image);
        steps.extend([Self::TestBoot, Self::Confirm, Self::reset()]);
        steps
    }

    /// What a target of a plan file without `steps` does where its devices start in their bootloader: upload, and reset
    /// into the application.
    #[must_use]
    pub fn recover(name: &str, image: &ImageSet) -> Vec<Self> {
        let mut steps = Self::uploads(name, image);
        steps.push(Self::reset());
        steps
    }

    fn uploads(name: &str, image: &ImageSet) -> Vec<Self> {
        let upload = |image_number| Self::Upload {
            image: name.to_owned(),
            image_number,
            upgrade_only: false,
            force: false,
        };
        let mut numbers = image.image_numbers();
        if numbers.is_empty() {
            numbers.push(0);
        }
        numbers.into_iter().map(upload).collect()
    }
}
