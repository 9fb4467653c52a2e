"""Copy objects with everything they refer to from one store to another, and check what is stored."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

from samebits.cas.digest import Digest, hash_node
from samebits.cas.errors import CasError, DigestMismatchError, NodeError
from samebits.cas.node import MAX_NODE_SIZE_BYTES, decode_node, references
from samebits.cas.records import ObjectInfo
from samebits.cas.store import Store


class ObjectSource(Protocol):
    """Where a fetch finds objects: a store, or anything else; nothing of what it says is believed."""

    def stat(self, digest: Digest) -> ObjectInfo:
        """Return kind and size of an object; raises ObjectNotFoundError."""

    def read_rows(self, digest: Digest) -> Iterator[bytes]:
        """Yield the bytes of an object in pieces."""


@dataclass(frozen=True, slots=True)
class FetchReport:
    """What a fetch copied."""

    objects: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Damage:
    """An object that is missing or damaged, and the node that refers to it (None for a root)."""

    digest: Digest
    reason: str
    referred_by: Digest | None


def fetch(
    roots: Iterable[Digest], source: ObjectSource, target: Store, progress: Callable[[int], None] | None = None
) -> FetchReport:
    """Copy everything reachable from `roots` that `target` lacks, each object verified on arrival.

    A node is stored after all that it refers to. `progress` is told the size of each object in bytes. Raises
    ObjectNotFoundError, DigestMismatchError or DamagedObjectError naming the object; what arrived whole before that
    may be kept (a later fetch goes on from there).
    """
    objects = size_bytes = 0
    with target.batch(join=True):
        for digest, encoded in _missing(roots, source, target):
            if encoded is None:
                target.put_pieces(source.read_rows(digest), expected=digest)
            else:
                target.put_encoded_node(encoded)
            size = target.stat(digest).size_bytes
            objects, size_bytes = objects + 1, size_bytes + size
            if progress is not None:
                progress(size)
    return FetchReport(objects, size_bytes)


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


def _missing(roots: Iterable[Digest], source: ObjectSource, target: Store) -> Iterator[tuple[Digest, bytes | None]]:
    """Yield what `target` lacks, a node behind all that it refers to, with a node's verified bytes (None for a blob).

    Nodes that `target` has are walked too: they may have been put there without what they refer to. What it has stays
    from now on: the batch that is open relies on it.
    """
    seen: set[Digest] = set()
    # (object, its bytes if it is a missing node whose references are done, whether what refers to it stays);
    # the end is looked at next
    pending: list[tuple[Digest, bytes | None, bool]] = [(root, None, False) for root in roots]
    while pending:
        digest, encoded, kept = pending.pop()
        if encoded is not None:
            yield digest, encoded
            continue
        if digest in seen:
            continue
        seen.add(digest)
        present = target.has(digest)
        if present and not kept:
            target.pending_writes().rely_on_object(digest)
        info = (target if present else source).stat(digest)
        if info.kind == "node":
            encoded = target.get_encoded(digest) if present else _read_node(source, digest)
            if not present:
                pending.append((digest, encoded, False))
            pending.extend((child, None, present) for child in reversed(references(decode_node(encoded))))
        elif not present:
            yield digest, None


def _read_node(source: ObjectSource, digest: Digest) -> bytes:
    """Return a node's bytes; raises DigestMismatchError, or NodeError if they are too many."""
    encoded = bytearray()
    for piece in source.read_rows(digest):
        encoded += piece
        if len(encoded) > MAX_NODE_SIZE_BYTES:
            raise NodeError(f"node {digest} is larger than {MAX_NODE_SIZE_BYTES} bytes")
    if hash_node(encoded) != digest:
        raise DigestMismatchError(digest, hash_node(encoded))
    return bytes(encoded)
