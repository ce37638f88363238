"""The kinds of the types that every codec knows."""

from __future__ import annotations

from cano_msgspec import _containers, _numbers, _text, _times

BUILTINS = (*_numbers.KINDS, *_text.KINDS, *_times.KINDS, *_containers.KINDS)
