"""Keys from the environment: valid ones are parsed, and no error message shows a key."""

from __future__ import annotations

import base64
import subprocess
import sys
import traceback
from typing import Any

import pytest
from cano import ConfigurationError
from cano_encryption import KEYS_ENV, EncryptionKey, new_key, read_keys
from cano_encryption._plugin import cano_codec_layer
from hypothesis import given
from hypothesis import strategies as st

ONE, TWO = bytes(range(32)), bytes(range(100, 132))


def encoded(secret: bytes) -> str:
    """Return the secret as text for the environment."""
    return base64.b64encode(secret).decode()


def test_several_keys() -> None:
    """Keys keep their order; both alphabets, missing padding and surrounding whitespace are accepted."""
    high = b"\xff\xfe" * 16
    url = base64.urlsafe_b64encode(high).decode().rstrip("=")
    text = f" new.1 :{encoded(ONE)},\n b_-: {encoded(TWO)}\n,c:{url}".replace("new.1 ", "new.1")

    assert read_keys(text) == [EncryptionKey("new.1", ONE), EncryptionKey("b_-", TWO), EncryptionKey("c", high)]


@given(st.text("abcXYZ019_.-", min_size=1, max_size=32))
def test_a_new_key_is_read(id: str) -> None:
    """A new key can be parsed, and no two are the same."""
    (key,) = read_keys(new_key(id))
    assert key.id == id
    assert read_keys(f"{new_key()},{new_key()}")


GOOD = encoded(ONE)


@pytest.mark.parametrize("byte", [b"\0", b"A"])
def test_a_key_that_was_never_filled_is_refused(byte: bytes) -> None:
    """32 equal bytes, such as zeros, are refused in code and in the environment; the message names the id alone."""
    secret = byte * 32
    for make in (lambda: EncryptionKey("k1", secret), lambda: read_keys(f"good:{GOOD},k1:{encoded(secret)}")):
        with pytest.raises(
            ConfigurationError, match=r"^the key 'k1' is one byte repeated, which is not secret; "
        ) as caught:
            make()
        shown = "".join(traceback.format_exception(caught.value))
        for text in (encoded(secret), secret.hex(), repr(secret), repr(secret[:1])):
            assert text not in shown


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "holds no key; python -m cano_encryption prints a new key"),
        (" \n", "holds no key"),
        (GOOD, "key number 1: there is no colon"),
        (f"a:{GOOD},", "key number 2: there is no colon"),
        (f"a:{GOOD}:x", "key number 1: the text after the colon is not base64"),
        (f":{GOOD}", "key number 1: the id before the colon"),
        (f"{GOOD}:a", "key number 1: the id before the colon"),
        (f"a b:{GOOD}", "key number 1: the id before the colon"),
        (f"{'x' * 33}:{GOOD}", "key number 1: the id before the colon"),
        (f"é:{GOOD}", "key number 1: the id before the colon"),
        (f"a:{GOOD[:10]}", "key number 1: the key has 7 bytes, not 32"),
        ("a:", "key number 1: the key has 0 bytes, not 32"),
        (f"a:{encoded(ONE + b'x')}", "key number 1: the key has 33 bytes, not 32"),
        (f"a:{GOOD[:-4]}!!!=", "not base64"),
        (f"a:{GOOD[:-4]}é", "not base64"),
        (f"a:{encoded(TWO)},b:{GOOD},a:{encoded(ONE[::-1])}", "number 1 and 3 have the same id"),
        (f"a:{GOOD},b:{encoded(TWO)},c:{GOOD}", "number 1 and 3 have the same secret"),
    ],
)
def test_wrong_keys_are_refused_and_not_shown(text: str, problem: str) -> None:
    """The message gives the key's position and the remedy; neither it nor its cause shows any part of a key."""
    with pytest.raises(ConfigurationError, match=problem) as caught:
        read_keys(text)

    shown = "".join(traceback.format_exception(caught.value, chain=True)[-1:]) + str(caught.value.__context__ or "")
    for secret in (GOOD, encoded(TWO), GOOD[:10], GOOD[-10:], repr(ONE)):
        assert secret not in shown
    assert caught.value.__cause__ is None


@pytest.mark.parametrize(("id", "secret"), [("", ONE), ("a/b", ONE), (3, ONE), ("a", ONE[1:]), ("a", "x" * 32)])
def test_wrong_keys_cannot_be_made(id: Any, secret: Any) -> None:
    """A program cannot construct a malformed key."""
    with pytest.raises(ConfigurationError):
        EncryptionKey(id, secret)


def test_a_key_does_not_show_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """The `repr` of a key, and of a layer with it, shows only the id."""
    monkeypatch.setenv(KEYS_ENV, f"a:{GOOD}")
    layer = cano_codec_layer("encrypt")

    assert repr(EncryptionKey("a", ONE)) == "EncryptionKey(id='a')"
    assert repr(layer) == "<EncryptionLayer, keys a>"


def test_the_plugin_reads_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """The errors name a missing variable and do not show a wrong argument, which may be a key."""
    monkeypatch.delenv(KEYS_ENV, raising=False)
    with pytest.raises(ConfigurationError, match=f"{KEYS_ENV} holds no key"):
        cano_codec_layer("encrypt")
    monkeypatch.setenv(KEYS_ENV, new_key())
    with pytest.raises(ConfigurationError, match="takes only migrating and errors") as caught:
        cano_codec_layer(f"encrypt:{GOOD}")
    assert GOOD not in str(caught.value)
    migrating = cano_codec_layer("encrypt:migrating")
    assert migrating is not None
    assert (migrating.migrating, migrating.seals_errors) == (True, False)
    both = cano_codec_layer("encrypt:errors:migrating")
    assert both is not None
    assert (both.migrating, both.seals_errors) == (True, True)
    assert cano_codec_layer("encryption") is None


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `python -m cano_encryption`."""
    command = [sys.executable, "-m", "cano_encryption", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_command_prints_a_new_key() -> None:
    """The command prints a key with a random or the given id; a malformed id is refused."""
    first, named, wrong, help = run(), run("2026-11"), run("a:b"), run("--help")

    assert read_keys(first.stdout)[0].id != read_keys(run().stdout)[0].id
    assert read_keys(named.stdout)[0].id == "2026-11"
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert "id must be" in wrong.stderr
    assert help.stderr == "usage: python -m cano_encryption [ID]\n"


def test_discovery_does_not_load_the_library() -> None:
    """Loading the plugin does not import cryptography."""
    script = "import sys, cano_encryption._plugin; print('cryptography' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
