//! What goes wrong with Bluetooth, in words. What the system's own errors mean is told in `system`.

use std::fmt::Display;
use std::future::Future;
use std::time::Duration;

use tokio::time::timeout;

use super::super::link::{LinkError, LinkErrorKind};

/// How long a call may take that only asks the system and puts nothing on the air. BlueZ answers within milliseconds; a
/// busy one was seen to take two seconds.
pub(super) const CALL_WITHIN: Duration = Duration::from_secs(10);

/// The system has no Bluetooth service: no D-Bus daemon, no BlueZ, or they do not let this user in.
pub fn no_daemon(said: impl Display) -> LinkError {
    let help = if cfg!(target_os = "linux") {
        "start D-Bus and BlueZ (`sudo systemctl start dbus bluetooth`); in a container share /run/dbus with it. Where access \
         is denied, add the user to the group `bluetooth`"
    } else {
        "allow this program to use Bluetooth in the system's settings"
    };
    LinkError::new(
        LinkErrorKind::NoBluetooth,
        format!("expected the system's Bluetooth service, it cannot be reached: {said}"),
        help,
    )
}

/// No adapter.
pub fn no_adapter() -> LinkError {
    LinkError::new(
        LinkErrorKind::NoAdapter,
        "expected a Bluetooth adapter, this machine has none",
        "plug one in; where there is one, `bluetoothctl list` must show it",
    )
}

/// An adapter that is switched off.
pub fn adapter_off(adapter: &str) -> LinkError {
    LinkError::new(
        LinkErrorKind::AdapterOff,
        format!("expected the Bluetooth adapter {adapter} to be switched on, it is off"),
        "switch it on: `bluetoothctl power on`, and `rfkill unblock bluetooth` where it is blocked",
    )
}

/// A peripheral that is not in reach.
pub fn no_such_peripheral(address: &str) -> LinkError {
    LinkError::new(
        LinkErrorKind::NotFound,
        format!("expected to hear Bluetooth device {address}, it does not advertise in reach"),
        "check its power and distance, and that nothing else is connected to it; `flashfleet list --ble` shows what there is",
    )
}

/// A connection that is gone.
pub fn disconnected(address: &str, why: impl Display) -> LinkError {
    LinkError::new(
        LinkErrorKind::Disconnected,
        format!("expected the connection with {address} to hold, it is gone: {why}"),
        "bring the device nearer, and check that it did not reset or lose power",
    )
}

/// A peripheral that wants a bond.
pub fn not_paired(address: &str, said: impl Display) -> LinkError {
    let mac = address.trim_start_matches("ble:");
    LinkError::new(
        LinkErrorKind::PairingRequired,
        format!(
            "expected {address} to let this machine in, it wants a bond (an encrypted or authenticated connection): {said}"
        ),
        format!(
            "bond this machine with it once: run `bluetoothctl`, in it `agent KeyboardDisplay`, `scan le`, `pair {mac}` and \
             `trust {mac}`; then run again. Or build its firmware without CONFIG_MCUMGR_TRANSPORT_BT_PERM_RW_AUTHEN"
        ),
    )
}

/// A peripheral without the service or the characteristic of SMP.
pub fn not_smp(address: &str, missing: impl Display) -> LinkError {
    LinkError::new(
        LinkErrorKind::NoSmpService,
        format!("expected {address} to be an SMP server, {missing}"),
        "check the name in `match`; the firmware needs CONFIG_MCUMGR_TRANSPORT_BT. Where it has it, the system may remember an \
         older firmware's services: `bluetoothctl remove ADDRESS`",
    )
}

/// A call to the device by way of the system that did not come back.
pub fn hung(what: &str, within: Duration) -> LinkError {
    LinkError::new(
        LinkErrorKind::Io,
        format!("expected the system to {what} within {} s, it did not", within.as_secs_f32()),
        "bring the device nearer; where it happens with every device, restart Bluetooth (`sudo systemctl restart bluetooth`)",
    )
}

/// A call that asks only this machine, and did not come back.
pub fn service_hangs(what: &str, within: Duration) -> LinkError {
    LinkError::new(
        LinkErrorKind::Unavailable,
        format!(
            "expected the system's Bluetooth service to {what} within {} s, it did not",
            within.as_secs_f32()
        ),
        "restart Bluetooth (`sudo systemctl restart bluetooth`); where that does not help, unplug the adapter and plug it in \
         again",
    )
}

/// Gives a `call` to the device this much time and no more.
pub(super) async fn limited<T>(
    what: &str,
    within: Duration,
    call: impl Future<Output = Result<T, LinkError>>,
) -> Result<T, LinkError> {
    timeout(within, call).await.unwrap_or_else(|_elapsed| Err(hung(what, within)))
}

/// Gives a `call` that asks only this machine its time and no more.
pub(super) async fn asked<T>(
    what: &str,
    call: impl Future<Output = Result<T, LinkError>>,
) -> Result<T, LinkError> {
    timeout(CALL_WITHIN, call).await.unwrap_or_else(|_elapsed| Err(service_hangs(what, CALL_WITHIN)))
}
