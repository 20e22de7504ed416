"""Asks SMP servers every command of the groups that they offer, through smpclient, which is not flashfleet.

usage: survey.py SERVERS

SERVERS is a JSON list of `{"address": ADDRESS, "groups": [NAME…], "version": 1|2}`, where NAME is a group as
manifest.json calls it and ADDRESS is `serial:PATH`, `raw:PATH` (bare messages on a serial port) or `udp:HOST`. All are
asked at once. Printed is a JSON list with one object for each server: what was answered to each command, under the name
that `flashfleet smp` has for it.

An answer is its fields, with byte strings as `{"$bytes": HEX}`, or `{"refused": {"group": N, "rc": N}}`; the group is
null where the number is one of SMP itself. It is null where smpclient cannot read the answer at all.

smpclient sends nothing twice, and Zephyr's pool of line buffers holds two lines: requests stay within two lines.
"""

import asyncio
import json
import logging
import sys

from smp.header import Version
from smpclient import SMPClient
from smpclient.exceptions import SMPValidationException
from smpclient.generics import error_v1, error_v2
from smpclient.requests.enumeration_management import (
    CountSupportedGroups,
    GroupDetails,
    GroupId,
    ListSupportedGroups,
)
from smpclient.requests.file_management import (
    FileClose,
    FileHashChecksum,
    FileStatus,
    FileUpload,
    SupportedFileHashChecksumTypes,
)
from smpclient.requests.image_management import ImageErase, ImageStatesRead
from smpclient.requests.os_management import (
    BootloaderInformationRead,
    DateTimeRead,
    DateTimeWrite,
    EchoWrite,
    MCUMgrParametersRead,
    MemoryPoolStatisticsRead,
    OSApplicationInfoRead,
    TaskStatisticsRead,
)
from smpclient.requests.settings_management import (
    CommitSettings,
    DeleteSetting,
    LoadSettings,
    ReadSetting,
    SaveSettings,
    WriteSetting,
)
from smpclient.requests.shell_management import Execute
from smpclient.requests.statistics_management import GroupData, ListOfGroups
from smpclient.requests.zephyr_management import EraseStorage
from smpclient.transport.serial import BufferParams, SMPSerialRawTransport, SMPSerialTransport
from smpclient.transport.udp import SMPUDPTransport

TWO_LINES = BufferParams(line_length=128, line_buffers=2)
FORMATS = ["s", "n", "r", "v", "b", "m", "p", "i", "o", "a", "sv", "vs"]
FILE = "/lfs1/survey"


def plain(value):
    """A value as JSON can hold it."""
    match value:
        case bytes():
            return {"$bytes": value.hex()}
        case dict():
            return {str(key): plain(item) for key, item in value.items()}
        case list() | tuple():
            return [plain(item) for item in value]
    return value


class Server:
    def __init__(self, client, version, thorough):
        self.client = client
        self.thorough = thorough
        self.version = version
        self.answers = {}

    async def ask(self, command, request, /, **fields):
        message = request(version=self.version, **fields)
        try:
            answer = await self.client.request(message, timeout_s=10)
        except SMPValidationException:
            self.answers[command] = None
            return None
        except Exception as error:
            raise RuntimeError(f"{self.client.address}: {command}: {error!r}") from error
        if error_v1(answer):
            told = {"refused": {"group": None, "rc": int(answer.rc)}}
        elif error_v2(answer):
            told = {"refused": {"group": int(answer.err.group), "rc": int(answer.err.rc)}}
        else:
            fields = answer.model_dump(exclude={"header", "version", "sequence", "smp_data"}, exclude_none=True)
            told = plain(fields)
            # It takes the refusal of memory pools for a pool.
            if set(told) == {"rc"}:
                told = {"refused": {"group": None, **told}}
        self.answers[command] = told
        return answer

    async def os(self):
        await self.ask("os echo hello", EchoWrite, d="hello")
        await self.ask("os tasks", TaskStatisticsRead)
        await self.ask("os memory-pools", MemoryPoolStatisticsRead)
        await self.ask("os time get", DateTimeRead)
        await self.ask("os time set", DateTimeWrite, datetime="2026-11-25T20:52:29")
        await self.ask("os params", MCUMgrParametersRead)
        # Every server has the same code: all of it is asked of those that have more groups than the least.
        for letters in FORMATS if self.thorough else ["s", "a"]:
            await self.ask(f"os info --format {letters}", OSApplicationInfoRead, format=letters)
        await self.ask("os info --format ?", OSApplicationInfoRead, format="?")
        await self.ask("os bootloader", BootloaderInformationRead)
        await self.ask("os bootloader --query mode", BootloaderInformationRead, query="mode")

    async def img(self):
        await self.ask("image list", ImageStatesRead)
        await self.ask("image erase --slot 0", ImageErase, slot=0)
        await self.ask("image erase --slot 9", ImageErase, slot=9)
        await self.ask("image erase", ImageErase)

    async def stat(self):
        names = await self.ask("stat list", ListOfGroups)
        for name in [*names.stat_list, "nothing"]:
            await self.ask(f"stat show {name}", GroupData, name=name)

    async def settings(self):
        await self.ask("settings read a/b", ReadSetting, name="a/b")
        await self.ask("settings write a/b c", WriteSetting, name="a/b", val=b"c")
        await self.ask("settings delete a/b", DeleteSetting, name="a/b")
        await self.ask(f"settings read {'x' * 40}", ReadSetting, name="x" * 40)
        await self.ask("settings commit", CommitSettings)
        await self.ask("settings load", LoadSettings)
        await self.ask("settings save", SaveSettings)

    async def fs(self):
        await self.ask("fs close", FileClose)
        # Its own requests fail where the file is there with another length.
        await self.ask("put", FileUpload, off=0, name=FILE, data=b"123456789", len=9)
        await self.ask(f"fs status {FILE}", FileStatus, name=FILE)
        await self.ask("fs status /lfs1/none", FileStatus, name="/lfs1/none")
        types = await self.ask("fs hash-types", SupportedFileHashChecksumTypes)
        await self.ask(f"fs hash {FILE}", FileHashChecksum, name=FILE)
        for kind in types.types:
            await self.ask(f"fs hash {FILE} --type {kind}", FileHashChecksum, name=FILE, type=kind)
        await self.ask(f"fs hash {FILE} --offset 2 --length 3", FileHashChecksum, name=FILE, off=2, len=3)
        await self.ask(f"fs hash {FILE} --offset 9", FileHashChecksum, name=FILE, off=9)

    async def shell(self):
        await self.ask("shell kernel version", Execute, argv=["kernel", "version"])
        await self.ask("shell nonsense", Execute, argv=["nonsense"])

    async def enum(self):
        await self.ask("enum count", CountSupportedGroups)
        groups = (await self.ask("enum list", ListSupportedGroups)).groups
        for index in [*range(len(groups)), len(groups)]:
            await self.ask(f"enum show {index}", GroupId, index=index)
        await self.ask("enum details", GroupDetails)
        await self.ask("enum details os", GroupDetails, groups=[0])

    async def zbasic(self):
        await self.ask("zephyr erase-storage", EraseStorage)


async def survey(server):
    kind, _, place = server["address"].partition(":")
    transports = {
        "serial": lambda: SMPSerialTransport(TWO_LINES),
        "raw": SMPSerialRawTransport,
        "udp": SMPUDPTransport,
    }
    transport = transports[kind]()
    async with SMPClient(transport, place, timeout_s=10) as client:
        version = Version.V1 if server["version"] == 1 else Version.V2
        asked = Server(client, version, thorough=len(server["groups"]) > 4)
        for group in server["groups"]:
            await getattr(asked, group)()
        return asked.answers


async def main():
    servers = json.loads(sys.argv[1])
    print(json.dumps(await asyncio.gather(*map(survey, servers))))


# It warns of every answer in version 1, and tells at length what it cannot read.
logging.disable(logging.ERROR)
asyncio.run(main())
