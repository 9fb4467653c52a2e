"""A store as a remote: what the server gives out, and what another store on this machine pulls from or pushes to."""

from __future__ import annotations

from collections.abc import Sequence

from samebits.cas.arrivals import Arrivals
from samebits.cas.digest import Digest
from samebits.cas.errors import EncodingError, NodeError, ObjectNotFoundError, RemoteError, WireError
from samebits.cas.node import decode_node, references
from samebits.cas.records import ROW_SIZE_BYTES, row_key
from samebits.cas.row_values import MeasuredRow
from samebits.cas.store import Store
from samebits.cas.wire import WireRecord, check_wire, read_row, wire_record


class StoreRemote:
    """A store that is used as a remote. What is written into it is verified, a node's references too."""

    def __init__(self, store: Store, name: str | None = None) -> None:
        self._store = store
        self._name = name or str(store.path)

    @property
    def name(self) -> str:
        """What errors call the remote."""
        return self._name

    def missing(self, digests: Sequence[Digest]) -> list[Digest]:
        """Return those of `digests` that the store has no object of, in their order."""
        return self._store.missing(digests)

    def missing_rows(self, keys: Sequence[bytes]) -> list[bytes]:
        """Return those of `keys` that the store has no row of, in their order."""
        return self._store.missing_rows(keys)

    def read_records(self, digests: Sequence[Digest]) -> list[WireRecord]:
        """Return the records of objects, in their order, each checked; raises ObjectNotFoundError."""
        records = []
        for digest in digests:
            try:
                record = wire_record(self._store, digest)
                check_wire(digest, record)
            except ObjectNotFoundError as error:
                raise ObjectNotFoundError(error.digest, f"remote {self._name}") from error
            except WireError as error:
                raise RemoteError(self._name, f"its record of object {digest} is wrong: {error}") from error
            records.append(record)
        return records

    def read_row(self, key: bytes, size_bytes: int) -> bytes:
        """Return the row of this key, but never more than `size_bytes` + 1 bytes."""
        data = self._store.row(key)
        if data is None:
            raise RemoteError(self._name, f"has no row {key.hex()}")
        return data if len(data) <= size_bytes else data[: size_bytes + 1]

    def write_row(self, key: bytes, data: bytes) -> None:
        """Keep a row under its key; raises WireError if it is not the BLAKE3 of its bytes."""
        if not 1 <= len(data) <= ROW_SIZE_BYTES:
            raise WireError(f"a row of {len(data)} bytes; it has 1 to {ROW_SIZE_BYTES}")
        if row_key(data) != key:
            raise WireError(f"the row does not have the hash {key.hex()}")
        with self._store.batch(join=True):
            self._store.pending_writes().add_row(MeasuredRow(data, len(data), key, None, None))

    def write_record(self, digest: Digest, record: WireRecord) -> None:
        """Make an object visible; raises WireError if it is wrong, or its rows or references are not there."""
        check_wire(digest, record)
        with self._store.batch(join=True):
            arrivals = Arrivals(self._store, self._name)
            for index in range(len(record.row_keys)):
                if not arrivals.use_row(digest, record, index):
                    raise WireError(f"row {index} of object {digest} is not here; send it first")
            if record.kind == "node":
                self._check_references(digest, record)
            arrivals.finish(digest, record)

    def pins(self) -> dict[str, Digest]:
        """Return every pin, in the order of names."""
        return self._store.pins()

    def write_pin(self, name: str, digest: Digest) -> None:
        """Give an object a name; raises ObjectNotFoundError, or ValueError for a name that can't be one."""
        self._store.pin(name, digest)

    def close(self) -> None:
        """Close the store."""
        self._store.close()

    def _check_references(self, digest: Digest, record: WireRecord) -> None:
        encoded = record.inline
        if encoded is None:
            encoded = b"".join(read_row(self._store, digest, key) for key in record.row_keys)
        try:
            absent = self._store.missing(references(decode_node(encoded)))
        except (EncodingError, NodeError) as error:
            raise WireError(f"object {digest} is not a node: {error}") from error
        if absent:
            raise WireError(f"node {digest} refers to {absent[0]}, which is not here; send it first")
