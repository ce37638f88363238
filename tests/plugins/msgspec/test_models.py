"""Pydantic models survive a round trip without being validated again."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from functools import cached_property
from typing import Any, Generic, TypeVar

import pydantic
import pytest
from cano import SerializationError
from cano_msgspec import MsgspecCodec
from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, RootModel, computed_field, field_validator

from tests.plugins.msgspec.registering import RegisteringCodec

T = TypeVar("T")


class Item(BaseModel):
    sku: str
    price: Decimal = Decimal("0.10")
    sizes: tuple[int, ...] = ()


class Order(BaseModel):
    items: list[Item]
    by_sku: dict[str, Item] = Field(default_factory=dict)
    at: datetime | None = Field(default=None, alias="atTime")
    any: Any = None


class Frozen(BaseModel):
    model_config = ConfigDict(frozen=True)
    n: int


class Loose(BaseModel):
    model_config = ConfigDict(extra="allow")
    a: int


class Secretive(BaseModel):
    a: int
    _hidden: list[int] = PrivateAttr(default_factory=list)
    _unset: int = PrivateAttr()

    def model_post_init(self, context: Any) -> None:
        self._hidden.append(self.a)


class Numbers(RootModel[list[int]]):
    pass


class Box(BaseModel, Generic[T]):
    item: T


class Adding(BaseModel):
    n: int

    @field_validator("n")
    @classmethod
    def one_more(cls, n: int) -> int:
        return n + 1

    @computed_field  # type: ignore[prop-decorator]
    @cached_property
    def dear(self) -> int:
        return self.n * 2


@pydantic.dataclasses.dataclass
class Data:
    n: int
    item: Item | None = None


VALUES: list[Any] = [
    Item(sku="a"), Item(sku="a", price=Decimal("1.100"), sizes=(1, 2)),
    Order(items=[Item(sku="a")], by_sku={"a": Item(sku="b")}),
    Order(items=[], atTime=datetime(2024, 1, 1, tzinfo=UTC), any=(1, {2})), Frozen(n=1), {Frozen(n=1): 1},
    Loose(a=1, b=(2,), c=Item(sku="x")),  # type: ignore[call-arg]
    Secretive(a=1), Numbers([1, 2]), Box[int](item=1), Box[tuple[int, ...]](item=(1,)), Box(item=[Item(sku="a")]),
    Data(1, Item(sku="a")),
    Item.model_construct(sku=5), [Adding(n=1)] * 2,
]  # fmt: skip


@pytest.mark.parametrize("value", VALUES, ids=lambda value: ascii(value)[:50])
def test_comes_back(comes_back: Callable[[Any], Any], value: Any) -> None:
    """Models come back equal, with the types of their values and the set of assigned fields."""
    back = comes_back(value)

    assert repr(back) == repr(value)
    if isinstance(value, BaseModel):
        assert back.model_fields_set == value.model_fields_set
        assert back.__pydantic_private__ == value.__pydantic_private__
        assert back.__pydantic_extra__ == value.__pydantic_extra__


def test_nothing_is_validated_again(codec: MsgspecCodec) -> None:
    """Validators and `model_post_init` do not run when decoding, and cached properties are not stored."""
    value = Adding(n=1)
    assert value.dear == 4
    back = codec.decode(codec.encode([value, Secretive(a=1)]))

    assert (back[0].n, back[1]._hidden) == (2, [1])
    assert "dear" not in vars(back[0])
    assert back[0].dear == 4


def test_times_that_pydantic_parsed(comes_back: Callable[[Any], Any]) -> None:
    """Pydantic's own time zone survives a round trip."""
    value = Order.model_validate_json('{"items": [], "atTime": "2024-01-01T00:00:00+02:00"}')
    back = comes_back(value)

    assert type(back.at.tzinfo) is type(value.at.tzinfo)  # type: ignore[union-attr]


def test_registering_a_model_registers_its_fields() -> None:
    """Registering a model also registers the models in its fields, also in generic ones."""
    codec, other = RegisteringCodec(), RegisteringCodec()
    codec.register(Order, Box[Secretive])
    values = [Order(items=[Item(sku="a")]), Box[Secretive](item=Secretive(a=1))]

    assert codec.decode(other.encode(values)) == values


def versions() -> tuple[Any, Any]:
    """Return a model before and after a change of its fields."""

    def first() -> Any:
        class Model(BaseModel):
            a: int

        return Model

    def second() -> Any:
        class Model(BaseModel):
            a: int
            b: list[int] = Field(default_factory=list)
            _c: int = 3

        return Model

    before, now = first(), second()
    now.__qualname__ = before.__qualname__
    return before, now


def test_changed_models() -> None:
    """A new field gets its default; a removed field, and a new one without a default, are refused."""
    before, now = versions()
    codec = RegisteringCodec()
    old, new = codec.encode(before(a=1)), codec.encode(now(a=1, b=[2]))
    codec.register(now)
    back = codec.decode(old)

    assert (back.a, back.b, back._c, back.model_fields_set) == (1, [], 3, {"a"})
    codec.register(before)
    with pytest.raises(SerializationError, match="Model has no field 'b'"):
        codec.decode(new)


def test_half_a_model_is_refused(codec: MsgspecCodec) -> None:
    """A model without a field, or with an attribute unknown to pydantic, is refused."""
    item = Item(sku="a")
    vars(item)["other"] = 1

    with pytest.raises(SerializationError, match=r"\.a in the value: the field 'sku' of Item is not set"):
        codec.encode({"a": Item.model_construct()})
    with pytest.raises(SerializationError, match="attribute 'other' that is not a field"):
        codec.encode(item)


def test_pydantic_is_not_imported() -> None:
    """The codec never imports pydantic, not even for a stored time in pydantic's zone."""
    zoned = RegisteringCodec().encode(Order.model_validate_json('{"items": [], "atTime": "2024-01-01T00:00:00Z"}').at)
    program = (
        "import sys; from dataclasses import dataclass; from cano_msgspec import MsgspecCodec\n"
        "@dataclass\nclass A:\n    x: int\n"
        "codec = MsgspecCodec(); codec.register(A); print(codec.decode(codec.encode(A(1))))\n"
        f"try: codec.decode({zoned!r})\nexcept TypeError as error: print(error)\n"
        "print([name for name in sys.modules if name.startswith('pydantic')])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert done.stdout.splitlines() == [
        "A(x=1)",
        "cannot decode the value: the time zone is one of pydantic's; import pydantic",
        "[]",
    ]
