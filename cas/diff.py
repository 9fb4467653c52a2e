"""What differs between two objects: tensors and files by name, elements, and the bytes that they share."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

import numpy as np

from samebits.cas.contents import Content, leaves, tensor_rows
from samebits.cas.digest import Digest
from samebits.cas.dtype import numpy_dtype
from samebits.cas.reachable import reachable
from samebits.cas.store import Store
from samebits.cas.tensor import TENSOR_KIND

Status: TypeAlias = Literal["added", "removed", "changed", "equal"]
_UNSIGNED: Final = {1: np.uint8, 2: np.uint16, 4: np.uint32, 8: np.uint64}  # by the size of an element in bytes


@dataclass(frozen=True, slots=True)
class Difference:
    """One name, and what it stands for on either side.

    `name` is "" for the object itself. A weights file has its own name beside those of its tensors, for what is in
    none of them.
    """

    name: str
    status: Status
    before: Content | None  # None if added
    after: Content | None  # None if removed
    different_elements: int | None = None  # of two tensors of one type and shape, by their bits; None if not counted


@dataclass(frozen=True, slots=True)
class Diff:
    """The differences from one object to another, in the order of names, and their content in bytes.

    Sizes count each blob once. Shared is what of `after` is in blobs that `before` has too, or in rows of 1 MiB
    that blobs of both have in common.
    """

    before: Digest
    after: Digest
    differences: tuple[Difference, ...]  # equal ones too
    before_size_bytes: int
    after_size_bytes: int
    shared_blob_size_bytes: int  # in blobs that are equal as a whole
    shared_size_bytes: int  # these, and equal rows of others

    @property
    def same(self) -> bool:
        """Whether nothing differs."""
        return self.before == self.after or all(one.status == "equal" for one in self.differences)

    @property
    def shared_fraction(self) -> float:
        """How much of `after` is shared, 0 to 1."""
        return self.shared_size_bytes / self.after_size_bytes if self.after_size_bytes else 1.0

    def count(self, status: Status) -> int:
        """Return how many names have this status."""
        return sum(one.status == status for one in self.differences)


def diff(store: Store, before: Digest, after: Digest, *, addresses_only: bool = False) -> Diff:
    """Compare what two objects hold by name: trees, directories, weights files (of any format), tensors, blobs.

    With `addresses_only` nothing is read but nodes: no elements are counted and no rows compared. Raises NodeError, and
    what reads raise.
    """
    old, new = leaves(store, before), leaves(store, after)
    names = sorted(old.keys() | new.keys(), key=str.encode)
    found = tuple(_compare(store, name, old.get(name), new.get(name), addresses_only) for name in names)
    return Diff(before, after, found, *_sizes(store, before, after, addresses_only))


def _compare(store: Store, name: str, old: Content | None, new: Content | None, addresses_only: bool) -> Difference:
    if old is None or new is None:
        return Difference(name, "added" if old is None else "removed", old, new)
    if _identity(old) == _identity(new):
        return Difference(name, "equal", old, new)
    alike = old.kind == new.kind == TENSOR_KIND and (old.dtype, old.shape) == (new.dtype, new.shape)
    count = _different_elements(store, old, new) if alike and not addresses_only else None
    return Difference(name, "changed", old, new, count)


def _identity(content: Content) -> tuple[object, ...]:
    """Return what makes two contents equal. Not the address: that of a weights file covers its tensors too."""
    return content.kind, content.dtype, content.shape, content.parts


def _different_elements(store: Store, old: Content, new: Content) -> int:
    """Count the elements of two tensors of one type and shape whose bits differ, in bounded memory."""
    unsigned = _UNSIGNED[numpy_dtype(old.dtype or "").itemsize]
    count = 0
    for left, right in _aligned(tensor_rows(store, old), tensor_rows(store, new)):
        count += int(np.count_nonzero(np.frombuffer(left, unsigned) != np.frombuffer(right, unsigned)))
    return count


def _aligned(left: Iterator[bytes], right: Iterator[bytes]) -> Iterator[tuple[memoryview, memoryview]]:
    """Yield pieces of equal length of two streams of one length, wherever each of them is cut."""
    one = other = memoryview(b"")
    while True:
        one, other = one or memoryview(next(left, b"")), other or memoryview(next(right, b""))
        size = min(len(one), len(other))
        if not size:
            return
        yield one[:size], other[:size]
        one, other = one[size:], other[size:]


def _sizes(store: Store, before: Digest, after: Digest, addresses_only: bool) -> tuple[int, int, int, int]:
    """Return the sizes before and after, and what of the latter is shared: by blob, and by row too."""
    old, new = _blobs(store, before), _blobs(store, after)
    shared_blobs = sum(size for blob, size in new.items() if blob in old)
    shared_rows = 0
    changed = [blob for blob in new if blob not in old]
    if changed and not addresses_only:
        rows = {key for blob in old for key, _ in _rows(store, blob)}
        shared_rows = sum(size for blob in changed for key, size in _rows(store, blob) if key in rows)
    return sum(old.values()), sum(new.values()), shared_blobs, shared_blobs + shared_rows


def _blobs(store: Store, root: Digest) -> dict[Digest, int]:
    return {info.digest: info.size_bytes for info in reachable(store, [root]) if info.kind == "blob"}


def _rows(store: Store, blob: Digest) -> Iterator[tuple[bytes, int]]:
    """Yield key and size of each row of a blob; the address of a blob of one row is its key."""
    record = store.reader.record(blob, "blob")
    if record.inline is not None:
        yield blob.raw, record.size_bytes
    for index, key in enumerate(record.row_keys):
        yield key, record.row_size_bytes(index)
