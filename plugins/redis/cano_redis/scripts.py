"""The Lua scripts. The server runs one at a time: each is an atomic change or query."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from importlib.resources import files
from typing import NamedTuple

_PARTS = re.compile(r"\A-- \(([^)]*)\)")


class Script(NamedTuple):
    """A script: its text, and the SHA-1 by which it is called."""

    text: bytes
    sha: bytes


_AUDITED = """
local entry, at = table.remove(ARGV), table.remove(ARGV)
local function act()
{}
end
local answer = act()
if answer == 1 then audit(at, entry) end
return answer
"""
"""A script with an entry for the audit as its last arguments. It is added if the script has an effect: it returns 1."""

_ATTRIBUTED = """
local attributes = {{}}
for at = 1, tonumber(table.remove(ARGV)) do attributes[at] = table.remove(ARGV) end
local function apply()
{}
end
local function newest() return redis.call('LINDEX', p .. 'lines:' .. id, -1) end
local before = newest()
local applied = apply()
if applied == 1 and newest() ~= before then set_attributes(id, attributes) end
return applied
"""
"""A script with all search attributes of a run: its last arguments are values, each before its name, and their number.

They are stored if the script has an effect, other than a commit that was made before and whose answer was lost.
"""

_STREAMED = """
local given = {{}}
for at = 1, tonumber(table.remove(ARGV)) do given[at] = table.remove(ARGV) end
local function advance()
{}
end
local advanced = advance()
if advanced == 1 then add_chunks(redis.call('HGET', KEYS[1], 'n'), given) end
return advanced
"""
"""A script with chunks of the run's streams: they, each before its last offset and its channel, and the number of these
arguments are its last ones. The chunks are added if the script has an effect.
"""

_REWRITING = """
local lines, given = p .. 'lines:' .. id, {{}}
for at = 1, tonumber(table.remove(ARGV)) do
  given[at] = {{ table.remove(ARGV), table.remove(ARGV) }}
  if string.sub(redis.call('LINDEX', lines, given[at][2]) or '', 1, 32) ~= string.sub(given[at][1], 1, 32) then
    return {{ false, false }}
  end
end
local function act()
{}
end
local answer = act()
if answer == 1 then
  for _, each in ipairs(given) do redis.call('LSET', lines, each[2], each[1]) end
  if redis.call('HGET', KEYS[1], 'fence') == ARGV[4] then redis.call('HINCRBY', KEYS[1], 'fence', 1) end
end
return answer
"""
"""The script of a commit that replaces entries of the history, too.

Its last arguments are these entries, each after its position, and their number. Each begins as the one that it
replaces; otherwise the run is another one by now.
"""


def _read(name: str, around: Sequence[str] = (), *parts_around: str) -> Script:
    folder = files("cano_redis") / "lua"
    own = (folder / f"{name}.lua").read_text(encoding="utf-8")
    parts = _PARTS.match(own)  # the first line names the parts that precede the script
    assert parts is not None
    names = [*parts[1].split(", "), *parts_around]
    text = "".join((folder / f"{part}.lua").read_text(encoding="utf-8") for part in names)
    for each in around:
        own = each.format(own)
    text += own
    return Script(text.encode(), hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest().encode())


COMMIT = _read("commit")
REWRITE = _read("commit", [_REWRITING])
COMMIT_WITH_ATTRIBUTES = _read("commit", [_ATTRIBUTED], "_attributes")
COMMIT_WITH_CHUNKS = _read("commit", [_STREAMED], "_chunks")
COMMIT_WITH_BOTH = _read("commit", [_ATTRIBUTED, _STREAMED], "_attributes", "_chunks")
CREATE = _read("create")
CREATE_WITH_ATTRIBUTES = _read("create", [_ATTRIBUTED], "_attributes")
SEARCH = _read("search")
ATTRIBUTE_NAMES = _read("attribute_names")
LOAD = _read("load")
HISTORY = _read("history")
DISCARD = _read("discard")
TELL = _read("tell")
DELETE = _read("delete")
DELETE_FINISHED = _read("delete_finished")
PLACED = _read("placed")
WORKFLOWS = _read("workflows")
NOTE_ENDS = _read("note_ends")
NOTED = _read("noted")
NTH_FINISHED = _read("nth_finished")
CLAIM = _read("claim")
CLAIM_READY = _read("claim_ready")
RENEW = _read("renew")
RELEASE = _read("release")
PUT_SIGNAL = _read("put_signal")
TAKE_SIGNAL = _read("next_signal")
SIGNALS = _read("signals")
REWRITE_SIGNALS = _read("rewrite_signals")
RECIPIENTS = _read("recipients")
RUNS = _read("runs")
READY = _read("ready")
RECORDS = _read("records")
OPEN = _read("open")
APART = _read("apart")
ADDRESS = _read("address")
MOVE_NUMBERS = _read("move_numbers")
ADD_AUDIT = _read("audit_add")
LIST_AUDIT = _read("audit_list")
PRUNE_AUDIT = _read("audit_prune")
WRITE_STREAM = _read("write_stream", [_STREAMED], "_chunks")
REWRITE_STREAM = _read("rewrite_stream")
READ_STREAM = _read("read_stream")
CHANNELS = _read("channels")
TAKE_SLOTS = _read("take_slots")
GIVE_SLOTS = _read("give_slots")
SLOTS = _read("slots")
AUDITED = {each: _read(name, [_AUDITED], "_audit") for name, each in (
    ("create", CREATE), ("commit", COMMIT), ("put_signal", PUT_SIGNAL), ("delete", DELETE)
)} | {each: _read(name, [_ATTRIBUTED, _AUDITED], "_attributes", "_audit") for name, each in (
    ("create", CREATE_WITH_ATTRIBUTES), ("commit", COMMIT_WITH_ATTRIBUTES)
)} | {
    COMMIT_WITH_CHUNKS: _read("commit", [_STREAMED, _AUDITED], "_chunks", "_audit"),
    COMMIT_WITH_BOTH: _read("commit", [_ATTRIBUTED, _STREAMED, _AUDITED], "_attributes", "_chunks", "_audit"),
}  # fmt: skip
"""The scripts that take an entry for the audit, by those that take none."""

ALL = (*(each for each in list(globals().values()) if isinstance(each, Script)), *AUDITED.values())
