"""Receipts: checked with nothing but the file and the key, and refused where any part of them lies."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from tests.ledger.witness_places import LOG, make_witness, policy_witness, witness_key

from samebits.cas.digest import hash_blob, hash_node
from samebits.ledger.checkpoint import Checkpoint, sign_checkpoint
from samebits.ledger.cosigned import open_cosigned
from samebits.ledger.entry import Entry, encode_entry, entry_address
from samebits.ledger.errors import (
    EntryError,
    EntryNotFoundError,
    LedgerError,
    NoteFormatError,
    ProofError,
    QuorumError,
    SignatureError,
    WitnessRefusalError,
)
from samebits.ledger.keys import SigningKey
from samebits.ledger.log import Log
from samebits.ledger.merkle import leaf_hash
from samebits.ledger.policy import Policy, PolicyLog, PolicyWitness
from samebits.ledger.proof_file import TlogProof, format_proof, parse_proof
from samebits.ledger.receipt import check_receipt, make_receipt
from samebits.ledger.witness_protocol import AddCheckpoint, format_request

ANY = Policy(())


def framed(*entries: Entry) -> bytes:
    encoded = [encode_entry(entry) for entry in entries]
    return b"".join(len(data).to_bytes(2, "big") + data for data in encoded)


def test_a_receipt_of_every_entry_holds_in_a_log_of_every_size(
    log: Log, make_entries: Callable[..., list[Entry]]
) -> None:
    entries = make_entries(log.origin, 8)
    for size, entry in enumerate(entries, 1):
        log.append([entry])
        for index, proven in enumerate(entries[:size]):
            proof = make_receipt(log, entry_address(proven))
            receipt = check_receipt(parse_proof(format_proof(proof).encode()), ANY, log.verifier)
            assert (receipt.entry, receipt.run, receipt.index) == (proven, entries[0], index)
            assert receipt.address == entry_address(proven)
            assert receipt.cosigned.checkpoint.tree_size == size


def test_make_receipt_refuses_an_entry_that_the_log_does_not_have(log: Log) -> None:
    with pytest.raises(EntryNotFoundError):
        make_receipt(log, hash_blob(b"nothing"))


@pytest.fixture
def filled(log: Log, make_entries: Callable[..., list[Entry]]) -> tuple[Log, list[Entry]]:
    entries = make_entries(log.origin, 4)
    log.append(entries)
    return log, entries


def test_check_receipt_refuses_each_part_that_was_changed(
    filled: tuple[Log, list[Entry]], make_run: Callable[..., Entry]
) -> None:
    log, entries = filled
    other_run = make_run(log.origin, nonce=1)
    good = make_receipt(log, entry_address(entries[2]))
    check_receipt(good, ANY, log.verifier)
    path = good.inclusion_proof
    wrong: list[tuple[TlogProof, type[LedgerError], str]] = [
        (replace(good, index=1), ProofError, "leaf 1 is not in the tree of 5"),
        (replace(good, index=5), ProofError, "leaf 5 cannot be in a tree of 5"),
        (replace(good, inclusion_proof=path[:-1]), ProofError, "too short"),
        (replace(good, inclusion_proof=(*path, path[0])), ProofError, "too long"),
        (replace(good, inclusion_proof=path[::-1]), ProofError, "leaf 2 is not in the tree"),
        (replace(good, extra=framed(entries[3], entries[0])), ProofError, "leaf 2 is not in the tree"),
        (replace(good, extra=b""), NoteFormatError, "it carries no entries"),
        (replace(good, extra=good.extra[:-1]), NoteFormatError, "cut short"),
        (replace(good, extra=good.extra + b"\x00"), NoteFormatError, "cut short"),
        (replace(good, extra=framed(entries[2])), NoteFormatError, "the entry of the segment's run is missing"),
        (replace(good, extra=framed(entries[2], entries[1])), ProofError, "the second entry of the receipt is not run"),
        (replace(good, extra=framed(entries[2], other_run)), ProofError, "the second entry of the receipt is not run"),
        (replace(good, extra=framed(*entries[:3])), NoteFormatError, "it carries 3 entries"),
        (replace(good, checkpoint=good.checkpoint.replace("\n5\n", "\n6\n")), SignatureError, "does not verify"),
    ]
    for proof, error, problem in wrong:
        with pytest.raises(error, match=problem):
            check_receipt(proof, ANY, log.verifier)
    first = make_receipt(log, entry_address(entries[0]))
    with pytest.raises(NoteFormatError, match="nothing refers to"):
        check_receipt(replace(first, extra=framed(entries[0], entries[1])), ANY, log.verifier)


def test_check_receipt_refuses_every_flipped_byte_of_the_file(filled: tuple[Log, list[Entry]]) -> None:
    log, entries = filled
    data = format_proof(make_receipt(log, entry_address(entries[3]))).encode()
    for place in range(len(data)):
        changed = bytearray(data)
        changed[place] ^= 1
        with pytest.raises(LedgerError):
            check_receipt(parse_proof(bytes(changed)), ANY, log.verifier)


def test_check_receipt_refuses_every_file_that_was_cut_short(filled: tuple[Log, list[Entry]]) -> None:
    log, entries = filled
    data = format_proof(make_receipt(log, entry_address(entries[1]))).encode()
    for size in range(len(data)):
        with pytest.raises(LedgerError):
            check_receipt(parse_proof(data[:size]), ANY, log.verifier)


def test_check_receipt_names_the_other_log(filled: tuple[Log, list[Entry]]) -> None:
    log, entries = filled
    proof = make_receipt(log, entry_address(entries[1]))
    with pytest.raises(SignatureError, match=rf"it is of log {log.origin}, but log\.example/one is wanted"):
        check_receipt(proof, ANY, LOG.verifier)
    same_name = SigningKey(log.origin, bytes(32))
    with pytest.raises(SignatureError, match=f"no signature by {log.origin}"):
        check_receipt(proof, ANY, same_name.verifier)


def test_a_log_that_holds_the_entry_of_another_log_is_named(make_run: Callable[..., Entry]) -> None:
    entry = make_run("log.example/two")
    root = leaf_hash(encode_entry(entry))
    note = sign_checkpoint(Checkpoint(LOG.name, 1, root), LOG)
    with pytest.raises(EntryError, match=r"made for log log\.example/two, but it is in log\.example/one"):
        check_receipt(TlogProof(0, (), note, framed(entry)), ANY, LOG.verifier)


def test_an_entry_whose_author_did_not_sign_it_is_refused_even_in_a_log(make_run: Callable[..., Entry]) -> None:
    entry = replace(make_run(LOG.name), signature=bytes(64))
    note = sign_checkpoint(Checkpoint(LOG.name, 1, leaf_hash(encode_entry(entry))), LOG)
    with pytest.raises(SignatureError, match="does not verify"):
        check_receipt(TlogProof(0, (), note, framed(entry)), ANY, LOG.verifier)


def test_a_segment_by_another_key_than_its_runs_is_refused(
    make_run: Callable[..., Entry], make_segment: Callable[..., Entry], stranger: SigningKey
) -> None:
    run = make_run(LOG.name)
    segment = make_segment(run, run, key=stranger)
    note = sign_checkpoint(Checkpoint(LOG.name, 1, leaf_hash(encode_entry(segment))), LOG)
    with pytest.raises(ProofError, match=r"the segment is by .* but the run is by"):
        check_receipt(TlogProof(0, (), note, framed(segment, run)), ANY, LOG.verifier)


@pytest.mark.parametrize(
    ("changed", "problem"),
    [
        ({"stop_step": 5000}, "the segment stops at step 5000, but the run has 1000 steps"),
        ({"prev": hash_blob(b"else")}, "the segment starts at step 0, but follows entry"),
        ({"first_step": 3, "stop_step": 4}, "the segment starts at step 3, but follows the run's own entry"),
    ],
)
def test_a_segment_that_breaks_a_rule_of_its_run_is_refused(
    changed: dict[str, object], problem: str, make_run: Callable[..., Entry], make_segment: Callable[..., Entry]
) -> None:
    run = make_run(LOG.name)
    segment = make_segment(run, run, **changed)
    note = sign_checkpoint(Checkpoint(LOG.name, 1, leaf_hash(encode_entry(segment))), LOG)
    with pytest.raises(ProofError, match=problem):
        check_receipt(TlogProof(0, (), note, framed(segment, run)), ANY, LOG.verifier)


@pytest.mark.parametrize("kind", ["segment", "verdict"])
def test_a_run_of_another_log_is_refused(
    kind: str, make_run: Callable[..., Entry], make_segment: Callable[..., Entry], make_verdict: Callable[..., Entry]
) -> None:
    run = make_run("log.example/two")
    entry = make_segment(run, run, origin=LOG.name)
    if kind == "verdict":
        entry = make_verdict(LOG.name, entry_address(run), entry_address(entry), 0, 1)
    note = sign_checkpoint(Checkpoint(LOG.name, 1, leaf_hash(encode_entry(entry))), LOG)
    problem = rf"the run was made for log log\.example/two, but the {kind} for log\.example/one"
    with pytest.raises(ProofError, match=problem):
        check_receipt(TlogProof(0, (), note, framed(entry, run)), ANY, LOG.verifier)


def test_a_run_whose_author_did_not_sign_it_is_refused(
    make_run: Callable[..., Entry], make_segment: Callable[..., Entry]
) -> None:
    run = replace(make_run(LOG.name), signature=bytes(64))
    segment = make_segment(run, run)
    note = sign_checkpoint(Checkpoint(LOG.name, 1, leaf_hash(encode_entry(segment))), LOG)
    with pytest.raises(SignatureError, match="does not verify"):
        check_receipt(TlogProof(0, (), note, framed(segment, run)), ANY, LOG.verifier)


def test_a_verdict_on_a_run_of_another_log_has_a_receipt(log: Log, make_verdict: Callable[..., Entry]) -> None:
    verdict = make_verdict(log.origin, hash_node(b"run"), hash_node(b"segment"), 0, 5)
    log.append([verdict])
    receipt = check_receipt(make_receipt(log, entry_address(verdict)), ANY, log.verifier)
    assert (receipt.entry, receipt.run) == (verdict, None)


def test_an_operator_that_shows_two_logs_cannot_make_a_witnessed_receipt_of_the_other(
    tmp_path: Path, make_run: Callable[..., Entry]
) -> None:
    """Both heads have one size and a good signature by the log; the witness signs the first that it is shown."""
    witness = make_witness(tmp_path / "witness")
    policy = Policy((PolicyLog(LOG.verifier),), (policy_witness("witness.example/w1", None),), (), "witness.example/w1")
    entries = [make_run(LOG.name, nonce) for nonce in range(2)]
    notes = [sign_checkpoint(Checkpoint(LOG.name, 1, leaf_hash(encode_entry(entry))), LOG) for entry in entries]
    line = witness.add_checkpoint(format_request(AddCheckpoint(0, (), notes[0].encode())))
    for old_size in (0, 1):
        with pytest.raises(WitnessRefusalError) as caught:
            witness.add_checkpoint(format_request(AddCheckpoint(old_size, (), notes[1].encode())))
        assert caught.value.status == 409
    check_receipt(TlogProof(0, (), notes[0] + line, framed(entries[0])), policy)
    with pytest.raises(QuorumError):
        check_receipt(TlogProof(0, (), notes[1], framed(entries[1])), policy)
    with pytest.raises(SignatureError, match=r"the cosignature by witness\.example/w1 does not verify"):
        check_receipt(TlogProof(0, (), notes[1] + line, framed(entries[1])), policy)
    with pytest.raises(ProofError):
        check_receipt(TlogProof(0, (), notes[0] + line, framed(entries[1])), policy)


def test_a_policy_refuses_a_receipt_that_was_not_cosigned(filled: tuple[Log, list[Entry]]) -> None:
    log, entries = filled
    keys = [witness_key(name) for name in ("w1", "w2")]
    witnesses = tuple(PolicyWitness(key.name, key.verifier) for key in keys)
    policy = Policy((PolicyLog(log.verifier),), witnesses, (), "w2")
    address = entry_address(entries[4])
    with pytest.raises(QuorumError, match="lacks cosignatures: w2"):
        check_receipt(make_receipt(log, address), policy)
    text = log.checkpoint().rpartition("\n\n")[0] + "\n"
    log.publish_cosigned(f"{text}\n{keys[0].cosign(text, 50)}")
    with pytest.raises(QuorumError, match="lacks cosignatures: w2"):
        check_receipt(make_receipt(log, address), policy)
    log.publish_cosigned(f"{text}\n{keys[1].cosign(text, 60)}")
    receipt = check_receipt(make_receipt(log, address), policy)
    assert [(seen.witness, seen.time_s) for seen in receipt.cosigned.witnessings] == [("w1", 50), ("w2", 60)]
    assert open_cosigned(log.checkpoint().encode(), policy).checkpoint.tree_size == 5
