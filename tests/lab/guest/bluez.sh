#!/bin/bash
# Bluetooth as a distribution starts it: `bluez.sh HOST:PORT...`, with an adapter for each that is switched on. Prints
# "ready", and goes on until it is killed. Nothing of earlier ones is left: no bond, no device that BlueZ remembers.
set -e
rm -rf /run/dbus /var/lib/bluetooth
mkdir -p /run/dbus /var/lib/bluetooth
[ -e /var/run/dbus ] || ln -s /run/dbus /var/run/dbus
modprobe -a bluetooth hci_vhci ecdh_generic cmac ecb aes_generic
dbus-daemon --system --nofork --nopidfile >/run/dbus.log 2>&1 &
until [ -S /run/dbus/system_bus_socket ]; do sleep 0.05; done
/usr/libexec/bluetooth/bluetoothd --nodetach >/run/bluetoothd.log 2>&1 &
[ $# = 0 ] || python3 /lab/vhci.py "$@" >/run/vhci.log 2>&1 &

# What a desktop does once an adapter appears.
switch_on() {
    dbus-send --system --print-reply --reply-timeout=5000 --dest=org.bluez "/org/bluez/$1" \
        org.freedesktop.DBus.Properties.Set string:org.bluez.Adapter1 string:Powered variant:boolean:true
}
for ((number = 0; number < $#; number++)); do
    until switch_on "hci$number" >/run/switch_on.log 2>&1; do sleep 0.1; done
done
until dbus-send --system --print-reply --dest=org.bluez / org.freedesktop.DBus.Peer.Ping >/run/ping.log 2>&1; do
    sleep 0.1
done
echo ready
wait
