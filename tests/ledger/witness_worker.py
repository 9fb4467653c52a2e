"""Cosigns a growing log as fast as it goes, and prints each size after it was cosigned, until it is killed."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.ledger.witness_places import LOG, Tree, make_witness

from samebits.ledger.checkpoint import parse_checkpoint
from samebits.ledger.note import parse_note
from samebits.ledger.witness_protocol import hash_origin


def main() -> None:
    """Go on from where the witness is."""
    witness = make_witness(Path(sys.argv[1]))
    note = witness.checkpoint(hash_origin(LOG.name))
    size = 0 if note is None else parse_checkpoint(parse_note(note)[0]).tree_size
    print("ready", flush=True)
    while True:
        witness.add_checkpoint(Tree(size + 1).request(size))
        size += 1
        print(size, flush=True)


if __name__ == "__main__":
    main()
