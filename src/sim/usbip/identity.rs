//! What a board shows of itself on the bus: as application, as bootloader, after an update. The bytes that say it are
//! made in `descriptor.rs`.

use super::spec::{UsbId, UsbKind, UsbSpec, UsbSpeed, fill};

/// As what a board is on the bus.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// Its application.
    Application {
        /// Another image runs than the first one.
        updated: bool,
    },
    /// Its bootloader: one port, silent unless it stays in its recovery.
    Bootloader,
}

/// What a board shows of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) kind: UsbKind,
    pub(super) id: UsbId,
    pub(super) serial_number: Option<String>,
    pub(super) product: Option<String>,
    pub(super) manufacturer: Option<String>,
    pub(super) functions: u8,
    pub(super) speed: UsbSpeed,
}

impl Identity {
    /// The board with this name and number, from 1, in a role.
    pub(super) fn new(spec: &UsbSpec, role: Role, name: &str, number: usize) -> Self {
        let bootloader = spec.bootloader.as_ref().filter(|_| role == Role::Bootloader);
        let updated = spec.updated.as_ref().filter(|_| role == Role::Application { updated: true });
        let id = bootloader.map(|it| it.id).or(updated.and_then(|it| it.id)).unwrap_or(spec.id());
        let serial = bootloader
            .and_then(|it| it.serial_number.as_ref())
            .or(updated.and_then(|it| it.serial_number.as_ref()))
            .unwrap_or(&spec.serial_number);
        let product = bootloader
            .and_then(|it| it.product.as_ref())
            .or(updated.and_then(|it| it.product.as_ref()))
            .unwrap_or(&spec.product);
        let text = |text: &str| Some(fill(text, name, number)).filter(|text| !text.is_empty());
        Self {
            kind: spec.kind,
            id,
            serial_number: text(serial),
            product: text(product),
            manufacturer: text(&spec.manufacturer),
            functions: if bootloader.is_some() { 1 } else { spec.functions },
            speed: spec.speed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::usbip::{BootloaderSpec, UpdatedSpec};

    #[test]
    fn bootloader_and_update_change_what_they_name() {
        let id = |pid| UsbId { vid: 0x2fe3, pid };
        let spec = UsbSpec {
            functions: 2,
            bootloader: Some(BootloaderSpec {
                id: id(0x0100),
                ms: 500,
                serial_number: Some(String::new()),
                product: None,
            }),
            updated: Some(UpdatedSpec {
                id: None,
                serial_number: Some("NEW{n}".to_owned()),
                product: Some("Board 2".to_owned()),
            }),
            ..UsbSpec::default()
        };
        let of = |role| {
            let it = Identity::new(&spec, role, "device-3", 3);
            (it.id.pid, it.serial_number, it.product, it.functions)
        };
        let text = |text: &str| Some(text.to_owned());
        let application = of(Role::Application { updated: false });
        assert_eq!(application, (4, text("device-3"), text("Simulated board"), 2));
        assert_eq!(of(Role::Bootloader), (0x0100, None, text("Simulated board"), 1));
        assert_eq!(of(Role::Application { updated: true }), (4, text("NEW3"), text("Board 2"), 2));
    }
}
