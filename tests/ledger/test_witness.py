"""The witness under attack: any requests in any order, many at once, and kills; it never contradicts itself."""

from __future__ import annotations

import contextlib
import random
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.ledger.witness_places import LOG, Tree, make_witness, witness_key

from samebits.ledger.checkpoint import parse_checkpoint
from samebits.ledger.cosignature import find_cosignature
from samebits.ledger.errors import LedgerError, StorageError, WitnessRefusalError
from samebits.ledger.note import parse_note
from samebits.ledger.witness import Witness
from samebits.ledger.witness_protocol import AddCheckpoint, format_request, hash_origin, parse_request
from samebits.ledger.witness_state import WitnessState

WORKER = Path(__file__).with_name("witness_worker.py")


def trees() -> st.SearchStrategy[Tree]:
    """Logs of up to 9 entries that share a beginning with each other."""
    return st.builds(Tree, st.integers(0, 9), forks_at=st.none() | st.integers(0, 9))


@settings(max_examples=60, deadline=None)
@given(asked=st.lists(st.tuples(trees(), st.integers(0, 9), st.integers(0, 9), trees()), max_size=12))
def test_whatever_is_asked_all_that_was_cosigned_is_one_growing_log(
    tmp_path_factory: pytest.TempPathFactory, asked: list[tuple[Tree, int, int, Tree]]
) -> None:
    witness = make_witness(tmp_path_factory.mktemp("witness"))
    latest = Tree(0)
    for tree, old_size, proof_from, proof_of in asked:
        proof = proof_of.proof(min(proof_from, proof_of.size))
        body = format_request(AddCheckpoint(old_size, proof, tree.note().encode()))
        extends = tree.size >= latest.size and tree.hashes()[: latest.size] == latest.hashes()
        try:
            witness.add_checkpoint(body)
        except WitnessRefusalError as refusal:
            if old_size > tree.size:
                assert refusal.status == 400
            elif old_size != latest.size:
                assert (refusal.status, refusal.known_size) == (409, latest.size)
            elif tree.size == latest.size and not extends:
                assert (refusal.status, refusal.known_size) == (409, None)
            else:
                assert refusal.status == 422
                assert not extends or proof != tree.proof(old_size)
        else:
            assert extends, "cosigned what contradicts an earlier cosignature"
            assert old_size == latest.size
            assert proof == tree.proof(old_size)
            latest = tree


@settings(max_examples=60, deadline=None)
@given(
    place=st.integers(0, 10_000), inserted=st.binary(max_size=4), removed=st.integers(0, 4), old_size=st.integers(0, 5)
)
def test_a_request_that_was_changed_anywhere_is_refused_or_says_the_same(
    tmp_path_factory: pytest.TempPathFactory, place: int, inserted: bytes, removed: int, old_size: int
) -> None:
    witness = make_witness(tmp_path_factory.mktemp("witness"))
    if old_size:
        witness.add_checkpoint(Tree(old_size).request(0))
    good = Tree(9).request(old_size)
    place %= len(good)
    changed = good[:place] + inserted + good[place + removed :]
    try:
        witness.add_checkpoint(changed)
    except WitnessRefusalError as refusal:
        assert refusal.status in (400, 403, 404, 409, 422)
    else:
        assert parse_request(changed).note.partition(b"\n\n")[0] == Tree(9).note().encode().partition(b"\n\n")[0]


@given(st.binary(max_size=300))
def test_parse_request_raises_nothing_but_its_own_error(data: bytes) -> None:
    for body in (data, b"old 0\n" + data, b"old 1\n\n" + data):
        with contextlib.suppress(LedgerError):
            assert format_request(parse_request(body)) == body


def test_many_requests_at_once_never_cosign_two_trees_of_one_size(tmp_path: Path) -> None:
    """Two forks of one log race through two witness objects, as of two processes, from many threads."""
    bodies = [Tree(4, forks_at=fork).request(3) for fork in (None, 3)]
    for round_ in range(10):
        witnesses = [make_witness(tmp_path / f"witness{round_}") for _ in range(2)]
        witnesses[0].add_checkpoint(Tree(3).request(0))
        start = threading.Barrier(12)

        def ask(number: int, witnesses: list[Witness] = witnesses, start: threading.Barrier = start) -> int | None:
            start.wait()
            try:
                witnesses[number // 2 % 2].add_checkpoint(bodies[number % 2])
            except WitnessRefusalError as refusal:
                assert (refusal.status, refusal.known_size) == (409, 4)
                return None
            return number % 2

        with ThreadPoolExecutor(12) as pool:
            cosigned = [fork for fork in pool.map(ask, range(12)) if fork is not None]
        assert len(cosigned) == 1, f"cosigned from one old size {len(cosigned)} times"


@pytest.mark.parametrize("seed", range(5))
def test_a_witness_killed_at_any_moment_never_forgets_what_it_cosigned(tmp_path: Path, seed: int) -> None:
    directory = tmp_path / "witness"
    directory.mkdir()
    moments = random.Random(seed)
    last = 0
    for attempt in range(40):
        if attempt >= 4 and last > 0:  # a busy machine gets less done between two kills
            break
        worker = subprocess.Popen([sys.executable, str(WORKER), str(directory)], stdout=subprocess.PIPE, text=True)
        assert worker.stdout is not None
        assert worker.stdout.readline() == "ready\n"
        time.sleep(moments.uniform(0, 0.15))
        worker.send_signal(signal.SIGKILL)
        said = worker.stdout.read().split("\n")[:-1]  # the last line may be cut short
        worker.wait()
        acknowledged = max([last, *map(int, said)])
        note = make_witness(directory).checkpoint(hash_origin(LOG.name))
        if note is None:
            assert acknowledged == 0
            continue
        text, signatures = parse_note(note)
        remembered = parse_checkpoint(text)
        assert find_cosignature(witness_key().verifier, text, signatures) is not None
        assert remembered == Tree(remembered.tree_size).checkpoint()
        assert acknowledged <= remembered.tree_size, "forgot a tree that it cosigned"
        with pytest.raises(WitnessRefusalError) as caught:
            make_witness(directory).add_checkpoint(Tree(remembered.tree_size, forks_at=0).request(0))
        assert caught.value.known_size == remembered.tree_size
        last = remembered.tree_size
    assert last > 0


def test_nothing_is_said_where_the_state_cannot_be_written(tmp_path: Path) -> None:
    directory = tmp_path / "witness"
    witness = make_witness(directory)
    (directory / hash_origin(LOG.name)).write_text("in the way")
    with pytest.raises(StorageError):
        witness.add_checkpoint(Tree(1).request(0))
    with pytest.raises(StorageError):
        Witness(WitnessState(tmp_path / "none"), witness_key(), [LOG.verifier]).add_checkpoint(Tree(1).request(0))
