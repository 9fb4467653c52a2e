"""What is read from a database that is damaged, by a process of its own: LMDB may end it."""

from __future__ import annotations

import json
import os
from pathlib import Path

from tests.cas.worker_protocol import say, serve

from samebits.cas.digest import Digest
from samebits.cas.errors import CasError, DamagedObjectError, ObjectNotFoundError, StoreError
from samebits.cas.fsck import LEVELS, fsck
from samebits.cas.gc import collect_garbage
from samebits.cas.store import Store


def read(path: str, expected_file: str, read_only: bool) -> None:
    """Read all that the store should have, and say of each way to do so what came of it.

    `expected_file` has the names and addresses of the pins, and each object's address and the file with its bytes.
    """
    expected = json.loads(Path(expected_file).read_text())
    with Store(path, read_only=read_only, create=False) as store:
        for text, file in expected["objects"].items():
            _say_read(store, Digest.parse(text), Path(expected_file).with_name(file).read_bytes())
        _say_listed(store, set(map(Digest.parse, expected["objects"])))
        _say_pins(store, {name: Digest.parse(text) for name, text in expected["pins"].items()})
        for level in LEVELS:
            _say_fsck(store, level)


def write(path: str) -> None:
    """Put, pin, collect garbage (a damaged store may lose more by that), and read back what was put."""
    data = os.urandom(3 << 20)
    try:
        with Store(path) as store:
            digest = store.put_blob(data)
            small = store.put_blob(data[:100])
            store.pin("written", digest)
            store.pin("small", small)
        with Store(path) as store:
            if store.get_blob(digest) != data or store.get_blob(small) != data[:100]:
                say("wrong", "written")
            collect_garbage(store, grace_s=-2)
            if store.get_blob(digest) != data:
                say("wrong", "collected")
    except CasError as error:
        say("refused", type(error).__name__, str(error).replace("\n", "\\n"))


def _say_read(store: Store, digest: Digest, data: bytes) -> None:
    try:
        found = b"".join(store.read_rows(digest))
        say("wrong" if found != data else "read", digest)
        if store.stat(digest).kind == "blob" and store.get_blob(digest) != data:
            say("wrong", digest)
    except CasError as error:
        say("failed", digest, type(error).__name__, str(error).replace("\n", "\\n"))


def _say_listed(store: Store, expected: set[Digest]) -> None:
    try:
        listed = [info.digest for info in store.objects()]
        say("listed", set(listed) == expected and len(listed) == len(expected))
    except (StoreError, DamagedObjectError) as error:
        say("unlisted", str(error).replace("\n", "\\n"))


def _say_pins(store: Store, expected: dict[str, Digest]) -> None:
    try:
        pins = store.pins()
    except StoreError as error:
        say("pins", "refused", str(error).replace("\n", "\\n"))
        return
    say("pins", "same" if pins == expected else "other")
    for name, digest in pins.items():
        try:
            if expected.get(name) != digest and store.stat(digest):
                say("wrongpin", name.replace(" ", "_"), digest)
        except (ObjectNotFoundError, DamagedObjectError):
            pass


def _say_fsck(store: Store, level: str) -> None:
    try:
        report = fsck(store, level)  # type: ignore[arg-type]
        say("fsck", level, len(report.problems) + len(report.loose))
    except CasError as error:
        say("fsck", level, "refused", type(error).__name__, str(error).replace("\n", "\\n"))


if __name__ == "__main__":
    serve({work.__name__: work for work in (read, write)})
