"""A durable store of Cano in a Redis server, which any number of processes and machines may share."""

from cano_redis.backend import RedisBackend
from cano_redis.settings import Durability

__all__ = ["Durability", "RedisBackend"]
