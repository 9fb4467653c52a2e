"""Everything that roots refer to: to list it, and to check that it is there and whole."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from samebits.cas.digest import Digest
from samebits.cas.errors import CasError
from samebits.cas.node import references
from samebits.cas.records import ObjectInfo
from samebits.cas.store import Store


@dataclass(frozen=True, slots=True)
class Damage:
    """An object that is missing or damaged, and the node that refers to it (None for a root)."""

    digest: Digest
    reason: str
    referred_by: Digest | None


def reachable(store: Store, roots: Iterable[Digest]) -> Iterator[ObjectInfo]:
    """Yield every object that the roots refer to, themselves included, each once."""
    seen: set[Digest] = set()
    pending = list(roots)
    while pending:
        digest = pending.pop()
        if digest in seen:
            continue
        seen.add(digest)
        info = store.stat(digest)
        if info.kind == "node":
            pending.extend(references(store.get_node(digest)))
        yield info


def check_objects(store: Store, roots: Iterable[Digest]) -> tuple[int, list[Damage]]:
    """Rehash everything reachable from `roots`; returns the number of objects and what is missing or damaged."""
    seen: set[Digest] = set()
    damaged: list[Damage] = []
    pending: list[tuple[Digest, Digest | None]] = [(root, None) for root in roots]
    while pending:
        digest, referrer = pending.pop()
        if digest in seen:
            continue
        seen.add(digest)
        try:
            if store.stat(digest).kind == "node":
                pending.extend((child, digest) for child in references(store.get_node(digest)))
            else:
                for _ in store.read_rows(digest):
                    pass
        except CasError as error:
            damaged.append(Damage(digest, str(error), referrer))
    return len(seen), damaged
