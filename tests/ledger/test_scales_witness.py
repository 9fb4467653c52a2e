"""What the Python package tlog-scales, by other people, thinks of our cosignatures, proofs and keys."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from tests.ledger.witness_places import witness_key

from samebits.ledger.entry import Entry, encode_entry, entry_address
from samebits.ledger.log import Log
from samebits.ledger.merkle import leaf_hash
from samebits.ledger.receipt import make_receipt

signing = pytest.importorskip("tlog_scales.signing", reason="pip install tlog-scales")
tlog = pytest.importorskip("tlog_scales.tlog", reason="pip install tlog-scales")


def test_tlog_scales_accepts_our_cosignatures_and_proofs(log: Log, make_entries: Callable[..., list[Entry]]) -> None:
    entries = make_entries(log.origin, 12)
    log.append(entries)
    text = log.checkpoint().rpartition("\n\n")[0] + "\n"
    log.publish_cosigned(f"{text}\n{witness_key('w').cosign(text, 1_700_000_000)}")
    for entry in entries:
        receipt = make_receipt(log, entry_address(entry))
        checkpoint = tlog.Checkpoint.from_text(receipt.checkpoint)
        keys = [signing.Vkey.from_string(key) for key in (log.verifier.vkey, witness_key("w").verifier.vkey)]
        assert [key.sig_type for key in keys] == [1, 4]
        for key, signature in zip(keys, checkpoint.signatures, strict=True):
            assert key.match(signature)
            key.get_verifier().verify(signature.payload, checkpoint)
        assert keys[1].get_verifier().get_timestamp(checkpoint.signatures[1].payload) == 1_700_000_000
        proof = tlog.InclusionProof(receipt.index, checkpoint.size, list(receipt.inclusion_proof))
        proof.check(leaf_hash(encode_entry(entry)), checkpoint.root_hash)
        with pytest.raises(tlog.InclusionProofInvalid):
            proof.check(leaf_hash(b"another"), checkpoint.root_hash)


def test_our_key_ids_are_those_of_tlog_scales() -> None:
    key = witness_key("witness.example/w1").verifier
    assert signing.Vkey(key.name, None, 4, key.public).serialize() == key.vkey
