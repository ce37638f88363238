"""Values that are not what their key says."""

from __future__ import annotations

from cano import Key, KeyValueStore, ReadKey
from cano_memory import MemoryStore

COUNT = Key("count", int)
NAMES = Key("names", list[str])
TOTAL: ReadKey[int] = COUNT

Key(3, int)  # E: arg-type
Key("count", 3)  # E: arg-type
Key("count")  # E: call-arg
Key("count", int, reducer=len)  # E: arg-type


def in_a_task(store: KeyValueStore) -> None:
    """What tasks see."""
    store.put(COUNT, "three")  # E: misc
    store[COUNT] = None  # E: misc
    store.append(NAMES, 3)  # E: misc
    store.append(COUNT, 3)  # E: arg-type
    store.put(TOTAL, 3)  # E: call-overload
    store[TOTAL] = 3  # E: call-overload
    store.append(ReadKey("names", list[str]), "Ada")  # E: call-overload
    store.remove(TOTAL)  # E: arg-type
    store.put(3, 3)  # E: call-overload
    store.get(3)  # E: call-overload
    store.get("count", 0)  # E: call-overload
    store.get(COUNT, str)  # E: call-overload
    store.remove(3)  # E: arg-type
    text: str = store.get(COUNT)  # E: assignment
    text = store[COUNT]  # E: assignment
    text = store.get("count", int)  # E: assignment
    text = store.get(COUNT, default=None)  # E: assignment
    names: list[int] = store[NAMES]  # E: index
    store.keys().append(3)  # E: arg-type
    store.missing  # E: attr-defined
    print(text, names)


def in_a_script(store: MemoryStore) -> None:
    """The store itself is as strict."""
    store.put(COUNT, "three")  # E: misc
    store[COUNT] = None  # E: misc
    store.put(TOTAL, 3)  # E: call-overload
    store.append(NAMES, 3)  # E: misc
    store.append(COUNT, 3)  # E: arg-type
    store.get("count", 0)  # E: call-overload
    text: str = store.get(COUNT)  # E: assignment
    text = store[COUNT]  # E: assignment
    text = store.get("count", int)  # E: assignment
    print(text)


MemoryStore([("a", 1)])  # E: arg-type
