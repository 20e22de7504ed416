//! What btleplug's errors mean. On Linux they carry D-Bus names, which are told apart here; elsewhere its own few kinds are
//! all there is.

use btleplug::Error;

use super::super::link::{LinkError, LinkErrorKind};
use super::errors::{adapter_off, disconnected, no_daemon, no_such_peripheral, not_paired};

/// What a system's own error is called, and what it says.
struct Named<'a> {
    name: &'a str,
    says: &'a str,
}

/// The D-Bus error behind an error of btleplug.
#[cfg(target_os = "linux")]
fn named(error: &Error) -> Option<Named<'_>> {
    let Error::Other(inner) = error else { return None };
    let Some(bluez_async::BluetoothError::DbusError(dbus)) = inner.downcast_ref() else { return None };
    Some(of_dbus(dbus))
}

#[cfg(target_os = "linux")]
fn of_dbus(error: &dbus::Error) -> Named<'_> {
    Named { name: error.name().unwrap_or_default(), says: error.message().unwrap_or_default() }
}

#[cfg(not(target_os = "linux"))]
fn named(_: &Error) -> Option<Named<'_>> {
    None
}

/// The session with the system's Bluetooth does not work.
pub(super) fn service_unreachable(error: &Error) -> LinkError {
    no_daemon(error)
}

/// Whether an error only says that nothing was connected.
pub(super) fn is_not_connected(error: &Error) -> bool {
    matches!(error, Error::NotConnected | Error::DeviceNotFound)
        || named(error).is_some_and(|named| {
            matches!(
                named.name,
                "org.bluez.Error.NotConnected"
                    | "org.freedesktop.DBus.Error.UnknownObject"
                    | "org.freedesktop.DBus.Error.UnknownMethod"
            )
        })
}

/// What an error on `what` (a device's address, an adapter's name) means.
pub(super) fn classify(error: &Error, what: &str) -> LinkError {
    match error {
        Error::PermissionDenied => no_daemon("this program may not use it"),
        Error::DeviceNotFound => no_such_peripheral(what),
        Error::NotConnected => disconnected(what, error),
        other => match named(other) {
            Some(named) => classify_named(&named, what),
            None => trouble(what, &error.to_string()),
        },
    }
}

/// The names are those of BlueZ (`src/error.c`, `src/gatt-client.c` `create_gatt_dbus_error`, `src/device.c`) and of the
/// D-Bus specification.
fn classify_named(named: &Named<'_>, what: &str) -> LinkError {
    let Named { name, says } = named;
    match *name {
        "org.bluez.Error.NotReady" => adapter_off(what),
        // A GATT operation that the device refused for want of authentication or encryption.
        "org.bluez.Error.NotPermitted" if says.contains("paired") => not_paired(what, says),
        "org.bluez.Error.NotAuthorized"
        | "org.bluez.Error.AuthenticationFailed"
        | "org.bluez.Error.AuthenticationRejected"
        | "org.bluez.Error.AuthenticationTimeout"
        | "org.bluez.Error.AuthenticationCanceled" => not_paired(what, says),
        // ATT errors 0x05 (authentication), 0x08 (authorisation), 0x0c (key size), 0x0f (encryption), where they have no name.
        "org.bluez.Error.Failed"
            if ["0x05", "0x08", "0x0c", "0x0f"]
                .iter()
                .any(|code| says.ends_with(&format!("ATT error: {code}"))) =>
        {
            not_paired(what, says)
        }
        "org.bluez.Error.NotConnected" => disconnected(what, says),
        "org.bluez.Error.Failed" if says.contains("Not connected") => disconnected(what, says),
        "org.bluez.Error.DoesNotExist" => no_such_peripheral(what),
        // The object went away: the device was forgotten, or its adapter unplugged.
        "org.freedesktop.DBus.Error.UnknownObject" | "org.freedesktop.DBus.Error.UnknownMethod" => {
            disconnected(what, "the system does not know it any more")
        }
        "org.freedesktop.DBus.Error.ServiceUnknown"
        | "org.freedesktop.DBus.Error.NameHasNoOwner"
        | "org.freedesktop.DBus.Error.Disconnected"
        | "org.freedesktop.DBus.Error.AccessDenied" => no_daemon(says),
        _ => trouble(what, &format!("{says} ({name})")),
    }
}

fn trouble(what: &str, said: &str) -> LinkError {
    LinkError::new(
        LinkErrorKind::Io,
        format!("expected Bluetooth to work with {what}, the system said: {said}"),
        "bring the device nearer and see that nothing else is connected to it; where it happens with every device, restart \
         Bluetooth (`sudo systemctl restart bluetooth`)",
    )
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    fn of_bluez(name: &'static str, says: &str) -> Error {
        let dbus = dbus::Error::new_custom(name, says);
        Error::Other(Box::new(bluez_async::BluetoothError::DbusError(dbus)))
    }

    #[test]
    fn what_bluez_says_is_told_apart_by_its_name() {
        use LinkErrorKind::{AdapterOff, Disconnected, Io, NoBluetooth, NotFound, PairingRequired};
        for (name, says, kind) in [
            ("org.bluez.Error.NotReady", "Resource Not Ready", AdapterOff),
            ("org.bluez.Error.NotPermitted", "Not paired", PairingRequired),
            ("org.bluez.Error.NotPermitted", "Write not permitted", Io),
            ("org.bluez.Error.NotAuthorized", "Operation Not Authorized", PairingRequired),
            ("org.bluez.Error.Failed", "Operation failed with ATT error: 0x0f", PairingRequired),
            ("org.bluez.Error.Failed", "Operation failed with ATT error: 0x0e", Io),
            ("org.bluez.Error.Failed", "Not connected", Disconnected),
            ("org.bluez.Error.Failed", "le-connection-abort-by-local", Io),
            ("org.bluez.Error.NotConnected", "Not Connected", Disconnected),
            ("org.bluez.Error.DoesNotExist", "Does Not Exist", NotFound),
            ("org.freedesktop.DBus.Error.UnknownObject", "Method \"Connect\" …", Disconnected),
            ("org.freedesktop.DBus.Error.ServiceUnknown", "org.bluez was not provided", NoBluetooth),
            ("org.freedesktop.DBus.Error.AccessDenied", "Rejected send message", NoBluetooth),
        ] {
            let error = classify(&of_bluez(name, says), "ble:F0:00:00:00:00:01");
            assert_eq!(error.kind, kind, "{name}: {says}: {error}");
        }
        let other = classify(&of_bluez("org.bluez.Error.InProgress", "In Progress"), "hci0");
        assert!(
            other.message.ends_with("hci0, the system said: In Progress (org.bluez.Error.InProgress)"),
            "{other}"
        );
    }

    #[test]
    fn nothing_to_disconnect_is_told_from_trouble() {
        assert!(is_not_connected(&of_bluez("org.bluez.Error.NotConnected", "Not Connected")));
        assert!(is_not_connected(&Error::DeviceNotFound));
        assert!(!is_not_connected(&of_bluez("org.bluez.Error.Failed", "Input/output error")));
    }
}
