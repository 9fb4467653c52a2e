"""The examples in ledger/README.md are what the code makes."""

from __future__ import annotations

import re
from pathlib import Path

import samebits.ledger
from samebits.cas.digest import hash_blob
from samebits.ledger.bodies import RunBody
from samebits.ledger.checkpoint import Checkpoint, sign_checkpoint
from samebits.ledger.entry import encode_entry, entry_address, sign_entry
from samebits.ledger.keys import SigningKey
from samebits.ledger.logkey import log_origin
from samebits.ledger.merkle import leaf_hash, root_hash
from samebits.ledger.tiles import Tile, TreeEdge, grow, tiles_of

LOG_SEED = bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60")
RUNNER_SEED = bytes.fromhex("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb")


def test_readme_shows_what_the_code_makes() -> None:
    assert samebits.ledger.__file__ is not None
    text = (Path(samebits.ledger.__file__).parent / "README.md").read_text()
    words = re.sub(r"\s+", "", text)
    key = SigningKey(log_origin(SigningKey("x", LOG_SEED).public), LOG_SEED)
    runner = SigningKey("runner.example", RUNNER_SEED)
    run = sign_entry(key.name, None, RunBody(hash_blob(b"job"), bytes(range(16)), 300, 1, 100), runner)
    leaf = leaf_hash(encode_entry(run))
    note = sign_checkpoint(Checkpoint(key.name, 1, root_hash([leaf])), key)
    assert key.vkey in text
    assert key.format() in text
    assert encode_entry(run).hex() in words
    assert str(entry_address(run)) in text
    assert leaf.hex() in text
    _, files = grow(TreeEdge(), [encode_entry(run)])
    assert [tile.path for tile in files] == ["tile/entries/000.p/1", "tile/0/000.p/1"]
    hashes, bundle = files[Tile(0, 0, 1)].hex(), files[Tile(-1, 0, 1)]
    assert f"    tile/0/000.p/1          {hashes}\n" in text
    assert f"    tile/entries/000.p/1    {bundle[:2].hex()}, and the {len(bundle) - 2} bytes of the entry\n" in text
    ends = [tile.path for tile in tiles_of(70_000) if not tile.is_full]
    assert f"`{ends[0]}`, `{ends[1]}`, `{ends[2]}` and `{ends[3]}`" in " ".join(text.split())
    assert f"`{Tile(-1, 1_234_067).path}` has the entries from {1_234_067 * 256:,} on" in " ".join(text.split())
    assert "".join(f"    {line}".rstrip() + "\n" for line in note.splitlines()) in text
