"""Search attributes: what a workflow may declare, and the order of encoded values."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from enum import Enum, StrEnum
from fractions import Fraction
from typing import Any

import pytest
from cano import ConfigurationError, TypeMismatchError, Workflow
from cano.search_attributes import EVERY, AttributeRange, both, checked, encoded, ranges
from hypothesis import given
from hypothesis import strategies as st


class Plan(Enum):
    """Texts."""

    FREE = "free"
    PAID = "paid"


class Level(Enum):
    """Numbers."""

    LOW = 1


class Mixed(Enum):
    """Both."""

    A = 1
    B = "b"


numbers = st.one_of(
    st.integers(),
    st.floats(allow_nan=False),
    st.decimals(allow_nan=False, min_value=-(10**30), max_value=10**30),
    st.sampled_from([10**400, -(10**400), Decimal("1e-30000"), Decimal("-1.5"), -0.0, float("-inf")]),
)


def exact(number: Any) -> Any:
    """The value that a number has where it is compared: a float's is the one that is printed."""
    number = Decimal(repr(number)) if isinstance(number, float) else Decimal(number)
    return float(number) if number.is_infinite() else Fraction(number)


@given(numbers, numbers)
def test_numbers_keep_their_order(one: Any, other: Any) -> None:
    """Whatever their classes."""
    assert (encoded(one) < encoded(other)) == (exact(one) < exact(other))
    assert (encoded(one) == encoded(other)) == (exact(one) == exact(other))


texts = st.text(st.characters(exclude_categories=["Cs"]))
times = st.datetimes(timezones=st.sampled_from([UTC, timezone(timedelta(hours=-7, minutes=-30))]))


@given(st.one_of(st.tuples(texts, texts), st.tuples(times, times), st.tuples(st.dates(), st.dates())))
def test_other_values_keep_their_order(pair: tuple[Any, Any]) -> None:
    """Texts by code point, times whatever their zone."""
    one, other = pair
    assert (encoded(one) < encoded(other)) == (one < other)
    assert (encoded(one) == encoded(other)) == (one == other)


def test_kinds_are_apart() -> None:
    """Values of one kind begin with the same byte, and no range of a kind contains another's; an enum is its value."""
    values = [False, date(1, 1, 1), -1, 0.5, 10**9, "", "z\U0010ffff", datetime(2026, 1, 1, tzinfo=UTC)]
    assert [encoded(value)[:1] for value in values] == [b"b", b"d", b"n", b"n", b"n", b"s", b"s", b"t"]
    assert sorted(map(encoded, values)) == list(map(encoded, values))
    assert all(b"" < encoded(value) < EVERY for value in values)
    assert (encoded(Plan.PAID), encoded(Level.LOW)) == (encoded("paid"), encoded(1))


@given(st.sampled_from(["=", "!=", "<", "<=", ">", ">="]), st.integers(-3, 3), st.integers(-3, 3))
def test_ranges_mean_their_signs(sign: str, bound: int, value: int) -> None:
    """A value is in a range of a sign if it compares so."""
    found = ranges(sign, [encoded(bound)])
    compare = {"=": int.__eq__, "!=": int.__ne__, "<": int.__lt__, "<=": int.__le__, ">": int.__gt__, ">=": int.__ge__}
    assert any(low <= encoded(value) < high for low, high in found) == compare[sign](value, bound)
    assert any(low <= encoded("a") < high for low, high in found) == (sign == "!=")


def test_several_ranges() -> None:
    """`in` has a point for each value, `!=` of several none of them; both together what is in both."""
    a, b, c = map(encoded, "abc")
    assert [each.point for each in ranges("in", [b, a, b])] == [a, b]
    assert ranges("!=", [b, a])[1:2] == (AttributeRange(a + b"\0", b),)
    assert both(ranges("in", [a, b, c]), ranges("<", [c])) == ranges("in", [a, b])
    assert both(ranges("=", [a]), ranges("=", [b])) == ()
    assert ranges("<", [a])[0].point is None


@pytest.mark.parametrize(
    "value", ["\ud800", float("nan"), Decimal("NaN"), Decimal("1e60000"), 7**2000, datetime(2026, 1, 1)]
)
def test_what_has_no_place_in_the_order(value: Any) -> None:
    """Such a value is refused, as a run's attribute, too."""
    with pytest.raises(ValueError, match=r".+"):
        encoded(value)
    with pytest.raises(TypeMismatchError, match="run r of workflow 'w': attribute 'x' is ") as caught:
        checked("x", type(value), value, "r", "w")
    assert (caught.value.key, caught.value.run_id, caught.value.expected) == ("x", "r", type(value))


def test_values_are_checked() -> None:
    """A value is of the declared type; floats and Decimals may be whole; classes of enums and subclasses are left."""

    class Text(StrEnum):
        A = "a"

    assert [checked("x", float, 1), checked("x", Decimal, 2), checked("x", Plan, Plan.FREE)] == [1, 2, "free"]
    assert type(checked("x", str, Text.A)) is str
    for kind, value in (
        (int, True), (bool, 1), (int, 1.0), (str, b"a"), (Plan, "free"), (date, datetime(2026, 1, 1, tzinfo=UTC)),
        (datetime, date(2026, 1, 1)), (Decimal, 1.5), (str, ["a"]),
    ):  # fmt: skip
        with pytest.raises(TypeMismatchError, match=f"^attribute 'x' is .*, of type {type(value).__name__}, not "):
            checked("x", kind, value)


@pytest.mark.parametrize(
    ("attributes", "problem"),
    [
        (["tenant"], "attributes of workflow 'order': give a mapping"),
        ({"a b": str}, "attribute 'a b' of workflow 'order': a name begins"),
        ({"": str}, "attribute '' of workflow 'order': a name begins"),
        ({"ä": str}, "attribute 'ä' of workflow 'order': a name begins"),
        ({1: str}, "attribute 1 of workflow 'order': a name begins"),
        ({"Status": str}, "attribute 'Status' of workflow 'order': filters of runs have a field"),
        ({"updated_after": float}, "filters of runs have a field"),
        ({"in": str}, "filters of runs have a field, or a word, of that name"),
        ({"x": list}, "attribute 'x' of workflow 'order': its type must be str, bool, int, float, Decimal, datetime"),
        ({"x": "str"}, "its type must be"),
        ({"x": Mixed}, "its type must be"),
        ({"x": str | None}, "its type must be"),
        ({f"x{number}": str for number in range(51)}, "there are 51; a workflow has at most 50"),
    ],
)
def test_declarations_are_checked(attributes: Any, problem: str) -> None:
    """The error names workflow and attribute."""
    with pytest.raises(ConfigurationError, match=problem):
        Workflow("A", name="order", attributes=attributes)


def test_a_declaration_is_no_definition() -> None:
    """Runs of a workflow without the attributes continue with them."""
    declared = Workflow("A", attributes={"tenant": str, "plan": Plan, "level": Level, "when": datetime})
    assert declared.attributes == {"tenant": str, "plan": Plan, "level": Level, "when": datetime}
    assert declared.fingerprint() == Workflow("A").fingerprint()
    assert Workflow("A").attributes == {}
