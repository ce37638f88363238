"""A step's view of a store: one step's writes, all of them at its commit or none of them."""

from __future__ import annotations

import copy
import threading
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, NamedTuple

import pytest
from cano import (
    Changes,
    Key,
    KeyNotFoundError,
    MergeConflictError,
    StoreView,
    TypeMismatchError,
    apply_changes,
    isolate,
)
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule


class Colour(Enum):
    """Something that has no copy."""

    RED = 1


@dataclass
class Order:
    """Something that a task changes in place."""

    total: Any = 0
    lines: list[Any] = field(default_factory=list)
    note: Any = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Fixed:
    """Frozen, but what it holds can be changed."""

    items: list[Any]


class Point(NamedTuple):
    """A tuple with names."""

    x: Any
    tags: list[Any]


class Client:
    """Stands for what is passed by reference."""

    def __init__(self) -> None:
        self.calls = 0


# a plain dict is the model: of the committed data, and of what the step makes of it

KEYS = "abc"
NAMES = st.sampled_from(KEYS)
SCALARS = st.sampled_from([0, 1, True, 1.0, None, "x", Colour.RED, (1,)])
LISTS = st.lists(SCALARS, max_size=3)
VALUES = st.one_of(
    SCALARS,
    LISTS,
    LISTS,
    st.lists(LISTS, max_size=2),
    st.dictionaries(NAMES, SCALARS | LISTS, max_size=2),
    st.one_of(
        st.builds(Order, SCALARS, LISTS, SCALARS),
        st.builds(Fixed, LISTS),
        st.builds(Point, SCALARS, LISTS),
        st.tuples(LISTS),
        LISTS.map(deque),
        st.sets(NAMES),
    ),
)


def exact(value: Any) -> Any:
    """Something that is equal for two values only if they are equal with all their types and their order."""
    match value:
        case list() | tuple() | deque():
            return type(value), [exact(item) for item in value]
        case dict():
            return dict, [(exact(key), exact(item)) for key, item in value.items()]
        case set() | frozenset():
            return type(value), sorted(map(repr, value))
        case Order():
            return Order, exact([value.total, value.lines, value.note])
        case Fixed():
            return Fixed, exact(value.items)
    return type(value), value


def change(value: Any, item: Any) -> bool:
    """Change `value` in place; whether it can be changed, which for tuples goes by what is in them."""
    match value:
        case list() if value and isinstance(value[-1], list):
            value[-1].append(item)
        case list() | deque() if value and item is None:
            value.pop()
        case list() | deque() if value and item == "x":
            value.rotate() if isinstance(value, deque) else value.reverse()
        case list() | deque() if value:
            value[0] = item
        case list() | deque():
            value.append(item)
        case dict() if value and item is None:
            value.popitem()
        case dict() if value:
            value[next(iter(value))] = item
        case dict():
            value["new"] = item
        case set():
            value ^= {repr(item)}
        case Order() if item is None:
            value.lines.append(item)
        case Order() if value.note is None:
            value.note = item
        case Order():
            value.total = item
        case Fixed():
            value.items.append(item)
        case Point():
            value.tags.append(item)
        case (list() as inner,):
            inner.append(item)
        case _:
            return False
    return True


class ViewMachine(RuleBasedStateMachine):
    """Any sequence of steps on a view leaves what the same sequence leaves in a plain dict."""

    @initialize(data=st.dictionaries(NAMES, VALUES, max_size=4), managed=st.booleans())
    def start(self, data: dict[str, Any], managed: bool) -> None:
        """Some committed data, in a dict or behind an `apply` of the store's own."""
        self.base = copy.deepcopy(data)
        self.applied = 0
        self.view = StoreView(self.base, self.apply if managed else None)
        self.committed = data
        self.model = copy.deepcopy(data)
        self.savepoints: list[tuple[Changes | None, dict[str, Any]]] = []

    def apply(self, changes: Changes) -> None:
        """What a managed store does."""
        self.applied += 1
        apply_changes(self.base, changes)

    @rule(key=NAMES, value=VALUES, item=SCALARS)
    def put(self, key: str, value: Any, item: Any) -> None:
        """A value that is put is kept as it is at that moment, whatever becomes of it."""
        self.view.put(key, value)
        self.model[key] = copy.deepcopy(value)
        change(value, item)

    @rule(key=NAMES)
    def read(self, key: str) -> None:
        """A key that is there is found, and one that is not is an error."""
        if key in self.model:
            assert exact(self.view[key]) == exact(self.model[key])
        else:
            with pytest.raises(KeyNotFoundError):
                self.view.get(key)
            assert self.view.get(key, default=7) == 7

    @rule()
    def read_all(self) -> None:
        """All that is there is found."""
        assert exact_items(self.view) == exact_items(self.model)

    @rule(key=NAMES, item=SCALARS)
    def change_in_place(self, key: str, item: Any) -> None:
        """A value that is changed in place is found changed."""
        if key in self.model:
            assert change(self.view[key], item) == change(self.model[key], item)

    @rule(key=NAMES, item=VALUES)
    def append(self, key: str, item: Any) -> None:
        """An item goes to the end of a list, or makes one."""
        if isinstance(self.model.get(key, []), list):
            self.view.append(key, item)
            self.model.setdefault(key, []).append(copy.deepcopy(item))
            change(item, "later")
        else:
            with pytest.raises(TypeMismatchError):
                self.view.append(key, item)

    @rule(key=NAMES)
    def remove(self, key: str) -> None:
        """A key that is there is removed, and one that is not is an error."""
        if key in self.model:
            self.view.remove(key)
            del self.model[key]
        else:
            with pytest.raises(KeyNotFoundError):
                self.view.remove(key)

    @rule()
    def clear(self) -> None:
        """Every key is removed."""
        self.view.clear()
        self.model.clear()

    @rule()
    def commit(self) -> None:
        """What the step did is in the base, and nothing that was handed out reaches it any more."""
        before = self.applied
        handed_out = [self.view[key] for key in self.view]
        if self.view.touched:
            self.view.commit()
            assert self.applied - before <= 1
        self.committed = copy.deepcopy(self.model)
        self.savepoints.clear()
        assert not self.view.touched
        for value in handed_out:
            change(value, "later")

    @rule()
    def rollback(self) -> None:
        """Nothing of the step is left."""
        self.view.rollback()
        self.model = copy.deepcopy(self.committed)
        self.savepoints.clear()
        assert not self.view.touched

    @rule()
    def savepoint(self) -> None:
        """A savepoint holds what there is now."""
        self.savepoints.append((self.view.savepoint(), copy.deepcopy(self.model)))

    @precondition(lambda self: self.savepoints)
    @rule(data=st.data())
    def rollback_to_a_savepoint(self, data: st.DataObject) -> None:
        """What there was at the savepoint is there again, as often as it is gone back to."""
        savepoint, model = data.draw(st.sampled_from(self.savepoints))
        self.view.rollback(savepoint)
        self.model = copy.deepcopy(model)

    @rule(settle=st.booleans())
    def merge_into_another(self, settle: bool) -> None:
        """Another view of the same base to which the changes are given shows and commits the same."""
        base = copy.deepcopy(self.base)
        other = StoreView(base)
        changes = self.view.changes()
        other.merge(changes)
        assert exact_items(other) == exact_items(self.model)
        if settle:
            StoreView(base).settle(copy.deepcopy(changes))
        else:
            other.commit()
        assert exact_items(base) == exact_items(self.model)

    @rule(item=SCALARS)
    def a_detached_view_starts_afresh(self, item: Any) -> None:
        """A detached view shows what is committed, and what is written to it reaches neither view nor base."""
        other = self.view.detached()
        assert exact_items(other) == exact_items(self.committed)
        for key in other:
            change(other[key], item)
        other.put("z", item)

    @invariant()
    def the_view_shows_the_step(self) -> None:
        """Keys, their number and membership are those of the model; asking for them is no write."""
        touched = self.view.touched
        assert sorted(self.view.keys()) == sorted(self.model)
        assert len(self.view) == len(self.model)
        assert [key in self.view for key in KEYS] == [key in self.model for key in KEYS]
        assert self.view.touched == touched

    @invariant()
    def the_base_is_what_was_committed(self) -> None:
        """The base has what the last commit left, with all types and all that is in it."""
        assert exact_items(self.base) == exact_items(self.committed)


def exact_items(data: Mapping[str, Any] | StoreView) -> dict[str, Any]:
    """All of it, exactly."""
    return {key: exact(data[key]) for key in data}


TestView = ViewMachine.TestCase
TestView.settings = settings(max_examples=200, stateful_step_count=40, deadline=None)


# what the model cannot show


def test_writes_wait_for_the_commit() -> None:
    """Nobody else sees a write before the commit, and everybody sees it after."""
    base: dict[str, Any] = {"old": 1, "gone": 2}
    view = StoreView(base)
    view["new"] = 3
    view.remove("gone")
    view.append("list", 4)
    assert base == {"old": 1, "gone": 2}

    view.commit()
    assert base == {"old": 1, "new": 3, "list": [4]}


def test_all_changes_come_at_once() -> None:
    """A store is handed all that a step did in one piece."""
    seen: list[Changes] = []
    view = StoreView({"a": 1, "b": [1], "c": [1]}, seen.append)
    view.remove("a")
    view["d"] = 2
    view["c"].append(2)
    view.append("b", 3)
    view.commit()

    assert seen == [Changes(False, frozenset({"a"}), {"d": 2, "c": [1, 2]}, {"b": [3]})]


def test_clear_is_handed_on_as_such() -> None:
    """A store learns that it was cleared, so that also what came there meanwhile is gone."""
    seen: list[Changes] = []
    view = StoreView({"a": 1}, seen.append)
    view["b"] = 2
    view.clear()
    view["c"] = 3
    view.commit()

    assert seen == [Changes(True, frozenset(), {"c": 3}, {})]


@pytest.mark.parametrize(
    "value",
    [
        [1, [2]],
        {"a": {"b": 1}},
        {1, 2},
        deque([1]),
        bytearray(b"ab"),
        Order(1, [2], "n"),
        Fixed([1]),
        Point(1, ["t"]),
        ([1],),
        OrderedDict(a=1),
        defaultdict(list, a=[1]),
        Counter("aab"),
        float("nan"),
        [float("nan")],
        Colour.RED,
        pytest.param(Client(), id="client"),
        pytest.param([Client()], id="client in a list"),
        pytest.param(threading.Lock(), id="lock"),
    ],
    ids=repr,
)
def test_reading_is_no_write(value: Any) -> None:
    """A value that was only read is not committed, so a branch that reads never conflicts with one that writes."""
    view = StoreView({"key": value})
    view.get("key")
    changes = view.changes()

    assert (dict(changes.changed), dict(changes.appended)) == ({}, {})


IN_PLACE: dict[str, tuple[Any, Callable[[Any], object]]] = {
    "1 becomes True": ([1], lambda value: value.__setitem__(0, True)),
    "1 becomes 1.0": ({"n": 1}, lambda value: value.update(n=1.0)),
    "deep inside": ({"a": [{"n": 0}]}, lambda value: value["a"][0].update(n=False)),
    "a field that is not compared": (Order(), lambda value: setattr(value, "note", "x")),
    "a field of a field": ([Order()], lambda value: value[0].lines.append(1)),
    "inside something frozen": (Fixed([]), lambda value: value.items.append(1)),
    "inside a tuple": (Point(1, []), lambda value: value.tags.append(1)),
    "the order of a dict": ({"a": 1, "b": 2}, lambda value: value.update(a=value.pop("a"))),
    "the order of a list": ([1, 2], lambda value: value.reverse()),
    "an attribute of no field": (Order(), lambda value: setattr(value, "extra", 1)),
    "a subclass of dict": (Counter("ab"), lambda value: value.update("a")),
    "a dict with a default": (defaultdict(list), lambda value: value["new"]),
    "a set": ({1}, lambda value: value.add(2)),
    "bytes": (bytearray(b"a"), lambda value: value.extend(b"b")),
    "a deque": (deque([1]), lambda value: value.append(2)),
}


@pytest.mark.parametrize(("value", "alter"), IN_PLACE.values(), ids=IN_PLACE)
def test_changes_in_place_are_kept(value: Any, alter: Callable[[Any], object]) -> None:
    """What a task changes in place is committed, however small; and before the commit the base does not see it."""
    base = {"key": copy.deepcopy(value)}
    view = StoreView(base)
    before = repr(vars(value) if isinstance(value, Order) else value)
    alter(view["key"])
    assert repr(vars(base["key"]) if isinstance(value, Order) else base["key"]) == before

    alter(value)
    view.commit()
    assert repr(vars(base["key"]) if isinstance(value, Order) else base["key"]) == repr(
        vars(value) if isinstance(value, Order) else value
    )


def test_a_rollback_undoes_changes_in_place() -> None:
    """A failed attempt leaves no trace inside the values either."""
    view = StoreView({"list": [1], "order": Order(1)})
    view["list"].append(2)
    view["order"].lines.append(3)
    view.rollback()

    assert (view["list"], view["order"]) == ([1], Order(1))


def test_a_savepoint_shares_nothing() -> None:
    """What was there at a savepoint can be gone back to twice, whatever is done to the values in between."""
    view = StoreView({"old": [[1]]})
    view["new"] = [[2]]
    view.append("old", [3])
    savepoint = view.savepoint()
    for _ in range(2):
        view["new"][0].append(9)
        view["old"][1].append(9)
        view.rollback(savepoint)

        assert (view["new"], view["old"]) == ([[2]], [[1], [3]])


def test_there_is_no_savepoint_where_nothing_was_done() -> None:
    """A step that has done nothing yet goes back to the last commit."""
    view = StoreView({"a": 1})
    savepoint = view.savepoint()
    view["a"] = 2
    view.rollback(savepoint)

    assert savepoint is None
    assert view["a"] == 1


def test_one_step_sees_one_object() -> None:
    """Within a step a key gives the same object each time, as a dict would."""
    view = StoreView({"list": [1]})
    held = view["list"]
    held.append(2)
    view.append("list", 3)

    assert view["list"] is held
    assert held == [1, 2, 3]


def test_items_appended_by_others_stay() -> None:
    """An append adds to whatever list there is at the commit, so two steps at once lose nothing."""
    base: dict[str, Any] = {"list": [1]}
    one, other = StoreView(base), StoreView(base)
    one.append("list", 2)
    other.append("list", 3)
    assert one["list"] == [1, 2]
    other.commit()
    one.commit()

    assert base == {"list": [1, 3, 2]}


def test_a_reader_reverts_no_writer() -> None:
    """What a step has only read is not written back over what another step committed meanwhile."""
    base: dict[str, Any] = {"list": [1], "dict": {"n": 1}, "order": Order(1)}
    reader, writer = StoreView(base), StoreView(base)
    for key in reader:
        reader.get(key)
    writer.append("list", 2)
    writer["dict"]["n"] = 2
    writer["order"] = Order(2)
    writer.commit()
    reader["seen"] = True
    reader.commit()

    assert base == {"list": [1, 2], "dict": {"n": 2}, "order": Order(2), "seen": True}


def test_what_was_appended_to_and_changed_is_written_whole() -> None:
    """A list that was changed in place besides is written as the task left it."""
    view = StoreView({"list": [1, 2]})
    view.append("list", 3)
    view["list"].remove(1)

    assert view.changes() == Changes(False, frozenset(), {"list": [2, 3]}, {})


def test_a_value_that_cannot_be_compared_counts_as_changed() -> None:
    """A value whose copy cannot be compared with it is committed rather than lost."""

    @dataclass
    class Odd:
        inner: Any

        def __reduce_ex__(self, protocol: Any) -> Any:
            raise ValueError("no")

        def __deepcopy__(self, memo: Any) -> Odd:
            return Odd(self.inner)

    base = {"key": Odd(1)}
    view = StoreView(base)
    view["key"].inner = 2
    view.commit()

    assert base["key"].inner == 2


def test_an_append_to_what_became_something_else_changes_nothing() -> None:
    """When the list was replaced by something else meanwhile, the whole commit is refused and nothing is written."""
    base: dict[str, Any] = {"list": [1], "other": 1}
    view = StoreView(base)
    view["other"] = 2
    view.append("list", 2)
    base["list"] = "no list any more"
    with pytest.raises(TypeMismatchError, match="'list'"):
        view.commit()

    assert base == {"list": "no list any more", "other": 1}


def test_typed_keys_are_checked_in_every_state_of_a_view() -> None:
    """The type of a key is checked whether the value was read, lent, put or removed before."""
    count = Key("count", int)
    view = StoreView({"count": "x", "list": [1]})
    with pytest.raises(TypeMismatchError):
        view.get(count)
    view.get("list")  # from now on the view keeps more books
    with pytest.raises(TypeMismatchError):
        view.get(count)
    with pytest.raises(TypeMismatchError):
        view.put(count, "y")
    view.put(count, 3)
    assert view.get(count) == 3
    with pytest.raises(TypeMismatchError):
        view.get("count", str)
    view.remove(count)
    with pytest.raises(KeyNotFoundError):
        view.get(count)


def test_isolate_copies_through_and_through() -> None:
    """A copy shares nothing that can be changed, except objects that are passed by reference."""
    client = Client()
    value = {"list": [[1]], "order": Order(1, [2]), "tuple": ([3],), "set": {4}, "client": client, "e": Colour.RED}
    copied = isolate(value)

    assert exact({**copied, "client": 0}) == exact({**value, "client": 0})
    assert copied["client"] is client
    for key in ("list", "order", "tuple", "set"):
        assert copied[key] is not value[key]
    assert copied["list"][0] is not value["list"][0]  # type: ignore[index]
    assert copied["order"].lines is not value["order"].lines  # type: ignore[attr-defined]
    assert copied["tuple"][0] is not value["tuple"][0]  # type: ignore[index]


@pytest.mark.parametrize("value", [1, "a", None, (1, "a"), frozenset({1}), Colour.RED, Order, b"x", range(3)], ids=repr)
def test_isolate_copies_nothing_that_cannot_change(value: Any) -> None:
    """What cannot be changed is shared."""
    assert isolate(value) is value


def test_isolate_shares_what_has_no_copy() -> None:
    """A lock in a dataclass is passed by reference, like any other object."""

    @dataclass
    class Guarded:
        lock: Any

    guarded = Guarded(threading.Lock())

    assert isolate(guarded) is not guarded
    assert isolate(guarded).lock is guarded.lock


class Watched(dict[str, Any]):
    """A dict that looks at itself after each single change."""

    seen: list[Any]

    def look(self) -> None:
        """Note what another thread would find."""
        self.seen.append(self.get("a"))

    def __setitem__(self, key: str, value: Any) -> None:
        super().__setitem__(key, value)
        self.look()

    def pop(self, *arguments: Any) -> Any:
        """Look after it."""
        value = super().pop(*arguments)
        self.look()
        return value

    def clear(self) -> None:
        """Look after it."""
        super().clear()
        self.look()

    def update(self, *arguments: Any, **values: Any) -> None:
        """Look after it."""
        super().update(*arguments, **values)
        self.look()


@pytest.mark.parametrize(
    "changes",
    [
        Changes(True, frozenset(), {"a": [2]}, {}),
        Changes(False, frozenset({"a", "b"}), {"a": [2]}, {}),
        Changes(True, frozenset(), {}, {"a": [2]}),
        Changes(False, frozenset({"a", "b"}), {}, {"a": [2]}),
    ],
)
def test_a_key_changes_at_once(changes: Changes) -> None:
    """Who reads a key in another thread finds its old or its new value, and never that it is missing."""
    data = Watched(a=[1], b=3)
    data.seen = []
    apply_changes(data, changes)

    assert data == {"a": [2]}
    assert data.seen
    assert all(value in ([1], [2]) for value in data.seen)


def test_apply_changes_in_their_order() -> None:
    """First everything is cleared, then keys go, then keys are set, then items are added."""
    data = {"a": 1, "b": [1], "c": 3}
    apply_changes(data, Changes(False, frozenset({"a", "b", "none"}), {"c": 4, "a": 5}, {"b": [2], "d": [3]}))
    assert data == {"a": 5, "b": [2], "c": 4, "d": [3]}

    apply_changes(data, Changes(False, frozenset({"b"}), {"c": [4]}, {"b": [6], "c": [5]}))
    assert data == {"a": 5, "b": [6], "c": [4, 5], "d": [3]}

    apply_changes(data, Changes(True, frozenset(), {"e": 1}, {"b": [7]}))
    assert data == {"e": 1, "b": [7]}


def test_a_merge_conflict_knows_its_values() -> None:
    """The error of two branches that disagree has the key and what each wrote."""
    error = MergeConflictError("two", key="a", values={"0:x": 1, "1:y": 2})

    assert (error.key, error.values, str(error)) == ("a", {"0:x": 1, "1:y": 2}, "two")
