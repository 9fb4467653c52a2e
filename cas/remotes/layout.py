"""The layout of a remote, the same for a directory, an HTTP server and S3.

samebits-remote                    the text "samebits remote 1" and a line end
objects/ea/8f163db3...0f           wire record of the object ea8f163db3...0f (62 characters behind the slash)
rows/4f/b2a90c11...7e              a row of up to 1 MiB, named by its BLAKE3
pins/runs%2Fmnist                  the address that the pin "runs/mnist" names, in hex, and a line end
pins.json                          all pins, for readers that can't list: {"runs/mnist": "ea8f163d..."}
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Final
from urllib.parse import quote, unquote

from samebits.cas.digest import Digest
from samebits.cas.errors import DigestFormatError, RemoteError
from samebits.cas.pins import pin_key

MARKER_PATH: Final = "samebits-remote"
MARKER: Final = b"samebits remote 1\n"
PINS_PATH: Final = "pins.json"
PINS_FOLDER: Final = "pins"
MAX_PINS_SIZE_BYTES: Final = 64 << 20
_MAX_FILE_NAME: Final = 255


def record_path(digest: Digest) -> str:
    """Return where the record of an object lies."""
    text = str(digest)
    return f"objects/{text[:2]}/{text[2:]}"


def row_path(key: bytes) -> str:
    """Return where a row lies."""
    text = key.hex()
    return f"rows/{text[:2]}/{text[2:]}"


def pin_path(name: str) -> str:
    """Return where a pin lies; raises ValueError for a name that can't be one, or is too long for a file's name."""
    pin_key(name)
    encoded = _encode_name(name)
    if len(encoded) > _MAX_FILE_NAME:
        raise ValueError(f"pin name {name!r} is too long for a remote: {len(encoded)} characters of {_MAX_FILE_NAME}")
    return f"{PINS_FOLDER}/{encoded}"


def parse_pin_name(file_name: str) -> str | None:
    """Return the pin that a file in `pins/` is for; None for a file that no pin has."""
    name = unquote(file_name, errors="surrogateescape")
    try:
        pin_key(name)
    except ValueError:
        return None
    return name if _encode_name(name) == file_name else None


def format_address(digest: Digest) -> bytes:
    """Return the content of a pin's file."""
    return f"{digest}\n".encode()


def parse_address(remote: str, name: str, data: bytes) -> Digest:
    """Return the address in a pin's file; raises RemoteError."""
    try:
        return Digest.parse(data.decode("ascii", "replace").removesuffix("\n"))
    except DigestFormatError as error:
        raise RemoteError(remote, f"its pin {name!r} is {error}") from error


def format_pins(pins: Mapping[str, Digest]) -> bytes:
    """Return the content of `pins.json`."""
    return json.dumps({name: str(pins[name]) for name in sorted(pins)}, indent=0).encode() + b"\n"


def parse_pins(remote: str, data: bytes) -> dict[str, Digest]:
    """Return the pins in a `pins.json`; raises RemoteError."""
    try:
        value = json.loads(data)
        if not isinstance(value, dict):
            raise ValueError("not a map")
        pins = {}
        for name in sorted(value):
            pin_key(name)
            pins[name] = Digest.parse(value[name] if isinstance(value[name], str) else "")
    except (ValueError, RecursionError, DigestFormatError) as error:
        raise RemoteError(remote, f"its pins are malformed: {error}") from error
    return pins


def _encode_name(name: str) -> str:
    encoded = quote(name, safe="")
    return "%2E" + encoded[1:] if encoded.startswith(".") else encoded  # no hidden file, no `..`
