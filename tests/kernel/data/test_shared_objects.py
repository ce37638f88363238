"""Objects that are not plain data are shared by reference, wherever they lie: in containers and in dataclasses."""

from __future__ import annotations

import threading
from collections import OrderedDict, deque, namedtuple
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import msgspec
import pydantic
import pytest
from cano import Workflow, isolate


class Client:
    """A client: a copy of it would be another connection."""

    def __init__(self) -> None:
        self.sent: list[str] = []


@dataclass
class Job:
    """A dataclass that holds one, and data."""

    client: Any
    todo: list[Any] = field(default_factory=lambda: [1])


@dataclass(frozen=True, slots=True)
class Frozen:
    """The same, frozen."""

    client: Any
    todo: list[Any] = field(default_factory=lambda: [1])


class Struct(msgspec.Struct):
    """The same of msgspec."""

    client: Any
    todo: list[Any]


class Model(pydantic.BaseModel):
    """The same of pydantic."""

    client: Any
    todo: list[Any]


Pair = namedtuple("Pair", ["client", "todo"])  # a plain one, too


@pytest.mark.parametrize("client", [Client(), threading.Lock()], ids=["client", "lock"])
@pytest.mark.parametrize(
    "make",
    [
        Job,
        Frozen,
        lambda client: Struct(client, [1]),
        lambda client: Model(client=client, todo=[1]),
        lambda client: Pair(client, [1]),
    ],
    ids=["dataclass", "frozen", "msgspec", "pydantic", "namedtuple"],
)
def test_they_are_shared_and_the_rest_is_copied(make: Any, client: Any) -> None:
    """Also where they cannot be copied, which once shared everything."""
    value = make(client)
    places: list[tuple[Any, Callable[[Any], Any]]] = [
        (value, lambda got: got),
        ([value], lambda got: got[0]),
        (OrderedDict(a=value), lambda got: got["a"]),
        (deque([value]), lambda got: got[0]),
        (Job(None, [value]), lambda got: got.todo[0]),
    ]
    for wrapped, unwrap in places:
        copy = unwrap(isolate(wrapped))
        assert copy is not value
        assert copy.client is client
        assert copy.todo == value.todo
        assert copy.todo is not value.todo


def test_dataclasses_that_refer_to_each_other() -> None:
    """Circles are copied as circles."""
    one = Job(None)
    other = Job(one, [one])
    one.todo.append(other)
    copy = isolate(one)
    assert copy is not one
    assert copy.todo[1].client is copy
    assert copy.todo[1].todo[0] is copy


async def test_a_task_gets_the_client_that_was_put() -> None:
    """As README says."""
    client = Client()

    async def work(store: Any) -> str:
        store["job"].client.sent.append("letter")
        store["job"].todo.append(2)
        return "B"

    data: dict[str, Any] = {"job": Job(client)}
    await Workflow("A").register("A", work).add_exit_state("B").orchestrate(data)
    assert data["job"].client is client
    assert data["job"].todo == [1, 2]
    assert client.sent == ["letter"]
