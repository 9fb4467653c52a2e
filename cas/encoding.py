"""Canonical msgpack: exactly one encoding per value, and a decoder that refuses every other.

Values: None, bool, int (-2^63 .. 2^64-1), str, bytes, Digest (extension type 1, 32 bytes), list, and dict with str
keys in the order of their UTF-8 bytes. There are no floats. Lengths and integers take their shortest form.

Example: ``{"b": 1, "a": [b"x", None]}`` encodes as ``82 a1 61 92 c4 01 78 c0 a1 62 01``.
Source: https://github.com/msgpack/msgpack/blob/master/spec.md
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeAlias

import msgpack

from samebits.cas.digest import DIGEST_SIZE_BYTES, Buffer, Digest
from samebits.cas.errors import EncodingError

# A decoded value. Tuples are accepted by `encode` and come back as lists.
Value: TypeAlias = "bool | int | str | bytes | Digest | list[Value] | tuple[Value, ...] | dict[str, Value] | None"

DIGEST_EXT_CODE: Final = 1
MAX_DEPTH: Final = 64
MAX_CONTAINERS: Final = 1 << 22  # lists and maps of one value: each is a byte or more, but 64 bytes of memory
_COUNTED_SIZE_BYTES: Final = 1 << 20  # what is shorter has fewer in any case
NOT_CANONICAL: Final = "not the canonical encoding (key order, duplicate key or a longer form than needed)"
_PLAIN: Final = (bool, bytes)
_LISTS: Final = (list, tuple)


def encode(value: Value) -> bytes:
    """Return the one canonical encoding of `value`; raises EncodingError for a value that has none."""
    encoded = msgpack.packb(_prepare(value, 0), use_bin_type=True)
    assert isinstance(encoded, bytes)
    return encoded


def encode_sorted(value: Value) -> bytes:
    """Return what `encode` does for a value whose maps have their keys in order already; several times as fast.

    Only for values of known form: nothing but texts that are no Unicode and integers out of range is refused.
    """
    try:
        encoded = msgpack.packb(value, default=_write_ext, use_bin_type=True)
    except (ValueError, OverflowError) as error:
        raise EncodingError(f"no canonical encoding: {error}") from error
    assert isinstance(encoded, bytes)
    return encoded


def decode(data: Buffer, max_length: int | None = None) -> Value:
    """Return the value of canonical bytes; raises EncodingError for anything `encode` would not have written.

    A list or map of more than `max_length` items is refused before it is read.
    """
    value = decode_unchecked(data, max_length)
    if encode(value) != bytes(data):
        raise EncodingError(NOT_CANONICAL)
    return value


def decode_unchecked(data: Buffer, max_length: int | None = None) -> Value:
    """Return the value of any msgpack; only for a caller who compares its bytes with those that the value has."""
    options: dict[str, Any] = _count_containers() if memoryview(data).nbytes > _COUNTED_SIZE_BYTES else {}
    if max_length is not None:
        options |= {"max_array_len": max_length, "max_map_len": max_length}
    try:
        value: Value = msgpack.unpackb(
            data, raw=False, strict_map_key=True, ext_hook=_read_ext, use_list=True, **options
        )
    except EncodingError:
        raise
    except (ValueError, msgpack.exceptions.UnpackException, RecursionError) as error:
        raise EncodingError(f"not msgpack: {error}") from error
    return value


def _count_containers() -> dict[str, Callable[[Any], Any]]:
    """Return hooks for msgpack that count lists and maps and raise EncodingError for too many."""
    found = 0

    def count(container: Any) -> Any:
        nonlocal found
        found += 1
        if found > MAX_CONTAINERS:
            raise EncodingError(f"more than {MAX_CONTAINERS} lists and maps")
        return container

    return {"list_hook": count, "object_hook": count}


def _write_ext(value: object) -> msgpack.ExtType:
    if not isinstance(value, Digest):
        raise EncodingError(f"a {type(value).__name__} has no canonical encoding")
    return tuple.__new__(msgpack.ExtType, (DIGEST_EXT_CODE, value.raw))  # its own checks take longer than packing


def _read_ext(code: int, payload: bytes) -> Digest:
    if code != DIGEST_EXT_CODE or len(payload) != DIGEST_SIZE_BYTES:
        raise EncodingError(f"unknown msgpack extension type {code} of {len(payload)} bytes")
    return Digest(payload)


def _prepare(value: Value, depth: int) -> object:
    """Return `value` in the form that msgpack packs canonically."""
    if depth > MAX_DEPTH:
        raise EncodingError(f"nested deeper than {MAX_DEPTH}")
    if isinstance(value, str):
        return _check_text(value)
    if value is None or isinstance(value, _PLAIN):
        return value
    if isinstance(value, Digest):
        return msgpack.ExtType(DIGEST_EXT_CODE, value.raw)
    if isinstance(value, int):
        if not -(1 << 63) <= value < 1 << 64:
            raise EncodingError(f"integer {value} is outside -2^63 .. 2^64-1")
        return int(value)
    if isinstance(value, _LISTS):
        return [_prepare(item, depth + 1) for item in value]
    if isinstance(value, dict):
        for key in value:
            if not isinstance(key, str):
                raise EncodingError(f"map key {key!r} is not text")
            _check_text(key)
        # the order of the characters is that of their UTF-8 bytes
        return {key: _prepare(value[key], depth + 1) for key in sorted(value)}
    raise EncodingError(f"a {type(value).__name__} has no canonical encoding")


def _check_text(text: str) -> str:
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise EncodingError(f"text {text!r} is not valid Unicode") from error
    return text
