"""A run whose store can be read by nobody without the key, and a change of keys while it waits.

    python examples/encrypted_runs.py [FOLDER]

A patient's record waits for a doctor's answer, in a store of its own in FOLDER (by default a temporary one). First in
clear, to see what somebody with a copy of the disk reads; then encrypted, where nothing is to be found; then the keys
are changed, the run goes on, and at last the old key is left out. Keys are made here, and set in this process alone:
yours come from `python -m cano_encryption`, and are kept where you keep secrets.
"""

import asyncio
import os
import sys
import tempfile
from pathlib import Path
from typing import Literal
from urllib.parse import quote

from cano import Kernel, KeyValueStore, SerializationError, Workflow, current_step, wait_for
from cano_encryption import KEYS_ENV, new_key

PATIENT = "Ada Lovelace, born 10 December 1815"
FINDINGS = "the left wrist is sprained, and should not be used for writing programs; " * 100
ANSWER = "two weeks of rest"
PLAINTEXT = (PATIENT, "sprained", ANSWER)

flow = Workflow("ADMIT", name="patient").add_exit_state("DISCHARGED")


@flow.on("ADMIT")
async def admit(store: KeyValueStore) -> Literal["TREAT"]:
    store["findings"] = FINDINGS
    return wait_for("answer", then="TREAT")


@flow.on("TREAT")
async def treat(store: KeyValueStore) -> Literal["DISCHARGED"]:
    store["treatment"] = current_step().payload
    return "DISCHARGED"


async def begin(store: str) -> None:
    """Admit the patient. The run then waits in the store."""
    async with Kernel(store=store) as kernel:
        await kernel.start(flow, {"patient": PATIENT}, run_id="ada")


async def answer(store: str) -> str:
    """Let the doctor answer; what the run comes to."""
    async with Kernel(store=store) as kernel:
        await kernel.signal("ada", "answer", ANSWER)
        return str((await kernel.run(flow, run_id="ada")).data["treatment"])


def found(folder: Path) -> list[str]:
    """What somebody reads who has a copy of every file."""
    everything = b"".join(path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file())
    return [text for text in PLAINTEXT if text.encode() in everything]


async def main(folder: Path) -> None:
    for name in ("clear", "secret"):
        (folder / name).mkdir()

    clear = f"sqlite:///{quote(str(folder))}/clear/runs.db"
    await begin(clear)
    await answer(clear)
    print("in clear, the disk tells:", ", ".join(found(folder / "clear")))

    old, new = new_key("2026"), new_key("2027")
    place = quote(f"{folder}/secret")
    secret = f"sqlite:///{place}/runs.db?codec=zstd,encrypt,offload:128:{place}/blobs"
    os.environ[KEYS_ENV] = old
    await begin(secret)
    os.environ[KEYS_ENV] = f"{new},{old}"  # the first encrypts, all of them decrypt
    print("encrypted, and with a new key on the way:", await answer(secret))
    print("encrypted, the disk tells:", ", ".join(found(folder / "secret")) or "nothing")

    os.environ[KEYS_ENV] = new
    try:
        await answer(secret)
    except SerializationError as error:
        print("without the old key, too early:", error)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        Path(sys.argv[1]).mkdir(parents=True, exist_ok=True)
        asyncio.run(main(Path(sys.argv[1])))
    else:
        with tempfile.TemporaryDirectory() as temporary:
            asyncio.run(main(Path(temporary)))
