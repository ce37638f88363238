"""Webhooks survive SIGKILL: before the commit that they are about, and between the commit and the request."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress

import pytest
from cano import Kernel, RunNotFoundError
from cano_webhooks import Webhooks

from tests.acceptance.durability import webhook_worker
from tests.acceptance.durability.webhook_worker import SECRET, flow_of
from tests.plugins.webhooks.receiver import receiving


@pytest.mark.parametrize("store", ["sqlite", "postgres"])
@pytest.mark.parametrize("kind", ["failed", "parked", "late"])
@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_kill_loses_no_message(store: str, kind: str, when: str, url_of: Callable[[str], str]) -> None:
    """Whenever the process is killed, the next one sends the message of each run that failed, waits or is late."""
    url = url_of(store)
    with receiving() as receiver:
        args = [sys.executable, webhook_worker.__file__, url, receiver.url, kind, when]
        killed = await asyncio.to_thread(subprocess.run, args, timeout=60, check=False)
        assert killed.returncode == -signal.SIGKILL
        assert receiver.arrived.empty()
        async with Kernel(store=url, plugins=[Webhooks(receiver.url, secret=SECRET)], poll=0.1, grace=0) as kernel:
            await kernel.recover(flow_of(kind))
            request = await receiver.next()
            assert request.message["type"] == f"run.{kind}"
            assert request.message["data"]["run_id"] == "o-1"
            assert request.is_signed_with(SECRET)
            for record in await kernel.runs(workflow="cano.webhooks.default"):
                with suppress(RunNotFoundError):  # it was sent
                    await (await kernel.attach(record.run_id)).result()  # or it is dropped
        while not receiver.arrived.empty():
            assert receiver.arrived.get().id == request.id  # twice, at most, with the same id
