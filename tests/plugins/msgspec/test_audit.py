"""An audit hook checks that decoding any bytes imports nothing, runs nothing and opens nothing."""

from __future__ import annotations

import enum
import json
import random
import re
import subprocess
import sys
import zlib
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import msgspec
import pydantic
from cano import SerializationError
from msgspec.msgpack import Ext

from tests.plugins.msgspec.registering import RegisteringCodec

BUILTIN, CLASS = 1, 2


class Color(enum.Enum):
    RED = 1


class Access(enum.Flag):
    READ = 1
    WRITE = 2


@dataclass
class Order:
    id: Any


class Pair(NamedTuple):
    left: Any


class Record(msgspec.Struct):
    a: Any


class Model(pydantic.BaseModel):
    a: Any


CLASSES = [Color, Access, Order, Pair, Record, Model]
STRANGERS = [
    "os:system",
    "builtins:eval",
    "subprocess:Popen",
    "this:x",
    "antigravity:x",
    "pydantic:BaseModel",
    "json:tool",
]
VALUES: list[Any] = [
    {"a": [1, {"b": "c"}]},
    [Order(1), Order((2,))],
    Pair({1, 2}),
    [Record(Color.RED), Access.READ | Access.WRITE],
    Model(a=[2**70, Decimal("1.10")]),
    datetime(2024, 5, 6, fold=1, tzinfo=ZoneInfo("Europe/Berlin")),
]


def watch() -> None:
    """Decode the bodies on stdin under an audit hook and print its events. Runs in its own process."""
    codec = RegisteringCodec()
    codec.register(*CLASSES)
    datas = [
        bytes([head]) + zlib.crc32(body, head).to_bytes(4, "big") + body
        for body in map(bytes.fromhex, sys.stdin.read().split())
        for head in (0x10, 0x11)
    ]
    seen: list[str] = []
    active = False

    def hook(event: str, args: object) -> None:
        if active and not event.startswith("object.__"):
            seen.append(f"{event} {args!a}"[:200])

    sys.addaudithook(hook)
    modules, read = set(sys.modules), 0
    active = True
    for data in datas:
        try:
            codec.decode(data)
        except SerializationError:
            continue
        read += 1
    active = False
    print(json.dumps({"seen": seen, "modules": sorted(set(sys.modules) - modules), "read": read}))


PROGRAM = """
import importlib.util, sys
spec = importlib.util.spec_from_file_location(*sys.argv[1:])
module = sys.modules[sys.argv[1]] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
module.watch()
"""


def audited(nodes: list[Any], **environment: str) -> Any:
    """Return the audit events while such nodes are decoded; bytes count as packed nodes."""
    bodies = (node if isinstance(node, bytes) else msgspec.msgpack.encode(node) for node in nodes)
    command = [sys.executable, "-c", PROGRAM, __name__, __file__]
    given = "\n".join(body.hex() for body in bodies)
    done = subprocess.run(command, input=given, capture_output=True, text=True, check=True, env=environment)
    return json.loads(done.stdout)


def test_nothing_is_imported_or_run() -> None:
    """Thousands of hostile bytes import nothing, compile nothing, call nothing and open nothing but zones."""
    chance = random.Random(7)
    bodies = [RegisteringCodec().encode(value)[5:] for value in VALUES]
    nodes: list[Any] = [*bodies]
    for name in [*STRANGERS, "__main__:module", f"{__name__}:watch"]:
        tag = Ext(CLASS, name.encode())
        nodes += [[tag], [tag, {}], [tag, {"id": 1}], [tag, "true"], [tag, ["a"]]]
        nodes += [[Ext(BUILTIN, kind), name] for kind in (b"zi", b"dd", b"p", b"zp", b"n", b"dt", b"tz", b"U")]
    for _ in range(3000):
        body = bytearray(chance.choice(bodies))
        for _ in range(chance.randint(1, 3)):
            body[chance.randrange(len(body))] = chance.randrange(256)
        nodes.append(bytes(body))
    report = audited(nodes)

    zone = re.compile(r"open \('[^']*/(zoneinfo/[^']+|tzdata/zones)', 'rb?'")
    assert [event for event in report["seen"] if not zone.match(event)] == []
    assert report["modules"] == []
    assert report["read"] > 100


def test_values_are_read_without_imports() -> None:
    """Decoding valid values imports nothing either."""
    report = audited([RegisteringCodec().encode(value)[5:] for value in VALUES])

    assert [event for event in report["seen"] if not event.startswith("open ")] == []
    assert report["modules"] == []
    assert report["read"] == len(VALUES) + 1  # the first one has no tags, and is read both ways


def test_zones_without_a_system_database() -> None:
    """If zones come from the package tzdata, an unknown zone name is not imported as a module."""
    strange = ["No/Such", "this", "antigravity", "__init__", "Europe/__init__", "json", "Europe"]
    report = audited([[Ext(BUILTIN, b"zi"), name] for name in strange], PYTHONTZPATH="")

    assert [event for event in report["seen"] if event.startswith(("import", "exec", "compile"))] == []
    assert (report["modules"], report["read"]) == ([], 0)
    assert audited([[Ext(BUILTIN, b"zi"), "Europe/Berlin"]], PYTHONTZPATH="")["read"] == 1
