//! flashfleet updates the firmware of many devices at once over SMP (Simple Management Protocol) and
//! proves that the new firmware booted.
//!
//! Data flows one way: plan → targets → devices → steps → events → reports.
//!
//! | module | holds |
//! | --- | --- |
//! | [`smp`] | the protocol, without I/O and without a clock |
//! | [`image`] | MCUboot images |
//! | [`transport`] | links to devices, and how devices are found |
//! | [`client`] | one device's SMP conversation over a link |
//! | [`sim`] | simulated devices |
//! | [`plan`] | the plan file |
//! | [`flow`] | what to do next with one device, without I/O |
//! | [`actors`] | device, scheduler and reporter |
//! | [`report`] | events, and the reports made of them |
//! | [`cli`] | the command line |
//! | [`cause`], [`identity`] | words that all of the above share |
//!
//! # A device, updated
//!
//! What `flashfleet update` does, by a program of one's own: it looks at what is there, uploads, boots the new image on
//! test, requires that exactly this image runs, confirms it, resets, and looks again. Every plan goes through
//! [`actors::Run`], so whatever is true of `flashfleet run` is true of it: nothing is sent twice that must not be, and the
//! report has one verdict for each device.
//!
//! ```
//! use std::path::Path;
//!
//! use flashfleet::actors::{Run, in_system};
//! use flashfleet::cause::Cause;
//! use flashfleet::client::Client;
//! use flashfleet::image::ImageSet;
//! use flashfleet::plan::{LinkOptions, Plan, Step, Target};
//! use flashfleet::report::Outcome;
//! use flashfleet::smp::message::image::ListImages;
//! use flashfleet::transport::Address;
//!
//! fn update(address: Address, file: &Path) -> Result<bool, Cause> {
//!     in_system(async {
//!         let mut client = Client::connect(&address, &LinkOptions::default()).await?;
//!         for slot in client.request(&ListImages {}).await?.images {
//!             println!("image {} slot {}: version {}", slot.image, slot.slot, slot.version);
//!         }
//!         client.close().await;
//!         Ok::<_, Cause>(())
//!     })?;
//!
//!     let image = ImageSet::load(file)?;
//!     let target = Target::new("device", address.try_into()?, Step::update("app", &image));
//!     let plan = Plan::new("update").with_image("app", image).with_target(target);
//!     let report = Run::new(plan).run_blocking()?.report;
//!
//!     for device in &report.devices {
//!         println!("{}: {} {:?}", device.address, device.verdict, device.cause);
//!     }
//!     Ok(report.run.outcome == Outcome::Passed)
//! }
//!
//! fn main() -> Result<(), Cause> {
//! #   // A simulated device, so that this example runs.
//! #   use flashfleet::sim::{EndpointKind, Fleet, SimSpec, SimTransport};
//! #   let (here, there) = std::sync::mpsc::channel();
//! #   let _device = std::thread::spawn(move || {
//! #       in_system(async move {
//! #           let spec = SimSpec { transport: SimTransport::Udp, boot_ms: 10, ..SimSpec::default() };
//! #           let fleet = Fleet::new(&spec).expect("a device");
//! #           let socket = EndpointKind::Udp(([127, 0, 0, 1], 0).into());
//! #           let endpoint = fleet.serve(0, socket).expect("a socket");
//! #           here.send(endpoint.address()).expect("somebody who wants to know");
//! #           std::future::pending::<()>().await
//! #       })
//! #   });
//! #   let folder = tempfile::tempdir().expect("a folder");
//! #   let file = folder.path().join("app.signed.bin");
//! #   let image = flashfleet::image::ImageBuilder::new().version("2.0.0").payload(&[0x5a; 4000]).build();
//! #   std::fs::write(&file, image).expect("a file");
//! #   assert!(update(there.recv().expect("an address").parse()?, &file)?);
//! #   return Ok(());
//! #   #[expect(unreachable_code, reason = "what a reader sees")]
//!     update("usb:2fe3:0004".parse()?, Path::new("app.signed.bin")).map(drop)
//! }
//! ```
//!
//! Single commands are in [`smp::message`], one module for each management group, each with an example. They are sent
//! by a [`client::Client`], which also uploads images and carries whole files. A plan file is read by [`plan::load`]; images
//! are read and checked by [`image`]; devices to try all this with are in [`sim`], in memory or behind real endpoints.

pub mod actors;
pub mod cause;
pub mod cli;
pub mod client;
pub mod exit;
pub mod flow;
pub mod identity;
pub mod image;
pub mod plan;
pub mod report;
#[cfg(test)]
mod schemas;
pub mod sim;
pub mod smp;
pub mod transport;
