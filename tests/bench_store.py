"""Speed of the store, as ratios to plain copying, hashing and loading measured in the same run: `make bench`.

python -m tests.bench_store [--size-mib N] [--repeats N] [--write]

Medians of repeats, in which the sides take turns: disks are noisy. put and get are whole commands, with their start-up;
what is compared with hashing and loading in this process is done in it too. --write puts the tables into cas/BENCH.md.
Needs three times the size in free disk space.
"""

from __future__ import annotations

import argparse
import datetime
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Final

import numpy as np
from blake3 import blake3
from safetensors.numpy import load_file, save_file

from samebits.cas import Digest, Store, get_tree, put_file
from samebits.cas.formats import WEIGHTS_KIND
from samebits.cas.node import Node

TABLE: Final = Path(__file__).parent.parent / "cas" / "BENCH.md"
MIB: Final = 1 << 20
SMALL_OBJECTS: Final = 100_000
TENSOR_MIB: Final = 32


class Table:
    """Collects lines: what, the measured value, what it is compared with, and what is wanted."""

    def __init__(self) -> None:
        self.lines = ["| what | measured | beside it | wanted |", "|---|---|---|---|"]

    def add(self, what: str, measured: str, beside: str, wanted: str) -> None:
        """Add and print one line."""
        self.lines.append(f"| {what} | {measured} | {beside} | {wanted} |")
        print(f"{what:<46}{measured:>24}   {beside}   (wanted {wanted})", flush=True)


def run(*command: object) -> None:
    """Run a program; what it prints is not shown."""
    subprocess.run([str(part) for part in command], check=True, stdout=subprocess.DEVNULL)


def cas(store: Path, *arguments: object) -> float:
    """Run a command of the store; returns its peak resident memory in MiB."""
    command = [str(Path(sys.executable).parent / "cas"), *map(str, arguments), "--store", str(store)]
    quiet = [(os.POSIX_SPAWN_OPEN, fd, os.devnull, os.O_WRONLY, 0) for fd in (1, 2)]
    _, status, usage = os.wait4(os.posix_spawn(command[0], command, os.environ, file_actions=quiet), 0)
    assert os.waitstatus_to_exitcode(status) == 0, command
    return usage.ru_maxrss / 1024


def timed(act: Callable[[], object], memory_mib: int = 0) -> float:
    """Return how long a call takes, in seconds, when the disk has nothing else to write.

    In a virtual machine free memory may be lent out to others, and whoever uses it next waits for it to come back: 1 to
    4 s per GiB were seen, for `cp` as for us. So `memory_mib` of it are used and freed right before.
    """
    os.sync()
    # not in this process: its peak is counted as its children's
    run(sys.executable, "-c", f"b'1' * {memory_mib * MIB}")
    started = time.perf_counter()
    act()
    return time.perf_counter() - started


def remove(*paths: Path) -> None:
    """Remove files and folders that are there."""
    for path in paths:
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def make_file(path: Path, size_mib: int) -> None:
    """Write a safetensors file of random tensors of 32 MiB."""
    rng = np.random.default_rng(0)
    count = max(1, size_mib // TENSOR_MIB)
    tensors = {f"layer.{n}.weight": np.frombuffer(rng.bytes(TENSOR_MIB * MIB), np.float16) for n in range(count)}
    save_file({name: tensor.reshape(4096, -1) for name, tensor in tensors.items()}, path)


def bench_files(table: Table, folder: Path, source: Path, repeats: int) -> Path:
    """Put and get against `cp`; returns a store that has the file."""
    copy, store = folder / "copy.safetensors", folder / "store"
    times: dict[str, list[float]] = {name: [] for name in ("cp", "cp+sync", "put", "again", "hash", "get")}
    used_mib = source.stat().st_size // MIB + 256

    peaks: list[float] = []

    def copy_and_sync() -> None:
        run("cp", source, copy)
        run("sync", copy)

    for _ in range(repeats):
        remove(copy)
        times["cp+sync"].append(timed(copy_and_sync, used_mib))
        remove(copy, store)
        times["put"].append(timed(lambda: peaks.append(cas(store, "put", source)), used_mib))
    with Store(store, read_only=True) as opened:
        root = next(iter(opened.pins().values()))
        unique = sum(info.size_bytes for info in opened.objects())
    for _ in range(repeats):
        times["hash"].append(timed(lambda: blake3(max_threads=blake3.AUTO).update_mmap(source).digest()))
        with Store(store) as opened:
            times["again"].append(timed(lambda s=opened: put_file(s, source)))  # type: ignore[misc]
        remove(copy)
        times["cp"].append(timed(lambda: run("cp", source, copy), used_mib))
        remove(copy)
        times["get"].append(timed(lambda: cas(store, "get", root, "-o", copy), used_mib))
    remove(copy)
    size = source.stat().st_size
    middle = {name: statistics.median(values) for name, values in times.items()}
    ratios = [one / other for one, other in zip(times["cp+sync"], times["put"], strict=True)]
    spread = f"{min(ratios):.2f} to {max(ratios):.2f}"
    pairs = (("put", "cp+sync", "0.4"), ("again", "hash", "0.7"), ("get", "cp", "0.6"))
    titles = {"put": "put", "again": "put again", "get": "get"}
    for ours, other, wanted in pairs:
        speed = f"{size / middle[ours] / 1e6:.0f} MB/s, {middle[other] / middle[ours]:.2f} of `{other}`"
        more = f" ({spread})" if ours == "put" else ""
        beside = f"{other} {size / middle[other] / 1e6:.0f} MB/s"
        table.add(f"{titles[ours]}, {size / 2**30:.1f} GiB safetensors", speed + more, beside, wanted)
    table.add("put: peak resident memory", f"{max(peaks):.0f} MiB", "", "< 300 MiB")
    stored = (store / "cas" / "data.mdb").stat().st_size
    table.add("space", f"{stored / unique:.4f} of the unique bytes", "", "<= 1.02")
    return store


def bench_reading(table: Table, store: Path, source: Path, repeats: int) -> None:
    """Read every tensor of a stored checkpoint into memory against safetensors' own loading, from the page cache."""
    ours: list[float] = []
    theirs: list[float] = []
    size = source.stat().st_size
    with Store(store, read_only=True) as opened:
        root = next(info.digest for info in opened.objects() if _is_weights(opened, info.digest))
        tensors = opened.get_node(root).body["tensors"]
        assert isinstance(tensors, Digest)
        entries = get_tree(opened, tensors)
        for _ in range(repeats):
            theirs.append(timed(lambda: load_file(source), size // MIB))
            ours.append(timed(lambda: {name: opened.tensor(digest) for name, digest in entries.items()}, size // MIB))
        single = min(timed(lambda: opened.tensor(next(iter(entries.values())))) for _ in range(3))
    one, other = statistics.median(ours), statistics.median(theirs)
    speed = f"{size / one / 1e6:.0f} MB/s, {other / one:.2f} of safetensors'"
    table.add("read all tensors, verified", speed, f"safetensors {size / other / 1e6:.0f} MB/s", "0.5")
    table.add(f"read one tensor of {TENSOR_MIB} MiB of it", f"{single * 1e3:.0f} ms", "", "")


def _is_weights(store: Store, digest: Digest) -> bool:
    return store.stat(digest).kind == "node" and store.get_node(digest).kind == WEIGHTS_KIND


def bench_small(table: Table, folder: Path, repeats: int) -> None:
    """Small objects in one batch, and read one by one."""
    puts: list[float] = []
    gets: list[float] = []
    for repeat in range(repeats):
        data = [b"%d small object %d " % (repeat, number) * 4 for number in range(SMALL_OBJECTS)]
        with Store(folder / "small") as store:

            def put(store: Store = store, data: list[bytes] = data) -> list[Digest]:
                with store.batch():
                    return [store.put_blob(one) for one in data]

            puts.append(timed(put))
            digests = put()
            gets.append(timed(lambda s=store, d=digests: [s.get_blob(one) for one in d]))  # type: ignore[misc]
        remove(folder / "small")
    table.add(f"put {SMALL_OBJECTS:,} small objects in a batch", f"{SMALL_OBJECTS / min(puts):,.0f}/s", "", "20,000/s")
    table.add("get them one by one", f"{SMALL_OBJECTS / min(gets):,.0f}/s", "", "100,000/s")


def bench_pull(table: Table, folder: Path, source: Path, repeats: int) -> None:
    """Pull a blob over HTTP on loopback, from our server in another process into a fresh store."""
    there, here = folder / "there", folder / "here"
    with Store(there) as store, source.open("rb") as file:
        size = min(source.stat().st_size, 1 << 30)
        blob = store.put_section(file.fileno(), 0, size)
        root = store.put_node(Node("list", {"parts": [blob]}))
    command = [sys.executable, "-m", "samebits.cli", "serve", "--port", "0", "--store", str(there)]
    times: list[float] = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as server:
        try:
            assert server.stdout is not None
            url = server.stdout.readline().split()[-1]
            for _ in range(repeats):
                remove(here)
                times.append(timed(lambda: cas(here, "pull", url, root), size // MIB + 256))
        finally:
            server.terminate()
    remove(there, here)
    rates = sorted(size / one / 1e6 for one in times)
    spread = f" ({rates[0]:.0f} to {rates[-1]:.0f})"
    measured = f"{statistics.median(rates):.0f} MB/s{spread}"
    table.add(f"pull {size / 2**30:.1f} GiB over loopback, verified, synced", measured, "", "300 MB/s")


def main() -> None:
    """Print the tables; with --write, put them into cas/BENCH.md."""
    parser = argparse.ArgumentParser(prog="tests.bench_store", description=__doc__.partition("\n")[0])
    parser.add_argument("--size-mib", type=int, default=4096)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--write", action="store_true", help="replace cas/BENCH.md")
    options = parser.parse_args()
    cpu = platform.processor() or platform.machine()
    head = f"{os.cpu_count()} cores ({cpu}), {datetime.datetime.now(datetime.UTC).date()}, medians of {options.repeats}"
    print(head)
    table = Table()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source = folder / "model.safetensors"
        # in a process of its own: the peak memory of children counts what this one had when it began them
        with ProcessPoolExecutor(1) as child:
            child.submit(make_file, source, options.size_mib).result()
        store = bench_files(table, folder, source, options.repeats)
        bench_reading(table, store, source, options.repeats)
        remove(store)
        bench_pull(table, folder, source, options.repeats)
        bench_small(table, folder, options.repeats)
    if options.write:
        text = "# Speed of the store\n\nMade by `python -m tests.bench_store --write`. " + head + ".\n\n"
        TABLE.write_text(text + "\n".join(table.lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
