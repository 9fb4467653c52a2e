"""Places that tests use as remotes: a real server of ours, a static file server, an S3 service; and objects to move."""

from __future__ import annotations

import functools
import http.server
import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.serving import serving_app

from samebits.cas.digest import Digest
from samebits.cas.node import Node
from samebits.cas.server import make_app
from samebits.cas.store import Store

KIB, MIB = 1 << 10, 1 << 20


@contextmanager
def serving(store: Store, *, writable: bool = False) -> Iterator[str]:
    """Serve a store with uvicorn on a free port of loopback; yields the URL."""
    with serving_app(make_app(store, writable=writable)) as url:
        yield url


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    """The standard library's file server, without its lines on stderr."""

    def log_message(self, format: str, *arguments: object) -> None:
        """Say nothing."""


@contextmanager
def serving_files(directory: Path, handler: type[QuietHandler] = QuietHandler) -> Iterator[str]:
    """Serve the files of a directory; yields the URL."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(handler, directory=str(directory)))
    server.daemon_threads = True
    thread = threading.Thread(target=functools.partial(server.serve_forever, poll_interval=0.02))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@dataclass(frozen=True)
class Made:
    """root -> (left, wide), left -> (rows, row, small), wide -> (rows, small); wide is a node of two rows."""

    root: Digest
    left: Digest
    wide: Digest
    rows: Digest  # a blob of two rows and one byte
    row: Digest  # a blob of one row
    small: Digest  # a blob inside its record

    def all(self) -> set[Digest]:
        """Return every object."""
        return {self.root, self.left, self.wide, self.rows, self.row, self.small}


def make_objects(store: Store, seed: int = 1) -> Made:
    """Put objects of every kind and place into a store."""
    source = random.Random(seed)
    with store.batch():
        rows = store.put_blob(source.randbytes(2 * MIB + 1))
        row = store.put_blob(source.randbytes(16 * KIB + 1))
        small = store.put_blob(source.randbytes(100))
        left = store.put_node(Node("left", {"rows": rows, "row": row, "small": small}))
        wide = store.put_node(Node("wide", {"rows": rows, "padding": source.randbytes(MIB + 5), "small": small}))
        root = store.put_node(Node("root", {"left": left, "wide": wide}))
    return Made(root, left, wide, rows, row, small)


def addresses(store: Store) -> set[Digest]:
    """Return what a store holds."""
    return {info.digest for info in store.objects()}
