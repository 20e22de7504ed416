"""Keeps USB serial ports from being opened for a while, from the moment that they are there: `refuse.py HOW SECONDS`.

HOW is `hold`: opened for this program alone, as a modem manager does that looks at each new port; or `forbid`: nobody but
root may open them, as where udev is slow to give them to their group. Prints `refused PATH` and `free PATH`.
"""

import fcntl
import os
import sys
import termios
import time

LOOK = 0.02
# For as long as `forbid` runs. udev would give the port away otherwise.
RULE = "/run/udev/rules.d/99-refuse.rules"


def hold(path):
    port = os.open(path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
    fcntl.ioctl(port, termios.TIOCEXCL)
    return lambda: os.close(port)


def forbid(path):
    return lambda: os.chmod(path, 0o660)


how, seconds = {"hold": hold, "forbid": forbid}[sys.argv[1]], float(sys.argv[2])
if how is forbid:
    os.makedirs(os.path.dirname(RULE), exist_ok=True)
    with open(RULE, "w") as rule:
        rule.write('SUBSYSTEM=="tty", KERNEL=="ttyACM*", MODE="0000"\n')
    os.system("udevadm control --reload")
print("ready", flush=True)
refused, known = [], {}
while True:
    now = time.monotonic()
    for name in os.listdir("/dev"):
        if not name.startswith(("ttyACM", "ttyUSB")):
            continue
        path = f"/dev/{name}"
        try:
            # A port that went and came back has another inode.
            node = os.stat(path).st_ino
            if known.get(name) != node:
                refused.append((now + seconds, path, how(path)))
                known[name] = node
                print("refused", path, flush=True)
        except OSError:
            pass  # Gone again, or not yet this user's: looked at again soon.
    while refused and refused[0][0] <= now:
        _, path, free = refused.pop(0)
        try:
            free()
        except FileNotFoundError:
            pass
        print("free", path, flush=True)
    time.sleep(LOOK)
