"""Append segments to a log until stopped; started as a process of its own by test_processes.

Arguments: directory, nonce, most segments, and how many entries the index file may lag behind (may be left out).
Continues the run of this nonce where it stands. Prints "ready", then after each append how many steps the log has
acknowledged.
"""

from __future__ import annotations

import sys
from pathlib import Path

from samebits.cas.digest import hash_blob
from samebits.ledger import sessions as sessions_module
from samebits.ledger.bodies import RunBody, SegmentBody
from samebits.ledger.entry import entry_address, sign_entry
from samebits.ledger.keys import SigningKey
from samebits.ledger.log import Log


def main(directory: Path, nonce: int, most: int) -> None:
    key = SigningKey("runner.example", bytes(32))
    print("ready", flush=True)
    with Log.open(directory) as log:
        run = sign_entry(log.origin, None, RunBody(hash_blob(b"job"), nonce.to_bytes(16, "big"), 10**9, 1, 1), key)
        address = entry_address(run)
        if address not in [chain.run_address for chain in log.runs()]:
            log.append([run])
        chain = log.chain(address)
        prev, step = chain.head, chain.next_step
        for first in range(step, step + most):
            state_in, state_out = hash_blob(b"state %d" % first), hash_blob(b"state %d" % (first + 1))
            body = SegmentBody(address, first, first + 1, state_in, state_out, state_out, bytes(32), "numpy", ())
            segment = sign_entry(log.origin, prev, body, key)
            log.append([segment])
            prev = entry_address(segment)
            print(first + 1, flush=True)


if __name__ == "__main__":
    if len(sys.argv) > 4:
        sessions_module._INDEX_LAG = int(sys.argv[4])  # type: ignore[misc]
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
