"""Namespaces have keys and channels of their own."""

from __future__ import annotations

from cano.testing.contract_base import new_run
from cano_redis import RedisBackend

from tests.plugins.redis.conftest import Ask
from tests.servers.redis import RedisServer


async def test_keys(redis: RedisServer, ask: Ask) -> None:
    """The keys of a namespace begin with the store's prefix in braces, and with the name and its length."""
    prefix = redis.new_prefix()
    store = RedisBackend(path=str(redis.socket), prefix=prefix, retry_for=7)
    part = store.scoped("a:b")
    await part.open()
    await part.create(new_run())
    await part.close()
    start = f"{{{prefix}}}3:a:b:"
    keys = [key.decode() for key in await ask("KEYS", f"*{prefix}*")]
    assert keys
    assert [key for key in keys if not key.startswith(start)] == []
    assert part._settings.channel == f"{start}news:0".encode()
    assert part._settings.retry_for == 7
    assert repr(part).endswith(f"prefix={prefix} (namespace 'a:b'), closed>")


def test_no_two_places_are_one() -> None:
    """No other prefix and name have the same keys, nor the start of others' keys."""
    pairs = [("cano", ()), ("cano", ("a",)), ("cano", ("a:1:b",)), ("cano", ("a", "b")), ("cano", ("1:a",)),
             ("cano", ("aa",)), ("cano1:a", ()), ("cano1", (":a",)), ("cano", (":a",))]  # fmt: skip
    found = []
    for prefix, names in pairs:
        store = RedisBackend(prefix=prefix)
        for name in names:
            store = store.scoped(name)
        found.append(store._settings.keys)
    starts = [(one, two) for one in found for two in found if one is not two and two.startswith(one)]
    assert starts == []
