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
pub mod sim;
pub mod smp;
pub mod transport;
