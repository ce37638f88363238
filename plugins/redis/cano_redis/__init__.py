"""Durable runs in a Redis server: `redis://host:6379/0`."""

import typing

from cano.lazy_names import lazy_names as _lazy_names

__all__ = ["Durability", "RedisBackend"]

if typing.TYPE_CHECKING:
    from cano_redis.backend import RedisBackend
    from cano_redis.settings import Durability
else:
    __getattr__, __dir__ = _lazy_names(__name__, {"backend": "RedisBackend", "settings": "Durability"})
