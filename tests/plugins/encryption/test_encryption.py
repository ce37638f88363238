"""Encryption: values survive a round trip, and corrupt, foreign or unencrypted values are refused."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cano_encryption
import pytest
from cano import ConfigurationError, SerializationError
from cano_encryption import EncryptionKey, EncryptionLayer
from cano_encryption.layer import MARK, NONCE, SALT, TAG
from hypothesis import given
from hypothesis import strategies as st

OLD, NEW = EncryptionKey("old", bytes(range(32))), EncryptionKey("new", bytes(range(32, 64)))
LAYER = EncryptionLayer([OLD])


@given(st.binary(max_size=2000))
def test_round_trip(data: bytes) -> None:
    """Any bytes, even encrypted ones, survive; each encryption differs, and none contains the plain bytes."""
    for each in (data, MARK + data, LAYER.wrap(data)):
        one, two = LAYER.wrap(each), LAYER.wrap(each)
        assert one != two
        assert LAYER.unwrap(one) == LAYER.unwrap(two) == each
        assert len(one) == len(each) + 4 + len(OLD.id) + SALT + NONCE + TAG
        assert len(each) < 4 or each not in one


@given(st.data())
def test_damage_is_found(data: st.DataObject) -> None:
    """Any changed byte and any truncation is refused."""
    wrapped = LAYER.wrap(b"to be or not to be")
    at = data.draw(st.integers(0, len(wrapped) - 1))
    flipped = bytes([wrapped[at] ^ data.draw(st.integers(1, 255))])
    for damaged in (wrapped[:at] + flipped + wrapped[at + 1 :], wrapped[:at], wrapped + flipped):
        with pytest.raises(SerializationError):
            LAYER.unwrap(damaged)


@given(st.binary(max_size=100))
def test_what_is_not_encrypted_is_refused(data: bytes) -> None:
    """An unencrypted value is refused, since anyone with write access could forge it, unless the layer is migrating."""
    if data.startswith(MARK):
        return
    with pytest.raises(SerializationError, match=r"not encrypted, .* codec=encrypt:migrating"):
        LAYER.unwrap(data)
    assert EncryptionLayer([OLD], migrating=True).unwrap(data) == data


def test_keys_are_rotated() -> None:
    """The first key encrypts, all keys decrypt; the error about a missing key names it and the remedy."""
    both, after = EncryptionLayer([NEW, OLD]), EncryptionLayer([NEW])
    old, new = LAYER.wrap(b"value"), both.wrap(b"value")

    assert both.unwrap(old) == both.unwrap(new) == after.unwrap(new) == b"value"
    with pytest.raises(SerializationError, match=r"key 'old', but \w+ contains only new; append the missing key"):
        after.unwrap(old)
    with pytest.raises(SerializationError, match="key 'new'"):
        LAYER.unwrap(new)


def test_another_key_of_the_same_id() -> None:
    """Another key with the right id is refused with an error that names the id."""
    other = EncryptionLayer([EncryptionKey("old", bytes(range(1, 33)))])
    with pytest.raises(SerializationError, match=r"corrupt, or \w+ contains another key with the id 'old'"):
        other.unwrap(LAYER.wrap(b"value"))


def test_a_later_version_is_refused() -> None:
    """A value of a later version is refused, not guessed at."""
    wrapped = LAYER.wrap(b"value")
    with pytest.raises(SerializationError, match="later version"):
        LAYER.unwrap(MARK + b"\x03" + wrapped[3:])


def test_each_kernel_has_a_salt_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each layer draws its own salt and renews it after `VALUES_PER_SALT` values."""
    monkeypatch.setattr("cano_encryption.layer.VALUES_PER_SALT", 3)
    layer = EncryptionLayer([OLD])
    start = 4 + len(OLD.id)
    wrapped = [layer.wrap(b"value") for _ in range(9)]

    assert len({each[start : start + SALT] for each in wrapped}) == 3
    assert {LAYER.unwrap(each) for each in wrapped} == {b"value"}
    assert LAYER.wrap(b"")[start : start + SALT] not in {each[start : start + SALT] for each in wrapped}


def test_threads_share_a_layer() -> None:
    """Threads can share a layer, as they do with a strict store."""
    layer = EncryptionLayer([NEW, OLD])
    with ThreadPoolExecutor(8) as pool:
        values = [bytes([number]) * number for number in range(200)]
        assert list(pool.map(lambda data: layer.unwrap(layer.wrap(data)), values)) == values


def test_wrong_layers_are_refused() -> None:
    """Encryption needs at least one key, and ids that differ."""
    with pytest.raises(ConfigurationError, match="needs a key"):
        EncryptionLayer([])
    with pytest.raises(ConfigurationError, match="the same id"):
        EncryptionLayer([OLD, EncryptionKey("old", NEW.secret)])


def test_an_enormous_value_is_refused() -> None:
    """A value of 2 GiB is refused; here an object that only reports that length."""

    class Enormous(bytes):
        def __len__(self) -> int:
            return 2**31

    with pytest.raises(SerializationError, match="at most 2147483647 can be encrypted"):
        LAYER.wrap(Enormous())


def test_the_readme_says_it() -> None:
    """The README contains every public name, the environment variable and the mark."""
    text = (Path(cano_encryption.__file__).parents[1] / "README.md").read_text(encoding="utf-8")
    for promised in (*cano_encryption.__all__, cano_encryption.KEYS_ENV, MARK.hex(" ").upper()):
        assert f"{promised}" in text
