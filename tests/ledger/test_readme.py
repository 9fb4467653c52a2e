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
    assert "".join(f"    {line}".rstrip() + "\n" for line in note.splitlines()) in text


def test_readme_shows_an_entry_of_version_2() -> None:
    assert samebits.ledger.__file__ is not None
    text = (Path(samebits.ledger.__file__).parent / "README.md").read_text()
    origin = log_origin(SigningKey("x", LOG_SEED).public)
    body = RunBody(hash_blob(b"job"), bytes(range(16)), 300, 1, 100)
    run = sign_entry(origin, None, body, SigningKey("runner.example", RUNNER_SEED), time=1_700_000_000)
    data = encode_entry(run).hex()
    shown = text.partition("in these parts:\n")[2].partition("\n\n## ")[0]
    head, _, tail = re.sub(r"\s+", "", shown).partition("...")
    assert data.startswith(head)
    assert data.endswith(tail)
    assert len(tail) > 2 * 64
    assert f"{len(data) // 2} bytes, address\n`{entry_address(run)}`" in text
