"""The air of the lab, without a radio: `peripherals.py ADAPTERS HOST:PORT...`.

Every HOST:PORT is a simulated device, `flashfleet sim --kind radio`, that becomes a BLE peripheral; what is said over its
socket is described in docs/simulator.md. ADAPTERS virtual controllers, each as HCI (H4) over a TCP port of its own, wait
for the guest (guest/vhci.py). Peripherals and adapters all hear each other.

It knows GATT and nothing of SMP. It prints "adapter HOST:PORT" for each adapter, then "ready"; "connected to ADDRESS" and
"disconnected from ADDRESS" with the address of the adapter whenever a peripheral is.
"""

import asyncio
import base64
import dataclasses
import json
import logging
import sys
import time

from bumble import hci, ll
from bumble.controller import Controller
from bumble.core import UUID, AdvertisingData
from bumble.device import Device
from bumble.gatt import (
    GATT_CLIENT_CHARACTERISTIC_CONFIGURATION_DESCRIPTOR,
    Characteristic,
    CharacteristicValue,
    Descriptor,
    Service,
)
from bumble.host import Host
from bumble.keys import MemoryKeyStore
from bumble.link import LocalLink
from bumble.pairing import PairingConfig, PairingDelegate
from bumble.transport.common import AsyncPipeSink, PacketParser

# What a central sees of a peripheral that has left: it heard nothing for the supervision timeout.
LOST = hci.HCI_ErrorCode.CONNECTION_TIMEOUT_ERROR
# Milliseconds between two advertisements. In between the guest, which is emulated, must get its work done.
INTERVAL = 100
# Bytes of one LE data packet, so that the longest notification is not cut into pieces of 27.
PACKET_LENGTH = 251


class Air(LocalLink):
    """Bumble's link, with what a BlueZ host needs beyond it."""

    def send_acl_data(self, sender_controller, destination_address, transport, data):
        # Bumble names the sender by its random address. A BlueZ host scans with one, and connects with its public one.
        connection = sender_controller.le_connections.get(destination_address)
        receiver = self.find_le_controller(destination_address)
        if connection and receiver:
            loop = asyncio.get_running_loop()
            loop.call_soon(receiver.on_link_acl_data, connection.self_address, transport, data)

    def send_ll_control_pdu(self, sender_address, receiver_address, packet):
        # To one that has left: nobody hears it.
        if self.find_le_controller(receiver_address):
            super().send_ll_control_pdu(sender_address, receiver_address, packet)

    def send_advertising_pdu(self, sender_controller, packet):
        if not isinstance(packet, ll.ConnectInd):
            return super().send_advertising_pdu(sender_controller, packet)
        # At once, so that no second adapter connects before the peripheral has stopped advertising.
        for controller in self.controllers - {sender_controller}:
            controller.on_ll_advertising_pdu(packet)

    def advertiser(self, address):
        """The advertiser with this address that is on the air now."""
        for controller in self.controllers:
            for advertiser in (controller.le_legacy_advertiser, *controller.advertising_sets.values()):
                if advertiser.enabled and advertiser.address == address:
                    return advertiser
        return None


class Endpoint(Controller):
    """A virtual controller that can leave."""

    def __init__(self, name, air, **options):
        super().__init__(name, link=air, **options)
        self.le_acl_data_packet_length = PACKET_LENGTH

    def drop_connections(self):
        """Ends every connection as if this side were out of reach; its own host is told too."""
        for connection in list(self.le_connections.values()):
            connection.send_ll_control_pdu(ll.TerminateInd(LOST))
            self.on_le_disconnected(connection, LOST)

    def leave(self):
        self.drop_connections()
        # What was just said is still on its way.
        asyncio.get_running_loop().call_soon(self.link.remove_controller, self)


class Adapter(Endpoint):
    """A central's controller, for BlueZ in the guest."""

    def __init__(self, number, air):
        address = hci.Address(f"C0:98:E5:00:00:{number:02X}", hci.Address.PUBLIC_DEVICE_ADDRESS)
        super().__init__(f"adapter {number}", air, public_address=address)
        # With the first of them Linux waits for an event that Bumble does not send (LE Enhanced Connection Complete);
        # without the others it keeps to the commands of Bluetooth 4, all of which Bumble has.
        self.le_features &= ~(
            hci.LeFeatureMask.LL_PRIVACY
            | hci.LeFeatureMask.LE_EXTENDED_ADVERTISING
            | hci.LeFeatureMask.LE_PERIODIC_ADVERTISING
        )

    def send_hci_packet(self, packet):
        # Bumble repeats the advertising data as the scan response.
        if isinstance(packet, hci.HCI_LE_Advertising_Report_Event):
            (report,) = packet.reports
            if report.event_type == packet.EventType.SCAN_RSP:
                advertiser = self.link.advertiser(report.address)
                if not advertiser or not advertiser.scan_response_data:
                    return
                report = dataclasses.replace(report, data=bytes(advertiser.scan_response_data))
                packet = hci.HCI_LE_Advertising_Report_Event([report])
        super().send_hci_packet(packet)

    def create_le_connection(self, peer_address):
        # What it heard may be out of date: then it goes on waiting for the next advertisement.
        if self.link.advertiser(peer_address):
            super().create_le_connection(peer_address)

    def on_hci_reset_command(self, command):
        # An adapter that is switched off.
        self.drop_connections()
        self.le_scan_enable = False
        self.pending_le_connection = None
        return super().on_hci_reset_command(command)


class H4Sink:
    """Where an adapter's packets go."""

    def __init__(self, writer):
        self.writer = writer

    def on_packet(self, packet):
        self.writer.write(packet)


async def serve_adapter(number, air):
    """Offers one adapter; each connection gets a fresh one, as one that is plugged in anew."""

    async def attached(reader, writer):
        adapter = Adapter(number, air)
        adapter.set_packet_sink(H4Sink(writer))
        parser = PacketParser(adapter)
        try:
            while data := await reader.read(65536):
                parser.feed_data(data)
        except ConnectionError:
            pass  # Unplugged.
        finally:
            adapter.set_packet_sink(None)
            adapter.leave()
            writer.close()

    server = await asyncio.start_server(attached, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    print(f"adapter {host}:{port}", flush=True)
    return server


class Peripheral:
    """The radio of one simulated device."""

    def __init__(self, air, reader, writer):
        self.air = air
        self.reader = reader
        self.writer = writer
        self.name = None
        self.shown = None
        self.controller = None
        self.device = None
        self.characteristic = None
        self.connection = None
        # Bonds outlive a reset.
        self.keys = MemoryKeyStore()

    async def run(self):
        while line := await self.reader.readline():
            message = json.loads(line)
            if "advertise" in message:
                self.name = message["advertise"]["name"] or message["advertise"]["address"]
            if "notify" not in message:
                self.log("is told", message)
            match message:
                case "silence":
                    await self.silence()
                case {"advertise": shown}:
                    await self.advertise(shown)
                case {"notify": value} if self.connection:
                    value = base64.b64decode(value)
                    await self.device.notify_subscriber(self.connection, self.characteristic, value)

    def log(self, what, message):
        """Shown where a scenario fails."""
        if isinstance(message, dict):
            message = next(iter(message))
        now = time.time()
        clock = time.strftime("%H:%M:%S", time.gmtime(now))
        print(f"{clock}.{int(now % 1 * 1000):03} {self.name} {what} {message}", flush=True)

    def say(self, message):
        if "write" not in message:
            self.log("says", message)
        self.writer.write(json.dumps(message).encode() + b"\n")

    async def silence(self):
        if self.device and self.device.is_advertising:
            await self.device.stop_advertising()
        if self.controller:
            self.controller.drop_connections()

    async def advertise(self, shown):
        await self.silence()
        if shown != self.shown:
            if self.controller:
                self.controller.leave()
            await self.power_on(shown)
            self.shown = shown
        await self.device.start_advertising(
            auto_restart=False, advertising_interval_min=INTERVAL, advertising_interval_max=INTERVAL
        )

    async def power_on(self, shown):
        """Makes the peripheral anew: another address, name or service is another one to the world."""
        name = shown["name"] or ""
        self.controller = Endpoint(name or shown["address"], self.air)
        host = Host(self.controller, AsyncPipeSink(self.controller))
        device = Device(name=name, address=hci.Address(shown["address"]), host=host)
        device.keystore = self.keys
        device.pairing_config_factory = lambda _: pairing_config(shown["permission"])
        device.gatt_server.max_mtu = shown["mtu"]
        self.characteristic = self.make_characteristic(device, shown)
        device.add_service(Service(UUID(shown["service"]), [self.characteristic]))
        data = [(AdvertisingData.FLAGS, b"\x06")]
        if shown["advertise_service"]:
            uuid = bytes(UUID(shown["service"]))
            data.append((AdvertisingData.INCOMPLETE_LIST_OF_128_BIT_SERVICE_CLASS_UUIDS, uuid))
        device.advertising_data = bytes(AdvertisingData(data))
        if name:
            answer = [(AdvertisingData.COMPLETE_LOCAL_NAME, name.encode())]
            device.scan_response_data = bytes(AdvertisingData(answer))
        device.on("connection", self.connected)
        await device.power_on()
        self.device = device

    def make_characteristic(self, device, shown):
        written = Characteristic.WRITEABLE
        if shown["permission"] != "open":
            # Bumble takes every encrypted connection for an authenticated one; what differs is how they pair. Without
            # encryption it answers with "insufficient authentication" then, as Zephyr does to those without a bond.
            written |= Characteristic.WRITE_REQUIRES_AUTHENTICATION
        subscription = Descriptor(
            GATT_CLIENT_CHARACTERISTIC_CONFIGURATION_DESCRIPTOR, Characteristic.READABLE | written
        )
        characteristic = Characteristic(
            UUID(shown["characteristic"]),
            Characteristic.Properties.WRITE_WITHOUT_RESPONSE | Characteristic.Properties.NOTIFY,
            written,
            CharacteristicValue(write=self.written),
            descriptors=[subscription],
        )
        subscription.value = device.gatt_server.make_descriptor_value(characteristic)
        characteristic.on("subscription", lambda _, notify, __: self.say({"subscribed": bool(notify)}))
        return characteristic

    def connected(self, connection):
        self.connection = connection
        adapter = connection.peer_address
        print(f"connected to {adapter}", flush=True)
        self.say("connected")
        connection.on("connection_att_mtu_update", lambda: self.say({"mtu": connection.att_mtu}))
        connection.on("disconnection", lambda _: self.disconnected(adapter))

    def disconnected(self, adapter):
        print(f"disconnected from {adapter}", flush=True)
        self.connection = None
        self.say("disconnected")

    def written(self, _, value):
        self.say({"write": base64.b64encode(value).decode()})


def pairing_config(permission):
    """Authenticated: both sides show the same number, and this one agrees to it; else nobody is asked."""
    capability = PairingDelegate.NO_OUTPUT_NO_INPUT
    if permission == "authenticated":
        capability = PairingDelegate.DISPLAY_OUTPUT_AND_YES_NO_INPUT
    return PairingConfig(mitm=permission == "authenticated", delegate=PairingDelegate(capability))


async def main(adapters, addresses):
    air = Air()
    servers = [await serve_adapter(number, air) for number in range(adapters)]
    peripherals = []
    for address in addresses:
        host, _, port = address.rpartition(":")
        peripherals.append(Peripheral(air, *await asyncio.open_connection(host, int(port))))
    print("ready", flush=True)
    await asyncio.gather(*(peripheral.run() for peripheral in peripherals))
    for server in servers:
        server.close()


logging.basicConfig(level="WARNING")
asyncio.run(main(int(sys.argv[1]), sys.argv[2:]))
