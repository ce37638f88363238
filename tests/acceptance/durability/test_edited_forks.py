"""Forks whose data is edited, on each store, encrypted ones included."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from cano import (
    ConfigurationError,
    Kernel,
    Key,
    SerializationError,
    SizeLimitError,
    StoreBackend,
    TaskConfig,
    TypeMismatchError,
    Workflow,
    wait_for,
)
from cano_encryption import KEYS_ENV, new_key

from tests.acceptance.durability.shared import ONLY, Shared

ADDRESS: Key[str] = Key("address", str)
COUNT: Key[int] = Key("count", int)


@pytest.fixture(params=["memory", "sqlite", "postgres", "redis", "sealed"])
def place(
    request: pytest.FixtureRequest, url_of: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> str | StoreBackend:
    """An empty store of each kind; one is encrypted."""
    monkeypatch.setenv(KEYS_ENV, new_key())
    if request.param == "memory":
        return Shared(strict=True)
    return url_of("sqlite") + "?codec=encrypt" if request.param == "sealed" else url_of(request.param)


def order() -> Workflow[str]:
    """An order that fails at a wrong address, and waits before it is shipped."""
    flow: Workflow[str] = Workflow("TAKE", name="order", default_config=TaskConfig.minimal()).add_exit_state("END")

    @flow.on("TAKE")
    async def take(store: Any) -> str:
        store.append("log", "taken")
        store[COUNT] = store.get(COUNT, default=0) + 1
        return "CHECK"

    @flow.on("CHECK")
    async def check(store: Any) -> Any:
        store.append("log", "checked")
        if store[ADDRESS] == "nowhere":
            raise ValueError("no such address")
        return wait_for("paid", then="SHIP")

    @flow.on("SHIP")
    async def ship(store: Any) -> str:
        store["shipped to"] = store[ADDRESS]
        return "END"

    return flow


async def failed(kernel: Kernel) -> Workflow[str]:
    """An order that has failed, with the id `one`."""
    flow = order()
    handle = await kernel.start(flow, {"address": "nowhere", "coupon": "5%"}, run_id="one")
    with pytest.raises(Exception, match="no such address"):
        await handle.result()
    return flow


async def test_the_data_of_a_fork_is_edited(place: str | StoreBackend) -> None:
    """A fork has the values that the caller sets and not the keys that it removes; the run itself does not change."""
    options = {**ONLY, "plugins": [*ONLY["plugins"], "encryption"]}
    async with Kernel(store=place, **options) as kernel:
        flow = await failed(kernel)
        changes = {ADDRESS: "12 Elm St", "rate": Decimal("1.5"), "log": ["by hand"]}
        await kernel.fork("one", 1, "two", changes=changes, removed=["coupon"])
        view = await kernel.get("two")
        assert view.data == {"address": "12 Elm St", "log": ["by hand"], "count": 1, "rate": Decimal("1.5")}
        assert (await kernel.history("two"))[0].changed == view.data
        await kernel.signal("two", "paid")
        result = await kernel.resume(flow, "two")
        assert (result.state, result.data["log"]) == ("END", ["by hand", "checked"])
        assert result.data["shipped to"] == "12 Elm St"
        await (await kernel.start(flow, {"address": "here"}, run_id="parked"))._run.ended()
        await kernel.fork("parked", 2, "three", changes={"address": "13 Elm St"})  # it waits, as at that transition
        assert (await kernel.get("three")).status.value == "parked"
        await kernel.signal("three", "paid")
        assert (await kernel.run(flow, run_id="three")).data["shipped to"] == "13 Elm St"
        assert (await kernel.get("one")).data["address"] == "nowhere"
        many = await kernel.fork_many("status = failed", "-b", changes={"address": "a"}, removed=[Key("coupon", str)])
        assert (many.done, (await kernel.get("one-b")).data["address"]) == (1, "a")
        assert await kernel.check() == []


async def test_wrong_edits_make_no_fork(place: str | StoreBackend) -> None:
    """A value of a wrong type, a key that is not there and other mistakes are refused before anything is stored."""
    options = {**ONLY, "plugins": [*ONLY["plugins"], "encryption"]}
    async with Kernel(store=place, **options) as kernel:
        await failed(kernel)
        wrong: list[tuple[type[Exception], str, dict[str, Any]]] = [
            (TypeMismatchError, "key 'address' has a value of type int, not str", {"changes": {"address": 12}}),
            (TypeMismatchError, "key 'rate' has a value of type str", {"changes": {Key("rate", int): "1"}}),
            (SerializationError, "run two, key 'rate'", {"changes": {"rate": object()}}),
            (ConfigurationError, "twice; name it once", {"changes": {"address": "a", ADDRESS: "b"}}),
            (ConfigurationError, "must not begin with NUL", {"changes": {"\0wait": 1}}),
            (ConfigurationError, "a key must be a string or a Key", {"changes": {1: 1}}),
            (SizeLimitError, "the key", {"changes": {"k" * 600: 1}}),
            (ConfigurationError, "is not in the data; there are: 'address', 'count'", {"removed": ["cupon"]}),
            (ConfigurationError, "is among the changes, too", {"changes": {"coupon": 1}, "removed": ["coupon"]}),
            (ConfigurationError, "removed must be a list of keys", {"removed": "coupon"}),
            (ConfigurationError, "changes must be a mapping", {"changes": ["coupon"]}),
        ]
        for kind, problem, edits in wrong:
            with pytest.raises(kind, match=problem):
                await kernel.fork("one", 1, "two", **edits)
        assert [run.run_id for run in await kernel.runs()] == ["one"]
