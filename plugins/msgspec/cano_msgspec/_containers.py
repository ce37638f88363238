"""Collections other than lists, and dicts with keys that MessagePack cannot represent."""

from __future__ import annotations

from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Iterator
from itertools import chain, groupby
from typing import Any

from cano_msgspec._kind import Refusal, at_index, at_key, builtin, identity

_FACTORIES: dict[str | None, Any] = {
    made.__name__: made for made in (list, dict, set, frozenset, tuple, int, float, str, bytes, bool)
}
_FACTORIES[None] = None


MOST = 1000
"""About how many keys of a large set or dict may share a hash: more take longer than the rest of the value, squared."""
_SAMPLE, _SHARE, _CERTAIN = 2000, 50, 10


def _spread(keys: list[Any]) -> None:
    """Raise Refusal if more than about `MOST` keys share a hash: the bytes are then likely crafted.

    An attacker can choose the hashes of numbers, and of values made of numbers. Many keys are checked by a sample.
    """
    if len(keys) <= MOST:
        return
    import random  # late: importing it takes 3 ms

    size = min(len(keys), max(_SAMPLE, len(keys) // _SHARE))
    hashes = sorted(map(hash, keys if size == len(keys) else random.sample(keys, size)))
    most = max(sum(1 for _ in same) for _, same in groupby(hashes))
    if most >= _CERTAIN and most * len(keys) > MOST * size:
        count = most * len(keys) // size
        raise Refusal(f"about {count} of its {len(keys)} keys or items share a hash, more than {MOST}")


def _read_set(parts: list[Any]) -> set[Any]:
    _spread(parts)
    return set(parts)


def _read_frozenset(parts: list[Any]) -> frozenset[Any]:
    _spread(parts)
    return frozenset(parts)


def _write_deque(value: deque[Any]) -> list[Any]:
    return [value.maxlen, *value]


def _read_deque(parts: list[Any]) -> deque[Any]:
    longest, *items = parts
    if longest is not None and len(items) > longest:
        raise ValueError("more items than its maxlen")
    return deque(items, longest)


def _at_deque(parts: list[Any], index: int) -> str:
    return at_index(parts, index - 1)


def _write_pairs(value: dict[Any, Any]) -> list[Any]:
    return list(chain.from_iterable(value.items()))


def _pairs(parts: list[Any]) -> Iterator[tuple[Any, Any]]:
    _spread(parts[::2])
    items = iter(parts)
    return zip(items, items, strict=True)


def _at_pair(parts: list[Any], index: int) -> str:
    key = parts[index & ~1]
    return at_key(key) if index & 1 else f"[key {at_key(key).strip('.[]')}]"


def _read_dict(parts: list[Any]) -> dict[Any, Any]:
    return dict(_pairs(parts))


def _read_ordered(parts: list[Any]) -> OrderedDict[Any, Any]:
    return OrderedDict(_pairs(parts))


def _read_counter(parts: list[Any]) -> Counter[Any]:
    counter: Counter[Any] = Counter()
    dict.update(counter, _pairs(parts))  # Counter.update would add the counts
    return counter


def _write_defaultdict(value: defaultdict[Any, Any]) -> list[Any]:
    factory = value.default_factory
    name = getattr(factory, "__name__", None)
    if _FACTORIES.get(name) is not factory:
        allowed = ", ".join(filter(None, _FACTORIES))
        raise Refusal(f"the default_factory of a defaultdict must be one of {allowed} or None", defaultdict)
    return [name, *_write_pairs(value)]


def _read_defaultdict(parts: list[Any]) -> defaultdict[Any, Any]:
    name, *rest = parts
    return defaultdict(_FACTORIES[name], _pairs(rest))


def _at_default_pair(parts: list[Any], index: int) -> str:
    return _at_pair(parts[1:], index - 1) if index else ""


KINDS = (
    builtin(tuple, "t", identity, tuple, at_index),
    builtin(set, "s", identity, _read_set, at_index),
    builtin(frozenset, "fs", identity, _read_frozenset, at_index),
    builtin(deque, "dq", _write_deque, _read_deque, _at_deque),
    builtin(dict, "d", _write_pairs, _read_dict, _at_pair),
    builtin(OrderedDict, "od", _write_pairs, _read_ordered, _at_pair),
    builtin(Counter, "co", _write_pairs, _read_counter, _at_pair),
    builtin(defaultdict, "dd", _write_defaultdict, _read_defaultdict, _at_default_pair),
)
