"""Bonds the guest with a Bluetooth device, as a person does with bluetoothctl: `pair.py ADDRESS`.

Says yes to whatever number the device shows.
"""

import subprocess
import sys
import threading

# Seconds; the emulated machine takes some for the cryptography.
LIMIT = 45

address = sys.argv[1]
bluetoothctl = subprocess.Popen(
    ["bluetoothctl", "--agent", "DisplayYesNo"],
    stdin=subprocess.PIPE,
    stdout=subprocess.PIPE,
    stderr=subprocess.STDOUT,
)
said = b""


def say(line):
    bluetoothctl.stdin.write(line.encode() + b"\n")
    bluetoothctl.stdin.flush()


def wait_for(*texts):
    """Waits until it says one of these, after what it said before; gives which."""
    global said
    while not (found := [text for text in texts if text.encode() in said]):
        part = bluetoothctl.stdout.read1(4096)
        if not part:
            sys.exit(f"bluetoothctl ended, and did not say {texts}: {said.decode(errors='replace')}")
        sys.stderr.buffer.write(part)
        said += part
    said = said.split(found[0].encode(), 1)[1]
    return found[0]


watchdog = threading.Timer(LIMIT, bluetoothctl.kill)
watchdog.start()
wait_for("Agent registered")
say("scan le")
wait_for(f"Device {address}")
say(f"pair {address}")
if wait_for("(yes/no)", "Pairing successful", "Failed to pair") == "(yes/no)":
    say("yes")
    if wait_for("Pairing successful", "Failed to pair") == "Failed to pair":
        sys.exit("failed to pair")
say("scan off")
say(f"disconnect {address}")
wait_for("Successful disconnected", "Connected: no", "Failed to disconnect")
say("quit")
bluetoothctl.wait()
watchdog.cancel()
