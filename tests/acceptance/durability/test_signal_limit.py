"""The limit of waiting signals holds for a run in its store, however many processes send."""

from __future__ import annotations

import asyncio

import pytest
from cano import Kernel, SizeLimitError, SizeLimits, Workflow, wait_for

flow = Workflow("ASK", name="asking").add_exit_state("DONE")
flow.register("ASK", lambda store: wait_for("never", then="DONE"))
LIMITS = SizeLimits(signals=10)


@pytest.mark.parametrize("layers", ["", "codec=encrypt"])
@pytest.mark.parametrize("url", ["sqlite", "postgres", "redis"], indirect=True)
async def test_several_kernels_keep_one_limit(url: str, layers: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two kernels that send at once have one limit together, also in encrypted stores."""
    monkeypatch.setenv("CANO_ENCRYPTION_KEYS", "k:Z29sZGVuIGdvbGRlbiBnb2xkZW4gZ29sZGVuIGdvbGQ=")
    url += ("&" if "?" in url else "?") + layers if layers else ""
    async with Kernel(store=url, limits=LIMITS) as one, Kernel(store=url, limits=LIMITS) as two:
        handle = await one.start(flow, {}, run_id="run")
        await handle._run.ended()
        two.bind(flow)
        sent = await asyncio.gather(
            *(kernel.signal("run", "spam", number) for number in range(15) for kernel in (one, two)),
            return_exceptions=True,
        )
        assert sent.count(True) == 10
        refusals = [each for each in sent if isinstance(each, SizeLimitError)]
        assert len(refusals) == 20
        assert "10 signals wait for run run already, with this one 11" in str(refusals[0])
        assert one.backend is not None
        assert len((await one.backend.signals("run")).waiting) == 10
