"""Names of things in the store: addresses and their beginnings, pins, and paths inside of what they name.

Examples: ``686b4030...c846df``, ``686b4030``, ``my/model`` (a pin), ``my/model/model.safetensors/layer.weight``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Final

from samebits.cas.contents import entries
from samebits.cas.digest import Digest
from samebits.cas.errors import DigestFormatError, ObjectNotFoundError, PathError
from samebits.cas.store import Store

MIN_PREFIX_LENGTH: Final = 8
_PREFIX = re.compile(rf"[0-9a-f]{{{MIN_PREFIX_LENGTH},63}}\Z")
_MAX_COMPARED: Final = 5000  # how many names are looked at for one that resembles a wrong one
_MAX_PIN_PARTS: Final = 8  # how many parts of a wrong text are taken for a pin's


@dataclass(frozen=True, slots=True)
class Resolved:
    """What a text names."""

    digest: Digest
    name: str  # the name that it has in what holds it; empty for what was named by address or pin


def resolve(store: Store, text: str) -> Resolved:
    """Return what a text names: ADDRESS, PIN or the first 8 or more characters of an address, and /path/inside.

    The longest pin wins, and inside the longest name. An address comes before a pin, a pin before the beginning of an
    address. Raises PathError for a text that names nothing, or more than one thing, ObjectNotFoundError for an address
    that the store lacks.
    """
    root, path = _resolve_root(store, text)
    if not store.has(root):
        raise ObjectNotFoundError(root)
    digest, name = root, ""
    while path:
        digest, name, path = _step(store, text, digest, path)
    return Resolved(digest, name)


def _resolve_root(store: Store, text: str) -> tuple[Digest, str]:
    head, _, rest = text.partition("/")
    try:
        return Digest.parse(head), rest
    except DigestFormatError:
        pass
    pins = store.pins()
    pin = _longest(text, pins)
    if pin is not None:
        return pins[pin], text[len(pin) + 1 :]
    if not is_prefix(head):
        wanted = f"not an address, nor the first {MIN_PREFIX_LENGTH} or more characters of one, nor a pin"
        parts = text.split("/")[:_MAX_PIN_PARTS]
        heads = ["/".join(parts[:count]) for count in range(len(parts), 0, -1)]
        raise PathError(text, wanted + next(filter(None, (_near(head, pins) for head in heads)), ""))
    return only_address(text, head, store.find(head, 4), "in the store"), rest


def is_prefix(text: str) -> bool:
    """Return whether a text may be the beginning of an address: its first 8 or more characters."""
    return _PREFIX.match(text) is not None


def only_address(text: str, prefix: str, found: Sequence[Digest], where: str) -> Digest:
    """Return the address, found in a place, that begins with what a text begins with; raises PathError for not one."""
    if not found:
        raise PathError(text, f"no address {where} begins with {prefix}, and no pin is called so")
    if len(found) > 1:
        listed = ", ".join(str(digest)[: len(prefix) + 4] + "..." for digest in found[:3])
        raise PathError(text, f"several addresses begin with {prefix}: {listed}")
    return found[0]


def _step(store: Store, text: str, digest: Digest, path: str) -> tuple[Digest, str, str]:
    """Return the entry of `digest` with which `path` begins, its name, and what of the path is left."""
    where = f"{str(digest)[:12]}..."
    inner = entries(store, digest)
    if inner is None:
        kind = "blob" if store.stat(digest).kind == "blob" else store.get_node(digest).kind
        raise PathError(text, f"there is no {path!r} in {where}, which is a {kind} and holds nothing by name")
    name = _longest(path, inner)
    if name is None:
        below = [entry for entry in inner if entry.startswith(path.rstrip("/") + "/")]
        hint = f", but it has {below[0]!r}; name it whole" if below else _near(path, inner)
        raise PathError(text, f"there is no {path!r} in {where}{hint}")
    return inner[name], name, path[len(name) + 1 :]


def _longest(path: str, names: dict[str, Digest]) -> str | None:
    """Return the longest of `names` that is the path or, before a slash, its beginning."""
    end = len(path)
    while end > 0:
        if path[:end] in names:
            return path[:end]
        end = path.rfind("/", 0, end)
    return None


def _near(name: str, names: Iterable[str]) -> str:
    """Return the hint at a name that resembles this one, or nothing."""
    some = [other for other, _ in zip(names, range(_MAX_COMPARED), strict=False) if len(other) < 1000]
    found = get_close_matches(name[:1000], some, 1)
    return f"; did you mean {found[0]!r}?" if found else ""
