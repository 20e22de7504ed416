"""Bluetooth adapters for the guest's kernel: `vhci.py HOST:PORT...`, one HCI (H4) over TCP each, until it is killed.

The kernel's side, /dev/vhci, takes and gives exactly one packet at a time; TCP does not keep them apart.
"""

import os
import socket
import sys
import threading

# By the packet's type: bytes of the header behind it, where in it the length is, and how long that is
# (Bluetooth Core Specification, Vol 4, Part E, 5.4).
HEADERS = {1: (3, 2, 1), 2: (4, 2, 2), 3: (3, 2, 1), 4: (2, 1, 1), 5: (4, 2, 2)}
ISO = 5
# Asks the kernel for an adapter, and what it answers with (drivers/bluetooth/hci_vhci.c).
CREATE_PRIMARY = b"\xff\x00"
VENDOR = 0xFF


def to_host(device, connection):
    while packet := os.read(device, 4096):
        if packet[0] != VENDOR:
            connection.sendall(packet)


def length_of(data):
    """The length of the packet that `data` begins with; None where too little is there to tell."""
    header, at, size = HEADERS[data[0]]
    if len(data) < 1 + header:
        return None
    length = int.from_bytes(data[1 + at : 1 + at + size], "little")
    if data[0] == ISO:
        length &= 0x3FFF
    return 1 + header + length


def bridge(address):
    host, _, port = address.rpartition(":")
    connection = socket.create_connection((host, int(port)))
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    device = os.open("/dev/vhci", os.O_RDWR)
    os.write(device, CREATE_PRIMARY)
    threading.Thread(target=to_host, args=(device, connection), daemon=True).start()
    data = b""
    while part := connection.recv(65536):
        data += part
        while data and (length := length_of(data)) and len(data) >= length:
            os.write(device, data[:length])
            data = data[length:]
    os.close(device)


bridges = [threading.Thread(target=bridge, args=(address,), daemon=True) for address in sys.argv[1:]]
for thread in bridges:
    thread.start()
print("attached", flush=True)
for thread in bridges:
    thread.join()
