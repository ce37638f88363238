"""Encrypted stores from before the seals: each value is encrypted again in place, and old ones are then refused."""

from __future__ import annotations

from typing import Any

import pytest
from cano import Kernel, RunRecord, SerializationError
from cano_durability.sealing.seals import SEAL

from tests.acceptance.golden import flows
from tests.acceptance.golden.conftest import Copy, stores
from tests.acceptance.golden.copies import Golden
from tests.acceptance.golden.expected import FINISHED, RUNS
from tests.acceptance.golden.times import READ
from tests.acceptance.golden.values import CLASSES

KINDS = ("encrypt", "encrypt-postgres", "encrypt-redis")
ENCRYPTED = [name for name in stores(KINDS) if "encrypt" in name and name < "003"]
"""The encrypted stores that were written before there were seals."""


@pytest.fixture(params=ENCRYPTED)
def old(request: pytest.FixtureRequest, copy: Copy) -> Golden:
    """A copy of an encrypted store."""
    return copy(request.param)


async def problems(kernel: Kernel) -> set[str]:
    """Encrypt all values again; return the runs that were left out."""
    backend: Any = kernel.backend
    return {each.run_id async for each in backend.reencrypted("me", lambda: READ) if each.problem is not None}


async def raw(kernel: Kernel, run_id: str) -> RunRecord:
    """Return a run as it is stored."""
    backend: Any = kernel.backend
    record: RunRecord = await backend.inner.load(run_id)
    return record


async def test_reencrypting(old: Golden) -> None:
    """Every run is sealed, and reads as before. Runs without a seal are refused from then on."""
    async with old.at(READ) as kernel:
        assert kernel.codec is not None
        kernel.codec.register(*CLASSES)
        before = {record.run_id: record for record in await kernel.runs()}
        histories = {run_id: await kernel.history(run_id) for run_id in before}
        assert SEAL not in (await raw(kernel, "typed")).own
        assert await problems(kernel) == set()
        for run_id in before:
            stored = await raw(kernel, run_id)
            assert SEAL in stored.own
            entries = await kernel.backend.inner.history(run_id)  # type: ignore[union-attr]
            some = [each for one in (stored, *entries) for each in (one.own, getattr(one, "changed", stored.data))]
            assert {value[2] for values in some for value in values.values()} == {2}  # the version of the form
            assert await kernel.history(run_id) == histories[run_id]
        result = await kernel.run(flows.typed, {}, run_id="typed")
        assert (result.state, repr(result.data)) == (FINISHED["typed"].state, repr(FINISHED["typed"].data))
        listed = {record.run_id: record for record in await kernel.runs()}
        assert {id: (run.status, run.updated) for id, run in listed.items()} == {
            id: (run.status, run.updated) for id, run in before.items()
        }

        for run_id in ("signalled", "early"):
            flow = flows.BY_NAME[RUNS["signalled"].workflow]
            await kernel.run(flow, {}, run_id=run_id)
    async with old.at(READ) as kernel:
        backend: Any = kernel.backend
        stripped = (await raw(kernel, "typed"))._replace(run_id="new")
        await backend.inner.create(stripped._replace(own={k: v for k, v in stripped.own.items() if k != SEAL}))
        with pytest.raises(SerializationError, match="run new is corrupt: it has no seal"):
            await backend.load("new")
        assert await problems(kernel) == {"new"}
