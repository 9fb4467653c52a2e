"""The examples in ledger/README.md are what the code makes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import samebits.ledger
from samebits.cas.digest import hash_blob
from samebits.ledger.bodies import RunBody
from samebits.ledger.checkpoint import Checkpoint, sign_checkpoint
from samebits.ledger.cosignature import WitnessSigningKey
from samebits.ledger.entry import encode_entry, entry_address, sign_entry
from samebits.ledger.errors import QuorumError
from samebits.ledger.keys import SigningKey, VerifierKey
from samebits.ledger.logkey import log_origin
from samebits.ledger.merkle import leaf_hash, root_hash
from samebits.ledger.policy import Policy, parse_policy
from samebits.ledger.proof_file import TlogProof, format_proof, parse_proof
from samebits.ledger.receipt import check_receipt
from samebits.ledger.tiles import Tile, TreeEdge, grow, tiles_of
from samebits.ledger.trust import TrustedKey

LOG_SEED = bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60")
WITNESS_SEED = bytes.fromhex("c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7")
RUNNER_SEED = bytes.fromhex("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb")


def trusted_keys(log: VerifierKey, runner: VerifierKey) -> tuple[TrustedKey, ...]:
    return TrustedKey("log", log, "the lab"), TrustedKey("author:verdicts", runner, "Runa")


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
    trusted = "".join(f"    {key.format()}\n" for key in trusted_keys(key.verifier, runner.verifier))
    assert trusted in text
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

    witness = WitnessSigningKey("witness.example/w1", WITNESS_SEED)
    entry = encode_entry(run)
    line = witness.cosign(note.rpartition("\n\n")[0] + "\n", 1_700_000_000)
    receipt = format_proof(TlogProof(0, (), note + line, len(entry).to_bytes(2, "big") + entry))
    assert witness.verifier.vkey in text
    assert witness.format() in text
    assert re.sub(r"\s+", "", receipt) in words
    assert check_receipt(parse_proof(receipt.encode()), Policy(()), key.verifier).entry == run
    shown = text[text.index("    log      samebits") :].split("\n\n")[0]
    for name in ("lab-a", "lab-b"):
        shown = shown.replace("<vkey>", WitnessSigningKey.generate(name).verifier.vkey, 1)
    policy = parse_policy(re.sub(r"^ +", "", shown, flags=re.MULTILINE).encode() + b"\n")
    assert policy.unmet(["lab-a", "w1"]) == ""
    with pytest.raises(QuorumError, match="1 more of lab-a, lab-b"):
        check_receipt(parse_proof(receipt.encode()), policy)


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
