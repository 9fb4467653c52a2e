"""Speed of the ledger's tiles: `make bench`, or python -m tests.bench_ledger [--entries N] [--write].

Durable appends of 64 entries at a time, beside what one fsync of a small file costs on this disk; and proofs and reads
from a log of a million entries, each by a reader that has read nothing yet ("cold", files in the page cache) and by one
that keeps its tiles. --write puts the tables into ledger/BENCH.md. Needs 200 MB of free disk space.
"""

from __future__ import annotations

import argparse
import datetime
import os
import platform
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from samebits.ledger.checkpoint import Checkpoint, open_checkpoint, sign_checkpoint
from samebits.ledger.keys import SigningKey
from samebits.ledger.merkle import check_consistency, check_inclusion, leaf_hash
from samebits.ledger.tile_audit import tile_problems
from samebits.ledger.tile_reader import TileReader
from samebits.ledger.tile_storage import TileLogStorage

TABLE: Final = Path(__file__).parent.parent / "ledger" / "BENCH.md"
ENTRY_SIZE_BYTES: Final = 400  # about that of a segment
BATCH: Final = 64
BATCHES: Final = 150
PROOFS: Final = 300


class Table:
    """Collects lines: what, the measured value, what it is compared with, and what is wanted."""

    def __init__(self) -> None:
        self.lines = ["| what | measured | beside it | wanted |", "|---|---|---|---|"]

    def add(self, what: str, measured: str, beside: str, wanted: str) -> None:
        """Add and print one line."""
        self.lines.append(f"| {what} | {measured} | {beside} | {wanted} |")
        print(f"{what:<52}{measured:>40}   {beside}   (wanted {wanted})", flush=True)


def timed(act: Callable[[], object]) -> float:
    """Return how long a call takes, in seconds."""
    started = time.perf_counter()
    act()
    return time.perf_counter() - started


def make_entries(first: int, count: int) -> list[bytes]:
    """Return entries that differ, of the size of real ones."""
    return [b"%019d" % (first + index) + bytes(ENTRY_SIZE_BYTES - 19) for index in range(count)]


def append(storage: TileLogStorage, key: SigningKey, entries: Sequence[bytes]) -> None:
    """Append entries durably."""

    def sign(tree_size: int, root_hash: bytes) -> bytes:
        return sign_checkpoint(Checkpoint(key.name, tree_size, root_hash), key).encode()

    with storage.writing() as writer:
        writer.append(entries, sign)


def fsync_s(folder: Path) -> float:
    """Return the median time of writing a new small file and syncing it, in seconds."""

    def write(number: int) -> None:
        with (folder / f"sync {number}").open("wb") as file:
            file.write(bytes(BATCH * ENTRY_SIZE_BYTES))
            file.flush()
            os.fsync(file.fileno())

    times = sorted(timed(lambda number=number: write(number)) for number in range(40))  # type: ignore[misc]
    return statistics.median(times)


def bench_append(table: Table, folder: Path, key: SigningKey) -> None:
    """Durable appends in batches: the storage alone, without the checks of entries."""
    storage = TileLogStorage(folder / "small", key.verifier, state_folder=folder / "state of small")
    append(storage, key, [])
    times = [timed(lambda n=n: append(storage, key, make_entries(n * BATCH, BATCH))) for n in range(BATCHES)]  # type: ignore[misc]
    storage.close()
    rate = BATCH * BATCHES / sum(times)
    middle, slow = statistics.median(times), sorted(times)[BATCHES * 95 // 100]
    measured = f"{rate:,.0f}/s; {middle * 1e3:.1f} ms each, 95 % in {slow * 1e3:.1f} ms"
    beside = f"one fsync {fsync_s(folder) * 1e3:.1f} ms"
    table.add(f"entries stored durably, {BATCH} at a time", measured, beside, "2,000/s")


def make_large(table: Table, folder: Path, key: SigningKey, count: int) -> TileReader:
    """Append many entries in large batches; returns a reader of the log."""
    storage = TileLogStorage(folder / "large", key.verifier, state_folder=folder / "state of large")
    append(storage, key, [])
    step = 1 << 16
    took = sum(
        timed(lambda f=first: append(storage, key, make_entries(f, min(step, count - f))))  # type: ignore[misc]
        for first in range(0, count, step)
    )
    table.add(f"the same, {step:,} at a time", f"{count / took:,.0f}/s", "", "")
    with storage.reading() as view:
        checkpoint = open_checkpoint(view.checkpoint() or b"", key.verifier)
    storage.close()
    return TileReader(storage.source, checkpoint)


def bench_proofs(table: Table, folder: Path, reader: TileReader) -> None:
    """Single proofs and reads at random places."""
    places, source, checkpoint = random.Random(1), reader._source, reader.checkpoint
    indexes = [places.randrange(reader.tree_size) for _ in range(PROOFS)]

    def fresh() -> TileReader:
        return TileReader(source, checkpoint)

    kinds: list[tuple[str, Callable[[TileReader, int], object]]] = [
        ("inclusion proof", lambda one, index: one.inclusion_proof(index)),
        ("consistency proof", lambda one, index: one.consistency_proof(index + 1)),
        ("entry, verified", lambda one, index: one.entry(index)),
    ]
    size = f"{reader.tree_size:,}"
    for name, act in kinds:
        cold = sorted(timed(lambda act=act, i=i: act(fresh(), i)) for i in indexes)  # type: ignore[misc]
        kept = sorted(timed(lambda act=act, i=i: act(reader, i)) for i in indexes)  # type: ignore[misc]
        slow = cold[PROOFS * 99 // 100]
        measured = f"cold {statistics.median(cold) * 1e3:.2f} ms, 99 % in {slow * 1e3:.2f} ms"
        beside = f"tiles kept: {statistics.median(kept) * 1e3:.2f} ms"
        table.add(f"{name}, log of {size}", measured, beside, "< 5 ms" if "proof" in name else "")
    for index in indexes[:20]:
        leaf, root = leaf_hash(make_entries(index, 1)[0]), checkpoint.root_hash
        check_inclusion(index, reader.tree_size, leaf, reader.inclusion_proof(index), root)
        old = reader.root_hash(index + 1)
        check_consistency(index + 1, reader.tree_size, old, root, reader.consistency_proof(index + 1))
    took = timed(lambda: sum(1 for _ in fresh().entries()))
    table.add(f"read all {size}, verified", f"{reader.tree_size / took:,.0f}/s", "", "")
    took = timed(lambda: list(tile_problems(folder / "large", reader.tree_size)))
    table.add("check all of its tiles against its entries", f"{took:.1f} s", "", "")


def main() -> None:
    """Print the table; with --write, put it into ledger/BENCH.md."""
    parser = argparse.ArgumentParser(prog="tests.bench_ledger", description=__doc__.partition("\n")[0])
    parser.add_argument("--entries", type=int, default=1_000_000)
    parser.add_argument("--write", action="store_true", help="replace ledger/BENCH.md")
    options = parser.parse_args()
    cpu = platform.processor() or platform.machine()
    head = f"{os.cpu_count()} cores ({cpu}), {datetime.datetime.now(datetime.UTC).date()}"
    print(head)
    table, key = Table(), SigningKey("example.com/log", bytes(32))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        bench_append(table, folder, key)
        reader = make_large(table, folder, key, options.entries)
        bench_proofs(table, folder, reader)
    if options.write:
        text = "# Speed of the ledger\n\nMade by `python -m tests.bench_ledger --write`. " + head + ".\n\n"
        TABLE.write_text(text + "\n".join(table.lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
