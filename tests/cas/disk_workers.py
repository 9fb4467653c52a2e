"""What is done to a store on a disk that is full, each by a process of its own: LMDB may die of a full disk."""

from __future__ import annotations

import itertools
import os
import random
import resource
import shutil
import subprocess
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.cas.worker_protocol import say, serve

from samebits.cas.compact import compact
from samebits.cas.directories import get_directory, put_directory
from samebits.cas.environment import ROWS
from samebits.cas.errors import StoreError
from samebits.cas.export import export
from samebits.cas.files import get_file, put_file
from samebits.cas.fsck import fsck, quarantine
from samebits.cas.gc import collect_garbage
from samebits.cas.node import Node
from samebits.cas.pulling import pull
from samebits.cas.pushing import push
from samebits.cas.remotes import open_remote
from samebits.cas.store import Store
from samebits.cas.tensor import put_tensor
from samebits.cas.tree import put_tree

MIB = 1 << 20
LARGE_BYTES: Final = 6 * MIB + 5


@dataclass(frozen=True, slots=True)
class Place:
    """A small disk, and a folder beside it that has room."""

    disk: Path
    beside: Path

    @property
    def store(self) -> Path:
        return self.disk / "store"

    @property
    def template(self) -> Path:
        """What the store on the disk is a copy of."""
        return self.beside / "template"

    @property
    def copy(self) -> Path:
        """A store that has all that the one on the disk has, and `root`."""
        return self.beside / "copy"


def mount(disk: str, size_bytes: int, most_files: int) -> None:
    """Put a file system in memory at a folder, for this program alone."""
    options = f"size={size_bytes},nr_inodes={most_files}"
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "none", disk], check=True)


def unmount(disk: str) -> None:
    """Take the file system away again."""
    subprocess.run(["umount", disk], check=True)


def make_objects(beside: str) -> None:
    """Make a store with a few pinned things and some garbage, one that has more, and files to put."""
    place, source = Place(Path(), Path(beside)), random.Random(11)
    for name in ("a", "b"):
        (place.beside / "files").mkdir(exist_ok=True, parents=True)
        header = b'{"t": {"dtype": "U8", "shape": [%d], "data_offsets": [0, %d]}}' % (LARGE_BYTES, LARGE_BYTES)
        content = len(header).to_bytes(8, "little") + header + source.randbytes(LARGE_BYTES)
        (place.beside / "files" / f"{name}.safetensors").write_bytes(content)
    (place.beside / "kept.txt").write_bytes(source.randbytes(2 * MIB + 5))
    garbage = source.randbytes(MIB + 1)
    for path in (place.copy, place.template):
        with Store(path) as store:
            store.pin("file", put_file(store, place.beside / "kept.txt").digest)
            with store.batch():
                parts = [store.put_blob(b"%d" % number * 500) for number in range(20)]
            store.pin("node", store.put_node(Node("list", {"parts": list(parts)})))
            store.put_blob(garbage)
            if path == place.copy:
                store.pin("root", put_directory(store, place.beside / "files").digest)
    with closing(open_remote(str(place.beside / "remote"), create=True)) as remote, Store(place.copy) as copy:
        push(copy, remote, [copy.pins()["root"]])


def put_store(disk: str, beside: str) -> None:
    """Have the store on the disk."""
    place = Place(Path(disk), Path(beside))
    shutil.copytree(place.template, place.store)


def fill(disk: str, leave_bytes: int) -> None:
    """Fill a disk up to some bytes."""
    room = os.statvfs(disk)
    with (Path(disk) / "filler").open("wb") as file:
        left = room.f_bavail * room.f_frsize - leave_bytes
        with suppress(OSError):
            while left > 0:
                left -= file.write(bytes(min(left, MIB)))


def use_up_files(disk: str) -> None:
    """Have no further file fit on a disk, however small."""
    folder = Path(disk) / "filler"
    folder.mkdir()
    with suppress(OSError):
        for number in itertools.count():
            (folder / f"{number}").touch()


def make_room(disk: str) -> None:
    """Take away what the two above have written."""
    filler = Path(disk) / "filler"
    if filler.is_dir():
        shutil.rmtree(filler)
    else:
        filler.unlink()


def do(what: str, disk: str, beside: str, largest_file_bytes: int | None) -> None:
    """Do one operation, maybe with a bound of every file's size, and then say that the store still works."""
    place = Place(Path(disk), Path(beside))
    if largest_file_bytes is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file_bytes, largest_file_bytes))
    OPERATIONS[what](place)


def check(disk: str, beside: str) -> None:
    """Say what is wrong with the store, whether all that was pinned is there, and which files are left over."""
    place = Place(Path(disk), Path(beside))
    with Store(place.store) as store, Store(place.copy) as copy:
        report = fsck(store)
        say("problems", *(problem.digest for problem in report.problems))
        say("loose", *(text.split(" ")[1] for text in report.loose))
        expected = {name: digest for name, digest in copy.pins().items() if name != "root"}
        pins = store.pins()
        say("pins", all(pins.get(name) == digest for name, digest in expected.items()))
        say("lost", *(name for name, digest in expected.items() if not store.has(digest)))
    left = [path for path in place.disk.rglob("*") if path.name.startswith((".samebits-", "compacting", "new-"))]
    say("left", *left)


def damage(disk: str) -> None:
    """Flip a bit in a row of the pinned file."""
    with Store(Path(disk) / "store") as store:
        key = store.record(store.pins()["file"]).row_keys[1]
        row = bytearray(store.row(key) or b"")
        row[77] ^= 1
        store.environment.write(lambda transaction: transaction.put(ROWS, key, bytes(row)))


def _put_blob(place: Place) -> None:
    with Store(place.store) as store:
        store.put_blob(random.Random(1).randbytes(20 * MIB))


def _put_row(place: Place) -> None:
    with Store(place.store) as store:
        store.put_blob(random.Random(1).randbytes(4 * MIB))


def _put_small(place: Place) -> None:
    with Store(place.store) as store:
        for number in range(3):
            store.put_blob(b"%d" % number)


def _put_nodes(place: Place) -> None:
    with Store(place.store) as store, store.batch():
        for number in range(500):
            store.put_node(Node("n", {"number": number, "text": "x" * 10_000}))


def _put_tensors(place: Place) -> None:
    import numpy as np

    with Store(place.store) as store, store.batch():
        arrays = np.random.default_rng(1).standard_normal((8, 100_000))
        put_tree(store, {f"t{number}": put_tensor(store, array) for number, array in enumerate(arrays)})


def _put_file(place: Place) -> None:
    with Store(place.store) as store:
        put_file(store, place.beside / "files" / "a.safetensors")


def _put_directory(place: Place) -> None:
    with Store(place.store) as store:
        store.pin("new", put_directory(store, place.beside / "files").digest)


def _go_on_in_a_batch(place: Place) -> None:
    """Meet an error in a batch, and not let the batch know."""
    with Store(place.store) as store:
        with store.batch():
            first = store.put_blob(b"first")
            with suppress(StoreError):
                store.put_blob(random.Random(1).randbytes(34 * MIB))  # more than waits for the batch's end
            store.put_blob(b"second")
        assert store.has(first)


def _pull(place: Place, remote: Path) -> None:
    with Store(place.copy) as copy:
        root = copy.pins()["root"]
    with Store(place.store) as store, closing(open_remote(str(remote))) as opened:
        pull(opened, store, [root])


def _push(place: Place, remote: Path) -> None:
    with Store(place.copy) as copy, closing(open_remote(str(remote), create=True, writable=True)) as opened:
        push(copy, opened, [copy.pins()["root"]])
        opened.write_pin("root", copy.pins()["root"])


def _push_into_store(place: Place) -> None:
    _push(place, place.store)


def _get_file(place: Place) -> None:
    with Store(place.copy) as store:
        get_file(store, store.pins()["file"], place.disk / "out")
    assert (place.disk / "out").read_bytes() == (place.beside / "kept.txt").read_bytes()


def _get_directory(place: Place) -> None:
    with Store(place.copy) as store:
        get_directory(store, store.pins()["root"], place.disk / "folder")


def _export(place: Place) -> None:
    with Store(place.copy) as store:
        export(store, store.pins()["root"], place.disk / "out.npz")


def _pin(place: Place) -> None:
    with Store(place.store) as store:
        for number in range(100):
            store.pin(f"{number}" * 100, store.pins()["file"])


def _collect(place: Place) -> None:
    with Store(place.store) as store:
        collect_garbage(store, grace_s=-2)


def _compact(place: Place) -> None:
    compact(place.store)


def _mend(place: Place) -> None:
    with Store(place.store) as store, closing(open_remote(str(place.copy))) as remote:
        pull(remote, store, quarantine(store, fsck(store).problems))


def _create(place: Place) -> None:
    with Store(place.disk / "new"):
        pass


def _read(place: Place) -> None:
    for read_only in (False, True):
        with Store(place.store, read_only=read_only) as store:
            assert fsck(store).problems == ()


OPERATIONS: Final[dict[str, Callable[[Place], None]]] = {
    "put_blob": _put_blob,
    "put_row": _put_row,
    "put_small": _put_small,
    "put_nodes": _put_nodes,
    "put_tensors": _put_tensors,
    "put_file": _put_file,
    "put_directory": _put_directory,
    "go_on_in_a_batch": _go_on_in_a_batch,
    "pull_from_store": lambda place: _pull(place, place.copy),
    "pull_from_directory": lambda place: _pull(place, place.beside / "remote"),
    "push_into_directory": lambda place: _push(place, place.disk / "remote"),
    "push_into_store": _push_into_store,
    "get_file": _get_file,
    "get_directory": _get_directory,
    "export": _export,
    "pin": _pin,
    "collect": _collect,
    "compact": _compact,
    "mend": _mend,
    "create": _create,
    "read": _read,
}

if __name__ == "__main__":
    serve(
        {
            work.__name__: work
            for work in (mount, unmount, make_objects, put_store, fill, use_up_files, make_room, do, check, damage)
        }
    )
