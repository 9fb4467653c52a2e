"""What the processes of the fault tests do until they are killed."""

from __future__ import annotations

import itertools
import json
import os
import random
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Final

from tests.cas.worker_protocol import say, serve

from samebits.cas.compact import compact
from samebits.cas.digest import Digest
from samebits.cas.directories import get_directory, put_directory
from samebits.cas.environment import OBJECTS, ROWS
from samebits.cas.files import get_file, put_file
from samebits.cas.fsck import fsck, quarantine
from samebits.cas.gc import collect_garbage
from samebits.cas.node import Node
from samebits.cas.pulling import pull
from samebits.cas.pushing import push
from samebits.cas.remotes import open_remote
from samebits.cas.store import Store

KIB, MIB = 1 << 10, 1 << 20
SIZES: Final = (0, 1, 16 * KIB, 16 * KIB + 1, MIB - 1, MIB, MIB + 1, 2 * MIB + 1, 5 * MIB)
MANY_ROWS: Final = 34 * MIB  # more than one transaction writes
ALL_GARBAGE_S: Final = -2.0  # a grace time that protects nothing, not even what was put this second


def pin(store: Store, name: str, digest: Digest) -> None:
    """Pin an object; the test knows that it may be pinned, and then that it is."""
    say("will", name, digest)
    store.pin(name, digest)
    say("did")


def unpin(store: Store, name: str) -> None:
    """Take a pin away; the test knows that it may be gone, and then that it is."""
    say("will", name, "-")
    store.unpin(name)
    say("did")


def safetensors_bytes(source: random.Random) -> bytes:
    """Return a weights file of two tensors."""
    large = source.randrange(1, 400_000)
    fields = {
        "a": {"dtype": "U8", "shape": [large], "data_offsets": [0, large]},
        "b": {"dtype": "F32", "shape": [2], "data_offsets": [large, large + 8]},
    }
    header = json.dumps(fields).encode()
    return len(header).to_bytes(8, "little") + header + source.randbytes(large + 8)


def put_something(store: Store, source: random.Random, folder: Path) -> Digest:
    """Put an object of any kind that the store did not have."""
    match source.randrange(8):
        case 0:
            return store.put_blob(os.urandom(MANY_ROWS) if source.random() < 0.1 else source.randbytes(100))
        case 1 | 2 | 3:
            return store.put_blob(source.randbytes(source.choice(SIZES)))
        case 4 | 5:
            with store.batch():
                blobs = [store.put_blob(source.randbytes(source.choice(SIZES[:6]))) for _ in range(3)]
                inner = store.put_node(Node("list", {"blobs": list(blobs)}))
                return store.put_node(Node("list", {"inner": inner, "text": "x" * source.choice((0, 40_000))}))
        case 6:
            path = folder / "m.safetensors"
            path.write_bytes(safetensors_bytes(source))
            return put_file(store, path).digest
        case _:
            for name in ("a.safetensors", "b.txt"):
                (folder / name).write_bytes(safetensors_bytes(source))
            return put_directory(store, folder).digest


def put(store_path: str, seed: int, folder: str) -> None:
    """Put objects, pin half of them, and unpin some."""
    source, pinned = random.Random(seed), []
    place = Path(folder) / str(seed)
    place.mkdir(parents=True)
    with Store(store_path) as store:
        for number in itertools.count():
            digest = put_something(store, source, place)
            say("put", digest)
            if source.random() < 0.1:
                time.sleep(0.03)  # collections begin and end meanwhile; a living process's puts stay
            if source.random() < 0.5:
                pin(store, f"{seed}/{number}", digest)
                pinned.append(f"{seed}/{number}")
            if len(pinned) > 3:
                unpin(store, pinned.pop(source.randrange(len(pinned))))


def collect(store_path: str) -> None:
    """Collect all garbage, over and over."""
    with Store(store_path) as store:
        while True:
            collect_garbage(store, grace_s=ALL_GARBAGE_S)


def pull_all(store_path: str, seed: int, remote: str, roots: list[str]) -> None:
    """Pull and pin objects in any order; when all are there, let them go."""
    source = random.Random(seed)
    with Store(store_path) as store, closing(open_remote(remote)) as opened:
        while True:
            source.shuffle(roots)
            for root in map(Digest.parse, roots):
                pull(opened, store, [root])
                say("put", root)
                pin(store, f"pulled/{root}", root)
            for root in map(Digest.parse, roots):
                unpin(store, f"pulled/{root}")
            say("forget")
            collect_garbage(store, grace_s=ALL_GARBAGE_S)


def push_all(store_path: str, seed: int, folder: str, remote: str) -> None:
    """Put objects and push them; tells of the remote's pins."""
    source = random.Random(seed)
    place = Path(folder) / str(seed)
    place.mkdir(parents=True)
    with Store(store_path) as store, closing(open_remote(remote, create=True, writable=True)) as opened:
        for number in itertools.count():
            root = put_something(store, source, place)
            push(store, opened, [root])
            say("will", f"{seed}/{number}", root)
            opened.write_pin(f"{seed}/{number}", root)
            say("did")


def pin_all(store_path: str, seed: int) -> None:
    """Pin and unpin the store's objects under a few names."""
    source = random.Random(seed)
    with Store(store_path) as store:
        digests = [info.digest for info in store.objects()]
        while True:
            name = f"name {source.randrange(12)}".replace(" ", "-")
            if source.random() < 0.6:
                pin(store, name, source.choice(digests))
            else:
                unpin(store, name)


def compact_all(store_path: str, seed: int) -> None:
    """Make garbage, collect it and compact the store, over and over."""
    source = random.Random(seed)
    for number in itertools.count():
        with Store(store_path) as store:
            pin(store, f"{seed}/{number}", store.put_blob(source.randbytes(source.choice(SIZES))))
            store.put_blob(source.randbytes(3 * MIB))
            if number:
                unpin(store, f"{seed}/{number - 1}")
            say("forget")
            collect_garbage(store, grace_s=ALL_GARBAGE_S)
        compact(store_path)


def damage(store: Store, source: random.Random) -> None:
    """Flip a bit of some record or row."""
    table = source.choice((OBJECTS, ROWS))
    with store.environment.reading() as transaction:
        key = source.choice(list(transaction.keys(table)))
    value = bytearray(store.environment.get(table, key) or b"")
    value[source.randrange(len(value))] ^= 1 << source.randrange(8)
    store.environment.write(lambda transaction: transaction.put(table, key, bytes(value)))


def repair(store: Store, remote: str) -> None:
    """Check a store, and mend what is wrong from a remote."""
    lost = quarantine(store, fsck(store).problems)
    with closing(open_remote(remote)) as opened:
        pull(opened, store, lost)


def repair_all(store_path: str, seed: int, remote: str) -> None:
    """Damage a store and mend it, over and over."""
    source = random.Random(seed)
    with Store(store_path) as store:
        while True:
            for _ in range(source.randrange(4)):
                damage(store, source)
            repair(store, remote)
            say("repaired")


def get_all(store_path: str, seed: int, files: list[str], directory: str, folder: str) -> None:
    """Write files over each other, and folders beside each other."""
    source = random.Random(seed)
    with Store(store_path) as store:
        for number in itertools.count():
            get_file(store, Digest.parse(source.choice(files)), Path(folder) / "file")
            say("file")
            get_directory(store, Digest.parse(directory), Path(folder) / f"folder-{seed}-{number}")
            say("folder", f"folder-{seed}-{number}")


def create_all(folder: str, seed: int) -> None:
    """Make stores."""
    for number in itertools.count():
        path = Path(folder) / f"{seed}-{number}"
        with Store(path) as store:
            say("made", path.name)
            pin(store, path.name, store.put_blob(path.name.encode()))


WORK: Final[dict[str, Callable[..., None]]] = {
    work.__name__: work
    for work in (put, collect, pull_all, push_all, pin_all, compact_all, repair_all, get_all, create_all)
}


if __name__ == "__main__":
    serve(WORK)
