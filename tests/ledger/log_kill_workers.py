"""What the processes do that test_faults_log_kill kills: append to a log."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Final

from tests.cas.worker_protocol import say, serve

from samebits.cas.digest import hash_blob
from samebits.ledger.bodies import RunBody
from samebits.ledger.entry import encode_entry, sign_entry
from samebits.ledger.keys import SigningKey
from samebits.ledger.log import Log

AUTHOR: Final = SigningKey("runner.example", bytes(32))
BATCHES: Final = (1, 1, 2, 7, 64, 64, 200, 300)


def append_all(directory: str, state_folder: str, seed: int) -> None:
    """Append runs in batches until killed; what is acknowledged is said: a run's index, and what identifies it."""
    source = random.Random(seed)
    with Log.open(Path(directory), state_folder=Path(state_folder)) as log:
        while True:
            bodies = [RunBody(hash_blob(b"job"), os.urandom(16), 10, 1, 1) for _ in range(source.choice(BATCHES))]
            entries = [sign_entry(log.origin, None, body, AUTHOR) for body in bodies]
            stop = log.append(entries).tree_size
            said = sha256(b"".join(map(encode_entry, entries))).hexdigest()
            say("did", stop - len(entries), stop, said)


WORK: Final[dict[str, Callable[..., None]]] = {"append_all": append_all}

if __name__ == "__main__":
    serve(WORK)
