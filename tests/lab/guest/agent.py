"""Runs scripts in the lab's guest for the test process, any number at once: `agent.py PORT`.

One JSON object per line, both ways, over a virtio port.
    in   {"id": 1, "script": "..."}     run by bash, in a session of its own
         {"id": 1, "signal": 15}        sent to all that this script started
    out  {"uptime": 6.1}                once: ready
         {"id": 1, "out": "..."}        and "err": as they are printed
         {"id": 1, "status": 0, "cpu": 1.5, "peak_kib": 9000}
The end of a script is the end of its bash: what it leaves running in the background must not keep its output.
"status" is the exit code, or minus the signal; "cpu" is in seconds, "peak_kib" the largest resident set of any of its
processes that were waited for.
"""

import codecs
import json
import os
import subprocess
import sys
import threading

# What a script printed is all read a moment after its end, unless something that it left behind holds the pipes.
DRAIN = 2.0

port = os.open(sys.argv[1], os.O_RDWR)
sending = threading.Lock()
running = {}


def send(**message):
    line = json.dumps(message).encode() + b"\n"
    with sending:
        while line:
            line = line[os.write(port, line):]


def pump(number, stream, name):
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    while part := os.read(stream.fileno(), 65536):
        send(id=number, **{name: decoder.decode(part)})
    stream.close()


def run(number, script):
    process = subprocess.Popen(
        ["bash", "-c", script],
        cwd="/station",
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    running[number] = process.pid
    pumps = [
        threading.Thread(target=pump, args=(number, stream, name), daemon=True)
        for stream, name in ((process.stdout, "out"), (process.stderr, "err"))
    ]
    for thread in pumps:
        thread.start()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    for thread in pumps:
        thread.join(DRAIN)
    del running[number]
    send(
        id=number,
        status=process.returncode,
        cpu=usage.ru_utime + usage.ru_stime,
        peak_kib=usage.ru_maxrss,
    )


with open("/proc/uptime") as uptime:
    send(uptime=float(uptime.read().split()[0]))
rest = b""
while part := os.read(port, 65536):
    *lines, rest = (rest + part).split(b"\n")
    for line in lines:
        message = json.loads(line)
        number = message["id"]
        if "script" in message:
            threading.Thread(target=run, args=(number, message["script"]), daemon=True).start()
        elif number in running:
            try:
                os.killpg(running[number], message["signal"])
            except ProcessLookupError:
                pass  # It has just ended: its status is on its way.
