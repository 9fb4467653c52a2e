"""Everything that roots refer to: to list it, in an order to store it, and to check that it is there and whole."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
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


def behind_references(roots: Iterable[Digest], below: Callable[[Digest], Sequence[Digest]]) -> Iterator[Digest]:
    """Yield everything that the roots refer to, themselves included, each once and behind what it refers to itself.

    `below` gives what an object refers to, and is asked once for each; the order follows from it alone.
    """
    seen: set[Digest] = set()
    for root in roots:
        pending = [(root, False)]
        while pending:
            digest, ready = pending.pop()
            if ready:
                yield digest
            elif digest not in seen:
                seen.add(digest)
                pending.append((digest, True))
                pending.extend((child, False) for child in reversed(below(digest)))


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
