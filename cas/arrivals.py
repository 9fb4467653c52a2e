"""Objects that arrive from a remote, row by row: verified, kept, and visible when they are whole.

A row is on disk with the transaction that follows, before its object is complete; that is what makes a transfer
resumable. An object becomes visible with `finish`, when each of its rows has been checked at its place.
"""

from __future__ import annotations

from samebits.cas.digest import Digest
from samebits.cas.errors import BadRowError, DamagedObjectError, RemoteError, WireError
from samebits.cas.records import ObjectRecord, address_hasher, row_key
from samebits.cas.row_values import MeasuredRow, known_value, subtree_entry
from samebits.cas.store import Store
from samebits.cas.subtree import subtree_value
from samebits.cas.wire import WireRecord, check_wire, read_row


class Arrivals:
    """Takes the rows of objects into a store, within a batch of the calling thread."""

    def __init__(self, store: Store, remote: str) -> None:
        """`remote` is the name that errors give to where the rows come from."""
        self._store = store
        self._remote = remote
        self._checked: dict[Digest, set[int]] = {}  # of objects that are not finished

    def add_row(self, digest: Digest, index: int, row: MeasuredRow) -> None:
        """Keep a row of an object, which `check_row` has checked."""
        self._store.pending_writes().add_row(row)
        self._checked.setdefault(digest, set()).add(index)

    def use_row(self, digest: Digest, record: WireRecord, index: int) -> bool:
        """Take a row that the store has; returns whether it has it, under the key that the remote claims.

        Raises BadRowError if that row is another one than the object's, DamagedObjectError if the store's is damaged.
        """
        key = record.row_keys[index]
        if not self._store.missing_rows([key]):
            wanted = record.subtrees[index] if record.subtrees else None
            if wanted is None or known_value(self._store.environment, key, index) != wanted:
                self._check_own_row(digest, record, index)
            self._store.pending_writes().rely_on_row(key)
            self._checked.setdefault(digest, set()).add(index)
            return True
        return False

    def finish(self, digest: Digest, record: WireRecord) -> None:
        """Make an object visible whose rows were all added or used; raises RemoteError if it has another address."""
        try:
            check_wire(digest, record)
        except WireError as error:
            raise RemoteError(self._remote, f"its record of object {digest} is wrong: {error}") from error
        if self._checked.pop(digest, set()) != set(range(len(record.row_keys))):
            raise AssertionError("every row is checked before its object is finished")
        if record.kind == "node" and record.inline is None:
            self._check_node(digest, record)
        own = ObjectRecord(record.kind, record.size_bytes, record.inline, record.row_keys)
        self._store.pending_writes().add_record(digest, own)

    def flush(self) -> None:
        """Write what is gathered to disk, rows of incomplete objects too."""
        self._store.pending_writes().flush()

    def _check_own_row(self, digest: Digest, record: WireRecord, index: int) -> None:
        data, key = self._store.row(record.row_keys[index]) or b"", record.row_keys[index]
        if row_key(data) != key:
            raise DamagedObjectError(digest, f"the store has its row {index} already, but damaged ({key.hex()})")
        check_row(self._remote, digest, record, index, data)

    def _check_node(self, digest: Digest, record: WireRecord) -> None:
        """Raise RemoteError unless the rows of a node, together, have its address."""
        hasher = address_hasher("node")
        for key in record.row_keys:
            hasher.update(read_row(self._store, digest, key))
        if hasher.digest() != digest.raw:
            raise RemoteError(self._remote, f"the rows of object {digest} do not have its address")


def check_row(remote: str, digest: Digest, record: WireRecord, index: int, data: bytes) -> MeasuredRow:
    """Return a row that came from a remote, measured, if it is the object's at its place; raises BadRowError."""
    size = record.row_size_bytes(index)
    if len(data) != size:
        shown = f"more than {size}" if len(data) > size else str(len(data))
        raise BadRowError(remote, digest, index, f"has {shown} bytes, not {size}")
    key = row_key(data)
    if key != record.row_keys[index]:
        raise BadRowError(remote, digest, index)
    if not record.subtrees:
        return MeasuredRow(data, size, key, None, None)
    value = subtree_value(data, index)
    if value != record.subtrees[index]:
        raise BadRowError(remote, digest, index)
    return MeasuredRow(data, size, key, value, subtree_entry(key, index, value))
