"""The classes that an annotation registers, and errors about unregistered ones."""

from __future__ import annotations

import enum
import sys
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, make_dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    ClassVar,
    Final,
    Generic,
    Literal,
    NamedTuple,
    NewType,
    Protocol,
    TypeVar,
)

import msgspec
import pytest
import typing_extensions
from cano import Codec, SerializationError
from cano_msgspec import MsgspecCodec

from tests.plugins.msgspec.registering import RegisteringCodec

if TYPE_CHECKING:
    from nowhere import Nothing  # type: ignore[import-not-found]


class Color(enum.Enum):
    RED = 1


@dataclass
class Leaf:
    n: int = 0


class Pair(NamedTuple):
    left: Leaf
    right: Color | None = None


class Record(msgspec.Struct):
    pair: list[Pair] | None = None


class Row(typing.TypedDict, total=False):
    record: typing.Required[Record]


class ExtendedRow(typing_extensions.TypedDict):
    leaf: Leaf


@dataclass
class Tree:
    """Refers to every class above and to itself."""

    children: list[Tree] = field(default_factory=list)
    row: Row | None = None
    everything: ClassVar[dict[str, Any]] = {}


@dataclass
class Half:
    """A class of which one annotation cannot be resolved."""

    missing: Nothing | None = None
    color: Annotated[Color, "a color"] = Color.RED
    same: Half | None = None


T = TypeVar("T")
B = TypeVar("B", bound=Leaf)
C = TypeVar("C", Leaf, Color)
Alias = NewType("Alias", Leaf)
Later = typing_extensions.TypeAliasType("Later", Leaf | list[int])


@dataclass
class Box(Generic[T]):
    item: T


@typing.runtime_checkable
class Shaped(Protocol):
    n: int


class Unchecked(Protocol):
    m: int


def test_is_a_codec(codec: MsgspecCodec) -> None:
    """It implements the kernel's protocol."""
    assert isinstance(codec, Codec)


@pytest.mark.parametrize(
    ("annotation", "value"),
    [
        (Leaf, Leaf()),
        (list[Leaf], Leaf()),
        (Leaf | None, Leaf()),
        (typing.Optional[Leaf], Leaf()),  # noqa: UP045  the old way is an annotation too
        (dict[str, tuple[Leaf, ...]], Leaf()),
        (Mapping[str, Sequence[Leaf]], Leaf()),
        (Literal[Color.RED], Color.RED),
        (Annotated[Leaf, ["unhashable"]], Leaf()),
        (Final[Leaf], Leaf()),
        (type[Leaf], Leaf()),
        (Callable[[Leaf], Color], [Leaf(), Color.RED]),
        (Box[Leaf], Box(Leaf())),
        (Box, Box(1)),
        (Alias, Leaf()),
        (Later, Leaf()),
        (B, Leaf()),
        (C, [Leaf(), Color.RED]),
        (Tree, [Tree(), Record(), Pair(Leaf(), Color.RED)]),
        (Row, [Record(), Pair(Leaf(), Color.RED)]),
        (ExtendedRow, Leaf()),
        (Half, [Half(), Color.RED]),
    ],
    ids=str,
)
def test_annotations(annotation: Any, value: Any) -> None:
    """Registering any annotation that contains a class allows its instances to be decoded."""
    data = RegisteringCodec().encode(value)
    codec, other = RegisteringCodec(), RegisteringCodec()
    with pytest.raises(SerializationError, match="is not registered"):
        codec.decode(data)
    codec.register(annotation)
    other.register(int, annotation, str)

    assert codec.decode(data) == other.decode(data) == value


@pytest.mark.parametrize(
    "annotation",
    [
        int, None, Any, object, list, list[int], "Leaf", typing.ForwardRef("Leaf"), ..., T, Protocol, Shaped, Exception,
        5, Literal["a"], [],
    ],
)  # fmt: skip
def test_what_names_no_class(codec: MsgspecCodec, annotation: Any) -> None:
    """Annotations without a supported class are ignored."""
    codec.register(annotation)

    assert not codec._registry.names


if sys.version_info >= (3, 12):  # older versions have no type statement

    def test_type_statement(codec: MsgspecCodec) -> None:
        """An alias may refer to itself; one that cannot be evaluated is ignored."""
        names: dict[str, Any] = {"Leaf": Leaf}
        exec("type Nested = Leaf | list[Nested]\ntype Broken = Missing", names)
        codec.register(names["Broken"], names["Nested"])

        assert codec.decode(codec.encode([Leaf()]), names["Nested"]) == [Leaf()]
        assert codec.decode(codec.encode(1), names["Broken"]) == 1


def test_local_annotations(codec: MsgspecCodec) -> None:
    """A local class may refer to itself, and to other classes that Python can resolve."""

    @dataclass
    class Node:
        next: Node | None = None

    codec.register(Node)
    assert codec.decode(codec.encode(Node(Node()))) == Node(Node())


def test_unregistered_class_is_named(codec: MsgspecCodec) -> None:
    """The error names the class, the path and the remedy."""
    data = RegisteringCodec().encode({"items": [1, (Leaf(),)]})

    with pytest.raises(SerializationError) as caught:
        codec.decode(data)
    assert str(caught.value) == (
        f"cannot decode .items[1][0] in the value: the class '{__name__}:Leaf' is not registered; "
        "name it in Workflow(types=[…]), or pass it to the codec's register()"
    )


@pytest.mark.parametrize(
    ("module", "advice"),
    [
        (__name__, ", and its module does not have it; if it was renamed or moved, keep a class"),
        ("no_such_module", "; name it in Workflow(types=[…]), or pass it to the codec's register(); if it was "),
    ],
)
def test_a_class_that_was_renamed(codec: MsgspecCodec, module: str, advice: str) -> None:
    """The error names the remedy for a renamed class only where the class may have been renamed."""
    former = make_dataclass("Former", [("n", int)])
    former.__module__ = module
    data = RegisteringCodec().encode(former(1))

    with pytest.raises(SerializationError) as caught:
        codec.decode(data)
    assert str(caught.value).startswith(
        f"cannot decode the value: the class '{module}:Former' is not registered{advice}"
    )

    codec.register(former)
    assert codec.decode(data) == former(1)


@pytest.mark.parametrize(
    ("value", "name", "path"),
    [
        (Leaf(), "Leaf", "the value"),
        ([1, {"a": (Color.RED,)}], "Color", "[1].a[0] in the value"),
        (Pair(Leaf()), "Pair", "the value"),
        (Record(), "Record", "the value"),
        ({Color.RED: 1}, "Color", "[key Color] in the value"),
    ],
    ids=str,
)
def test_encoding_registers_nothing(value: Any, name: str, path: str) -> None:
    """An instance of a class that is not registered is refused, and again: the next process could not decode it."""
    codec = MsgspecCodec()
    for _ in range(2):
        with pytest.raises(SerializationError) as caught:
            codec.encode(value)
        assert str(caught.value) == (
            f"cannot encode {path}: the class '{__name__}:{name}' is not registered, so another process could not "
            f"decode it; name it in Workflow(types=[{name}]), or pass it to the codec's register()"
        )
        assert caught.value.actual is globals()[name]
    codec.register(Tree)
    assert codec.decode(codec.encode(value)) == value


def test_a_restricted_codec() -> None:
    """It encodes its own types only, and decodes those of the wider codec, too, including what that learns later."""
    wide = MsgspecCodec()
    narrow = wide.restricted(Color)
    wide.register(Leaf)
    data = wide.encode([Leaf(), Color.RED])

    assert narrow.decode(data) == [Leaf(), Color.RED]
    assert narrow.encode(Color.RED) == wide.encode(Color.RED)
    for _ in range(2):
        with pytest.raises(SerializationError, match="Leaf' is not registered"):
            narrow.encode(Leaf())
    with pytest.raises(SerializationError, match="Pair' is not registered"):
        narrow.decode(RegisteringCodec().encode(Pair(Leaf())))


def test_restricted_codecs_have_their_own_classes() -> None:
    """Of two classes with one name, each restricted codec encodes and builds its own."""

    def local(n: int) -> type:
        @dataclass
        class Local:
            n: int

        return Local

    wide = MsgspecCodec()
    classes = [local(1), local(2)]
    codecs = [wide.restricted(cls) for cls in classes]
    for cls, codec in zip(classes, codecs, strict=True):
        assert type(codec.decode(codec.encode(cls(3)))) is cls


# the running script


@pytest.mark.parametrize(
    ("attributes", "name"),
    [
        ({"__spec__": SimpleNamespace(name="shop.flows")}, "shop.flows"),  # python -m shop.flows
        ({"__spec__": SimpleNamespace(name="shop.__main__")}, "shop.__main__"),  # python -m shop
        ({"__spec__": None, "__file__": "app.py"}, "app"),
        ({"__file__": "my-app.py"}, "my-app"),
        ({"__file__": "shop/inner/flows.py"}, "shop.inner.flows"),
        ({}, "__main__"),  # an interactive session
    ],
    ids=str,
)
@pytest.mark.parametrize("script", ["__main__", "__mp_main__"])
def test_a_script_has_its_name_for_importers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, attributes: dict[str, Any], name: str, script: str
) -> None:
    """A process that imports the module decodes what the script stored, and the other way round."""
    (tmp_path / "shop" / "inner").mkdir(parents=True)
    for package in ("shop", "shop/inner"):
        (tmp_path / package / "__init__.py").touch()
    monkeypatch.chdir(tmp_path)
    ran, imported, earlier = MsgspecCodec(), MsgspecCodec(), MsgspecCodec()
    modules = (script, name, "__main__")
    classes: list[type] = [dataclass(type("Order", (), {"__module__": module})) for module in modules]
    for alias in ("__main__", "__mp_main__"):  # as multiprocessing leaves them
        monkeypatch.delitem(sys.modules, alias, raising=False)
    earlier.register(classes[2])
    for alias in ("__main__", "__mp_main__"):
        monkeypatch.setitem(sys.modules, alias, SimpleNamespace(**attributes))
    ran.register(classes[0])
    imported.register(classes[1])

    assert type(imported.decode(ran.encode(classes[0]()))) is classes[1]
    assert type(ran.decode(imported.encode(classes[1]()))) is classes[0]
    assert type(ran.decode(earlier.encode(classes[2]()))) is classes[0]  # earlier versions wrote the script's own name


def test_codecs_are_apart(codec: MsgspecCodec) -> None:
    """Codecs do not share registered classes."""
    RegisteringCodec().register(Leaf)
    data = RegisteringCodec().encode(Leaf())

    with pytest.raises(SerializationError, match="is not registered"):
        codec.decode(data)


@pytest.mark.parametrize(
    ("value", "type"),
    [
        (1, int),
        (True, int),
        ([1], list),
        (["a"], list[int]),
        ({}, dict[str, int]),
        ({}, Row),
        ({}, ExtendedRow),
        ((1,), Sequence[int]),
        (None, int | None),
        (1, typing.Optional[int]),  # noqa: UP045
        (Leaf(), Leaf),
        (Leaf(), Alias),
        (Leaf(), Later),
        ([Leaf()], list[Leaf]),
        (Box(1), Box[int]),
        (Color.RED, Literal[Color.RED]),
        ("a", Literal["a", 1]),
        (1, Annotated[int, []]),
        (1, Any),
        (1, object),
        (1, T),
        (Leaf(), Shaped),
        (Leaf(), Unchecked),
        (Pair(Leaf()), tuple),
        (Leaf(), Leaf | Color | None),
    ],
    ids=str,
)
def test_expected_types(value: Any, type: Any) -> None:
    """A value of the expected type is returned; expecting a type registers it."""
    data = RegisteringCodec().encode(value)
    codec = RegisteringCodec()
    codec.register(Box, Leaf, Color, Pair)

    assert codec.decode(data, type) == codec.decode(data, type=type) == value


@pytest.mark.parametrize(
    ("value", "type", "names"),
    [
        (1, str, "a int, not a str"),
        ([1], dict[str, int], r"a list, not a dict\[str, int\]"),
        ([1], Row, "a list, not a Row"),
        (1, Leaf, "a int, not a Leaf"),
        (Leaf(), Color, "a Leaf, not a Color"),
        (1.0, int | None, r"a float, not a int \| None"),
        (True, Literal[1], r"a bool, not a typing.Literal\[1\]"),
        (Color.RED, Alias, "a Color, not a .*Alias"),
        ("x", Annotated[int, ["a"]], "a str, not a"),
        (None, Later, "a NoneType, not a Later"),
    ],
)
def test_other_types(codec: MsgspecCodec, value: Any, type: Any, names: str) -> None:
    """A value of another type raises an error with both types."""
    data = codec.encode(value)

    with pytest.raises(SerializationError, match=f"decoded {names}") as caught:
        codec.decode(data, type)
    assert caught.value.expected == type
    assert caught.value.actual is value.__class__


def test_decoding_for_a_type_registers_it() -> None:
    """Expecting a type registers it, also for the second time and after another class has taken its name."""
    data = RegisteringCodec().encode([Tree([Tree()], {"record": Record()})])
    codec = RegisteringCodec()
    for _ in range(2):
        assert codec.decode(data, list[Tree]) == [Tree([Tree()], {"record": Record()})]


def test_annotations_do_not_pile_up(codec: MsgspecCodec) -> None:
    """A codec remembers a bounded number of annotations."""
    for n in range(3000):
        codec.decode(codec.encode("a"), Literal["a", n])

    assert len(codec._registry._registered) <= 1000
