"""Of many commits at once, the stale ones are refused: the same test for each store."""

from __future__ import annotations

import asyncio

from cano import ConflictError, RunStatus, StoreBackend
from cano.testing.contract_base import LATER, loaded, new_run, step


async def check_refusals(store: StoreBackend) -> None:
    """Each stale commit gets an error that says why; all others are applied."""
    for number in range(20):
        await store.create(new_run(str(number)))
    await store.claim("3", "another", LATER + 1, LATER + 9)
    await store.commit(step(1, "5"))
    await store.delete("7")
    plain = [step(1, str(number)) for number in range(10)]
    others = [step(1, str(number), status=RunStatus.SUCCEEDED, release=True) for number in range(10, 20)]
    answers = await asyncio.gather(*map(store.commit, [*plain, *others]), return_exceptions=True)

    refused = {number: str(answer) for number, answer in enumerate(answers) if answer is not None}
    assert refused == {
        3: "a commit to the run '3' is stale: another holder claimed it: its token is 2, not 1",
        5: "a commit to the run '5' is stale: it has made 1 transitions, not 0",
        7: "a commit to the run '7' is stale: it does not exist",
    }
    assert {type(answers[number]) for number in refused} == {ConflictError}
    for number in {*range(20)} - {3, 7}:
        assert (await loaded(store, str(number))).seq == 1
