"""Speed of the ledger's index and audit on a real log: python -m tests.bench_ledger_audit [--entries N] [--keep DIR].

The log has runs of 99 segments with 6 kernels each, signed by one author and appended 64 at a time. Each line says wall
time, and the processor time of all processes: on a machine that does other things only the second means anything.
"""

from __future__ import annotations

import argparse
import os
import platform
import resource
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, TypeVar

from samebits.cas.digest import hash_blob
from samebits.ledger import Entry, Log, Query, RunBody, SegmentBody, SigningKey, entry_address, sign_entry

KEY: Final = SigningKey("author.example", bytes(32))
KERNELS: Final = tuple(hash_blob(b"kernel %d" % number) for number in range(6))
SEGMENTS: Final = 99
BATCH: Final = 64
R = TypeVar("R")


def make_entries(origin: str, count: int) -> Iterator[Entry]:
    """Yield `count` entries."""
    made = 0
    while made < count:
        number = made // (SEGMENTS + 1)
        body = RunBody(hash_blob(b"job %d" % (number % 50)), number.to_bytes(16, "big"), 10 * SEGMENTS, 1, 10)
        entry = sign_entry(origin, None, body, KEY, time=1_700_000_000 + made)
        run = entry_address(entry)
        yield entry
        made += 1
        for place in range(min(SEGMENTS, count - made)):
            before, after = (hash_blob(b"state %d %d" % (number, step)) for step in (place, place + 1))
            commits = hash_blob(b"commits %d %d" % (number, place))
            segment = SegmentBody(
                run, 10 * place, 10 * place + 10, before, after, commits, bytes(32), "numpy", KERNELS
            )  # fmt: skip
            entry = sign_entry(origin, entry_address(entry), segment, KEY, time=1_700_000_000 + made)
            yield entry
            made += 1


def report(what: str, act: Callable[[], R], count: int) -> R:
    """Do something, print how long it took, and return what it returned."""
    wall, cpu = time.perf_counter(), _cpu_s()
    result = act()
    wall, cpu = time.perf_counter() - wall, _cpu_s() - cpu
    print(f"{what:<46}{wall:>9.3f} s wall {cpu:>9.3f} s cpu {count / wall:>12,.0f} entries/s", flush=True)
    return result


def fill(directory: Path, count: int) -> None:
    """Append what the log lacks."""
    with Log.open(directory) as log:
        size = log.size
        entries = list(make_entries(log.origin, count))[size:]
        if not entries:
            return

        def append() -> None:
            for start in range(0, len(entries), BATCH):
                log.append(entries[start : start + BATCH])

        report(f"append, {BATCH} at a time", append, len(entries))


def bench(directory: Path, count: int) -> None:
    """Print the figures of a log."""
    with Log.open(directory, read_only=True) as log:
        report("cold start", lambda: log.size, count)
        run = log.search(Query(job=hash_blob(b"job 7")))[0].address
        state = hash_blob(b"state 7 99")
        report("chain of a run", lambda: log.chain(run), SEGMENTS + 1)
        report("find by artifact", lambda: log.search(Query(artifact=state)), 1)
        report("lineage of a state", lambda: log.lineage(state), SEGMENTS)
    for workers in (1, os.cpu_count() or 1):
        with Log.open(directory, read_only=True) as log:
            report(f"audit, {workers} processes", lambda w=workers: log.audit(workers=w).check(), count)  # type: ignore[misc]
    with Log.open(directory) as log:
        report("index made anew", log.reindex, count)


def _cpu_s() -> float:
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def main() -> None:
    """Make the log and print the figures."""
    parser = argparse.ArgumentParser(prog="tests.bench_ledger_audit", description=__doc__.partition("\n")[0])
    parser.add_argument("--entries", type=int, default=100_000)
    parser.add_argument("--keep", type=Path, metavar="DIR", help="where the log is made, and found the next time")
    options = parser.parse_args()
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    print(f"{options.entries} entries; {os.cpu_count()} cores ({platform.machine()}), load {load}")
    with tempfile.TemporaryDirectory() as name:
        directory = options.keep or Path(name) / "log"
        fill(directory, options.entries)
        bench(directory, options.entries)


if __name__ == "__main__":
    main()
