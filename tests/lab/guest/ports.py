"""Prints every USB serial port of the guest as the kernel's sysfs has it, as a JSON array."""

import json
import os


def read(folder, name):
    try:
        with open(os.path.join(folder, name)) as file:
            return file.read().rstrip("\n")
    except FileNotFoundError:
        return None


ports = []
for name in os.listdir("/sys/class/tty"):
    interface = os.path.realpath(f"/sys/class/tty/{name}/device")
    # A port of a serial converter is one level below its interface.
    while len(interface) > 1 and not os.path.exists(f"{interface}/bInterfaceNumber"):
        interface = os.path.dirname(interface)
    number = read(interface, "bInterfaceNumber")
    device = os.path.dirname(interface)
    vid, pid = read(device, "idVendor"), read(device, "idProduct")
    if number is None or vid is None or pid is None:
        continue  # Not on USB, or gone since it was listed.
    ports.append(
        {
            "path": f"/dev/{name}",
            "id": f"{vid}:{pid}:{int(number, 16)}",
            "serial_number": read(device, "serial"),
            "product": read(device, "product"),
            "hub_path": os.path.basename(device),
            "driver": os.path.basename(os.path.realpath(f"{interface}/driver")),
        }
    )
print(json.dumps(ports))
