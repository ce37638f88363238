"""Encrypted runs: a store that cannot be read without the key, and a key rotation while a run waits.

    python examples/encrypted_runs.py [FOLDER]

A patient's record waits for a doctor's answer in a store below FOLDER (by default a temporary folder). The example
searches the files of an unencrypted and of an encrypted store for plain text. Then it adds a new key, resumes the run,
and removes the old key too early. It makes its keys and sets them in its own process. Make yours with
`python -m cano_encryption` and store them with your other secrets.
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
    """Admit the patient. The run is then parked in the store."""
    async with Kernel(store=store) as kernel:
        await kernel.start(flow, {"patient": PATIENT}, run_id="ada")


async def answer(store: str) -> str:
    """Send the doctor's answer. Return the treatment when the run has finished."""
    async with Kernel(store=store) as kernel:
        await kernel.signal("ada", "answer", ANSWER)
        return str((await kernel.run(flow, run_id="ada")).data["treatment"])


def found(folder: Path) -> list[str]:
    """Return the plain text that can be found in the files."""
    everything = b"".join(path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file())
    return [text for text in PLAINTEXT if text.encode() in everything]


async def main(folder: Path) -> None:
    for name in ("clear", "secret"):
        (folder / name).mkdir()

    clear = f"sqlite:///{quote(str(folder))}/clear/runs.db"
    await begin(clear)
    await answer(clear)
    print("unencrypted, found on disk:", ", ".join(found(folder / "clear")))

    old, new = new_key("2026"), new_key("2027")
    place = quote(f"{folder}/secret")
    secret = f"sqlite:///{place}/runs.db?codec=zstd,encrypt,offload:128:{place}/blobs"
    os.environ[KEYS_ENV] = old
    await begin(secret)
    os.environ[KEYS_ENV] = f"{new},{old}"  # the first key encrypts, all keys decrypt
    print("encrypted, with a new key added:", await answer(secret))
    print("encrypted, found on disk:", ", ".join(found(folder / "secret")) or "nothing")

    os.environ[KEYS_ENV] = new
    try:
        await answer(secret)
    except SerializationError as error:
        print("old key removed too early:", error)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        Path(sys.argv[1]).mkdir(parents=True, exist_ok=True)
        asyncio.run(main(Path(sys.argv[1])))
    else:
        with tempfile.TemporaryDirectory() as temporary:
            asyncio.run(main(Path(temporary)))
