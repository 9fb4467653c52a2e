"""Objects out of remotes, each checked against its address, and never longer than evidence may be."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from samebits.cas import CasError, Digest, references
from samebits.cas.errors import ObjectNotFoundError, RemoteError
from samebits.cas.fetching import fetch_object
from samebits.cas.records import ROW_SIZE_BYTES, ObjectKind
from samebits.cas.remotes import Remote, read_record
from samebits.cas.tree import read_tree
from samebits.cas.wire import WireRecord
from samebits.exec.dispute.evidence import MAX_HEAD_SIZE_BYTES, MAX_SIZE_BYTES
from samebits.exec.dispute.objects import BlobPart, Objects, row_size_bytes
from samebits.exec.errors import EvidenceError

T = TypeVar("T")


class Fetcher:
    """Fetches into `objects`, from the first remote that gives what has the address; counts bytes."""

    def __init__(self, objects: Objects, remotes: Iterable[Remote]) -> None:
        self.objects = objects
        self.bytes_fetched = 0
        self.remotes = tuple(remotes)

    def node(self, digest: Digest) -> None:
        """Fetch a node; raises CasError if nobody has it."""
        if digest not in self.objects.nodes:
            self.objects.add_node(self._whole(digest, "node"))

    def nodes_below(self, root: Digest) -> None:
        """Fetch a node and all nodes that it refers to, but no blob."""
        pending, seen, size_bytes = [root], {root}, 0
        while pending:
            digest = pending.pop()
            if self._record(digest).kind == "node":
                self.node(digest)
                size_bytes += len(self.objects.nodes[digest])
                if size_bytes > MAX_HEAD_SIZE_BYTES:
                    raise EvidenceError(f"node {root} has more than {MAX_HEAD_SIZE_BYTES} bytes of nodes below it")
                below = [one for one in references(self.objects.get_node(digest)) if one not in seen]
                seen.update(below)
                pending += below

    def tree(self, digest: Digest) -> list[Digest]:
        """Fetch a tree's node; returns what it names."""
        self.node(digest)
        return list(read_tree(self.objects.get_node(digest)).values())

    def tensor(self, address: Digest) -> None:
        """Fetch a tensor's node and all of its bytes."""
        self.node(address)
        blob = self.objects.info(address).blob
        if blob not in self.objects.blobs:
            self.objects.add_blob(self._whole(blob, "blob"))

    def tensor_rows(self, address: Digest, numbers: NDArray[np.int64]) -> None:
        """Fetch of a tensor what its rows `numbers` lie in: rows of 1 MiB with the values that prove them."""
        self.node(address)
        info = self.objects.info(address)
        if info.size_bytes <= ROW_SIZE_BYTES:
            self.tensor(address)
            return
        size = row_size_bytes(info)
        wanted = {
            row
            for n in numbers.tolist()
            for row in range(n * size // ROW_SIZE_BYTES, -(-(n + 1) * size // ROW_SIZE_BYTES))
        }
        known = self.objects.parts.get(info.blob)
        wanted -= set() if known is None else known.rows.keys()
        part = self._first(info.blob, lambda remote: self._part(remote, info.blob, sorted(wanted)))
        rows = {**part.rows, **({} if known is None else known.rows)}
        self.objects.add_part(info.blob, BlobPart(part.size_bytes, part.values, rows))

    def _record(self, digest: Digest) -> WireRecord:
        return self._first(digest, lambda remote: read_record(remote, digest))

    def _first(self, digest: Digest, take: Callable[[Remote], T]) -> T:
        problem: CasError = ObjectNotFoundError(digest, "either place")
        for remote in self.remotes:
            try:
                return take(remote)
            except CasError as error:
                problem = error
        raise problem

    def _whole(self, digest: Digest, kind: ObjectKind) -> bytes:
        limit_bytes = MAX_HEAD_SIZE_BYTES if kind == "node" else MAX_SIZE_BYTES
        data = self._first(digest, lambda remote: fetch_object(remote, digest, kind, limit_bytes))
        self.bytes_fetched += len(data)
        return data

    def _part(self, remote: Remote, blob: Digest, wanted: list[int]) -> BlobPart:
        record = read_record(remote, blob)
        if (
            record.kind != "blob"
            or len(record.row_keys) != len(record.subtrees)
            or len(wanted) * ROW_SIZE_BYTES > MAX_SIZE_BYTES
        ):
            raise RemoteError(remote.name, f"object {blob} can't be had in rows")
        rows = {index: remote.read_row(record.row_keys[index], record.row_size_bytes(index)) for index in wanted}
        self.bytes_fetched += sum(map(len, rows.values())) + 32 * len(record.subtrees)
        part = BlobPart(record.size_bytes, record.subtrees, rows)
        part.check(blob)
        return part
