"""Durable runs in a Redis server: `redis://host:6379/0`."""

from cano_redis.backend import RedisBackend
from cano_redis.settings import Durability

__all__ = ["Durability", "RedisBackend"]
