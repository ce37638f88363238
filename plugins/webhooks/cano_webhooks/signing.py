"""Signatures of the Standard Webhooks scheme, version 1: HMAC-SHA256 of id, timestamp and body."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import secrets

from cano import ConfigurationError

PREFIX = "whsec_"


def new_secret() -> str:
    """Return a new random secret of 32 bytes, such as receivers need to verify signatures."""
    return PREFIX + base64.b64encode(secrets.token_bytes(32)).decode()


def read_secret(secret: object) -> bytes:
    """Return the key that a secret stands for. Raises ConfigurationError, which does not show the secret."""
    if isinstance(secret, str):
        try:
            key = base64.b64decode(secret.removeprefix(PREFIX), validate=True)
        except (binascii.Error, ValueError):
            key = b""
        if 24 <= len(key) <= 64:
            return key
    raise ConfigurationError(
        f"secret must be {PREFIX!r} and 24 to 64 bytes in base64, or a list of these; to make one, call "
        "cano_webhooks.new_secret()"
    )


def signature(key: bytes, id: str, timestamp: int, body: bytes) -> str:
    """Return the signature of one message with one key, as it stands in the header `webhook-signature`."""
    digest = hmac.new(key, b"%s.%d.%s" % (id.encode(), timestamp, body), hashlib.sha256).digest()
    return "v1," + base64.b64encode(digest).decode()
