"""Reads and drives one SMP device through smpclient, which is not flashfleet, and prints JSON.

usage: readback.py ADDRESS list | params | echo TEXT | upload FILE | put REMOTE FILE | get REMOTE FILE | test HASH | confirm [HASH] | reset [BOOT_MODE]

smpclient sends nothing twice, and Zephyr's pool of line buffers holds two lines: a longer message is lost where the
server gets too little time between them. So messages stay within two lines.

ADDRESS is `tcp:HOST:PORT` (console framing over a TCP serial server), `serial:PATH` or `udp:HOST`.
"""

import asyncio
import contextlib
import json
import os
import pty
import socket
import sys
import threading
import tty

from smpclient import SMPClient
from smpclient.generics import success
from smpclient.requests.image_management import ImageStatesRead, ImageStatesWrite
from smpclient.requests.os_management import EchoWrite, MCUMgrParametersRead, ResetWrite
from smpclient.transport.serial import BufferParams, SMPSerialTransport
from smpclient.transport.udp import SMPUDPTransport

TWO_LINES = BufferParams(line_length=128, line_buffers=2)


@contextlib.contextmanager
def terminal_of(host, port):
    """A pseudo-terminal joined to a TCP serial server: smpclient has no transport for the latter."""
    server = socket.create_connection((host, port), timeout=20)
    server.settimeout(None)
    master, slave = pty.openpty()
    tty.setraw(slave)

    def to_terminal():
        while data := server.recv(4096):
            os.write(master, data)

    def to_server():
        with contextlib.suppress(OSError):
            while data := os.read(master, 4096):
                server.sendall(data)

    for job in (to_terminal, to_server):
        threading.Thread(target=job, daemon=True).start()
    try:
        yield os.ttyname(slave)
    finally:
        with contextlib.suppress(OSError):
            server.shutdown(socket.SHUT_RDWR)
        server.close()


def states(response):
    """The image list as plain values; what the server leaves out of a list means false."""
    return [
        {
            "image": image.image or 0,
            "slot": image.slot,
            "version": image.version,
            "hash": image.hash.hex() if image.hash else None,
            **{
                flag: bool(getattr(image, flag))
                for flag in ("bootable", "pending", "confirmed", "active", "permanent")
            },
        }
        for image in response.images
    ]


async def ask(client, request):
    response = await client.request(request, timeout_s=10)
    if not success(response):
        sys.exit(f"refused: {response}")
    return response


async def work(transport, address, command, arguments):
    async with SMPClient(transport, address, timeout_s=10) as client:
        match command:
            case "list":
                return states(await ask(client, ImageStatesRead()))
            case "params":
                params = await ask(client, MCUMgrParametersRead())
                return {"buf_size": params.buf_size, "buf_count": params.buf_count}
            case "echo":
                return (await ask(client, EchoWrite(d=arguments[0]))).r
            case "upload":
                with open(arguments[0], "rb") as file:
                    image = file.read()
                requests = 0
                async for _ in client.upload(image):
                    requests += 1
                return {"bytes": len(image), "requests": requests}
            case "put":
                remote, local = arguments
                with open(local, "rb") as file:
                    async for _ in client.upload_file(file.read(), remote):
                        pass
                return None
            case "get":
                remote, local = arguments
                data = await client.download_file(remote)
                with open(local, "wb") as file:
                    file.write(data)
                return None
            case "test":
                return states(await ask(client, ImageStatesWrite(hash=bytes.fromhex(arguments[0]))))
            case "confirm":
                image = bytes.fromhex(arguments[0]) if arguments else None
                return states(await ask(client, ImageStatesWrite(hash=image, confirm=True)))
            case "reset":
                boot_mode = int(arguments[0]) if arguments else None
                await ask(client, ResetWrite(boot_mode=boot_mode))
                return None
    sys.exit(f"unknown command {command}")


def main():
    address, command, *arguments = sys.argv[1:]
    kind, _, place = address.partition(":")
    with contextlib.ExitStack() as stack:
        match kind:
            case "tcp":
                host, _, port = place.rpartition(":")
                place = stack.enter_context(terminal_of(host, int(port)))
                transport = SMPSerialTransport(TWO_LINES)
            case "serial":
                transport = SMPSerialTransport(TWO_LINES)
            case "udp":
                transport = SMPUDPTransport()
            case _:
                sys.exit(f"expected tcp:, serial: or udp:, got {address}")
        print(json.dumps(asyncio.run(work(transport, place, command, arguments))))


main()
