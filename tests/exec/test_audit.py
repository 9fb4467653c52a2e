"""Audits: a part of a run computed again; frauds are found exactly where the draw, or the range, goes."""

from __future__ import annotations

import fcntl
import os
import threading
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from tests.exec.frauds import Author
from tests.exec.small_job import changed, make_job
from tests.exec.test_run_and_verify import Fraud

import samebits
from samebits.cas import Digest, Store, node_address, tree_node
from samebits.cas.environment import OBJECTS
from samebits.exec.author import author_key
from samebits.exec.builder import GraphBuilder
from samebits.exec.canonical import graph_address, graph_node
from samebits.exec.commits import Commit, read_commits
from samebits.exec.errors import RunError
from samebits.exec.ledger_folder import log_directory
from samebits.exec.places.run_places import FoundRun, StorePlace
from samebits.exec.retention import collect_store
from samebits.exec.running.runner import ChainWriter, put_job
from samebits.exec.verification.drawing import signed_checkpoint
from samebits.exec.verification.sample_check import SampleCheck, SampleChecker
from samebits.exec.verification.sampling import draw_segments, hash_nonce
from samebits.exec.verification.selection import SampleRequest, StepRange
from samebits.exec.verification.verdict import Verdict
from samebits.ledger import DrawBody, Log, Sample, SegmentBody, SigningKey, VerdictBody, entry_address, sign_entry
from samebits.ledger.checkpoint import Checkpoint, sign_checkpoint
from samebits.ledger.errors import SignatureError
from samebits.ledger.note import add_signatures, sign_note
from samebits.ledger.run_proof import RunProof

STEPS, EVERY = 100, 10  # Fraud's segments have 10 steps


def honest(store: Store, *, commit_every: int = 1) -> Digest:
    return samebits.run(make_job(steps=STEPS), store, checkpoint_every=EVERY, commit_every=commit_every).address


def forged(store: Store, at: int) -> Digest:
    return Fraud(store, at, claimed=make_job(steps=STEPS)).run


def parts(verdict: Verdict) -> tuple[str, str, str]:
    return verdict.log.status, verdict.artifacts.status, verdict.computation.status


def object_of(store: Store, run: Digest, segment: int, name: str) -> Digest:
    with Log.open(log_directory(store), read_only=True) as log:
        digest: Digest = getattr(log.chain(run).segments[segment].body, name)
        return digest


def read_segment(store: Store, segment: SegmentBody) -> list[Commit]:
    return [Commit.from_node(store.get_node(address)) for _, address in read_commits(store.get_node(segment.commits))]


def read_all(store: Store, run: Digest) -> list[Commit]:
    chain = Log.open(log_directory(store), read_only=True).chain(run)
    return [commit for link in chain.segments for commit in read_segment(store, link.body)]


def lose(store: Store, digest: Digest) -> None:
    """Take an object out of a store, as if the disk had lost it."""
    assert store.environment.write(lambda transaction: transaction.delete(OBJECTS, digest.raw))


@pytest.mark.parametrize(
    ("asked", "replayed", "commits"),
    [
        ((None, None), (0, 100), 100),
        ((25, 42), (20, 42), 22),
        ((20, 30), (20, 30), 10),
        ((99, None), (90, 100), 10),
        ((None, 1), (0, 1), 1),
    ],
)
def test_steps_are_replayed_from_the_checkpoint_before_them(
    store: Store, asked: tuple[int | None, int | None], replayed: tuple[int, int], commits: int
) -> None:
    verdict = samebits.verify(honest(store), store, selection=StepRange(*asked))
    assert (verdict.verdict, parts(verdict)) == ("same", ("verified",) * 3)
    assert (verdict.segments[0].first_step, verdict.segments[-1].stop_step) == replayed
    assert (verdict.commits_checked, verdict.steps_checked) == (commits, replayed[1] - replayed[0])
    assert verdict.entry is not None
    body = Log.open(log_directory(store), read_only=True).find(verdict.entry)[1].body
    assert isinstance(body, VerdictBody)
    assert ((body.first_step, body.stop_step), body.sample) == (replayed, None)


def test_steps_go_on_to_the_commit_that_shows_them(store: Store) -> None:
    """Steps behind the last commit of a range would have been computed and never compared."""
    verdict = samebits.verify(honest(store, commit_every=7), store, selection=StepRange(22, 23))
    assert (verdict.segments[0].stop_step, verdict.commits_checked) == (28, 2)


@pytest.mark.parametrize("asked", [(5, 5), (7, 3), (0, 101), (100, None)])
def test_steps_that_are_not_there_are_refused(store: Store, asked: tuple[int, int | None]) -> None:
    with pytest.raises(RunError, match=r"the run has the steps 0:100; .* is not a range in them"):
        samebits.verify(honest(store), store, selection=StepRange(*asked))


def test_a_range_finds_the_fraud_in_it_and_no_other(store: Store, other: Store) -> None:
    run = forged(store, 47)
    found = samebits.verify(run, other, source=store, selection=StepRange(41, 60))
    assert (found.verdict, found.first_different_step) == ("different", 47)
    assert [one.result for one in found.segments] == ["different", "skipped"]
    assert samebits.verify(run, other, source=store, selection=StepRange(0, 40)).verdict == "same"
    after = samebits.verify(run, other, source=store, selection=StepRange(50, None))
    assert after.verdict == "same"  # from the states that are stored, everything behind is as claimed
    short = samebits.verify(run, other, source=store, selection=StepRange(40, 47))
    assert (short.verdict, short.computation.detail) == ("same", "steps 40:47 replayed on numpy")


def test_a_sample_finds_a_fraud_exactly_if_it_was_drawn(store: Store, other: Store) -> None:
    run = forged(store, 47)
    outcomes = set()
    for number in range(24):
        beacon = number.to_bytes(4, "big")
        verdict = samebits.verify(run, other, source=store, selection=SampleRequest(4, beacon=beacon))
        assert verdict.drawn is not None
        drawn = 4 in verdict.drawn.sample.segments
        assert (verdict.verdict, verdict.first_different_step) == (("different", 47) if drawn else ("same", None))
        assert [one.number for one in verdict.segments] == list(verdict.drawn.sample.segments)
        assert all(one.result == ("different" if one.number == 4 else "same") for one in verdict.segments)
        assert verdict.drawn.miss_probability == Fraction(6, 10)  # one altered segment of ten, four drawn
        outcomes.add(verdict.verdict)
    assert outcomes == {"same", "different"}


def test_a_sample_needs_only_its_own_objects(store: Store, other: Store) -> None:
    run = honest(store)
    verdict = samebits.verify(run, other, source=store, selection=SampleRequest(1, beacon=b"one"))
    (drawn,) = verdict.segments
    for number in range(10):
        assert other.has(object_of(store, run, number, "commits")) == (number == drawn.number)
    elsewhere = 9 if drawn.number != 9 else 0
    lose(store, object_of(store, run, elsewhere, "commits"))
    again = samebits.verify(run, store, selection=SampleRequest(1, beacon=b"one"))
    assert again.verdict == "same"


def test_confidence_decides_the_size(store: Store) -> None:
    request = SampleRequest(confidence=Fraction(9, 10), fraud=Fraction(3, 10))
    drawn = samebits.verify(honest(store), store, selection=request).drawn
    assert drawn is not None
    assert (drawn.altered, len(drawn.sample.segments)) == (3, 5)  # C(7,5)/C(10,5) = 1/12, C(7,4)/C(10,4) = 1/6
    assert drawn.miss_probability == Fraction(1, 12)
    with pytest.raises(RunError, match="the run has 10"):
        samebits.verify(honest(store), store, selection=SampleRequest(11))


def test_first_state_of_a_run_must_be_the_job_s_even_if_the_first_segment_is_not_asked_for(store: Store) -> None:
    job = make_job(steps=STEPS)
    run = samebits.run(job, store, checkpoint_every=EVERY)
    chain = Log.open(log_directory(store), read_only=True).chain(run.address)
    writer = ChainWriter(store, job.address, STEPS, 1, EVERY)
    state = chain.segments[3].body.state_out  # not what the job begins with
    for link in chain.segments:
        commits = read_segment(store, link.body)
        state_in, state = state, link.body.state_out
        writer.add_segment(link.body.first_step, link.body.stop_step, state_in, state, commits, "numpy", ())
    for selection in (StepRange(50, 60), SampleRequest(2, beacon=b"x"), None):
        verdict = samebits.verify(writer.run, store, selection=selection)
        assert (verdict.verdict, verdict.first_different_step) == ("different", 0)


def test_first_state_from_an_init_graph_is_computed(store: Store) -> None:
    build = GraphBuilder()
    build.output("state/w", build.scalar(0.25, "f32"))
    nodes = [graph_node(build.build()), tree_node({})]
    job = changed(make_job(), {"init": graph_address(build.build()), "state": node_address(nodes[1])}, nodes)
    run = samebits.run(job, store, checkpoint_every=EVERY)
    assert samebits.verify(run.address, store, selection=StepRange(0, 5)).verdict == "same"
    forger = ChainWriter(store, job.address, 25, 1, 25)
    state, commits = make_job().spec.state, read_all(store, run.address)
    put_job(make_job(), store)
    forger.add_segment(0, 25, state, run.final_state, commits, "numpy", ())
    verdict = samebits.verify(forger.run, store)
    assert (verdict.verdict, verdict.first_different_step, verdict.commits_checked) == ("different", 0, 0)


@pytest.mark.parametrize("name", ["state_in", "commits", "state_out"])
def test_a_missing_object_fails_its_segments_and_hides_nothing(store: Store, name: str) -> None:
    run = honest(store)
    lost = object_of(store, run, 3, name)
    lose(store, lost)
    verdict = samebits.verify(run, store)
    assert (verdict.verdict, verdict.entry, parts(verdict)) == ("failed", None, ("verified", "failed", "failed"))
    assert str(lost) in verdict.artifacts.detail
    assert str(lost) in verdict.problem
    failed = {"state_in": [2, 3], "commits": [3], "state_out": [3, 4]}[name]
    assert [one.number for one in verdict.segments if one.result == "failed"] == failed
    assert all(one.result == "same" for one in verdict.segments if one.number not in failed)
    assert Log.open(log_directory(store), read_only=True).verdicts(run) == []


def test_what_a_place_does_not_give_is_failed(store: Store, other: Store) -> None:
    run = honest(store)
    lost = object_of(store, run, 3, "commits")
    lose(store, lost)
    verdict = samebits.verify(run, other, source=store)
    assert (verdict.verdict, [one.number for one in verdict.segments if one.result == "failed"]) == ("failed", [3])
    assert verdict.commits_checked == 90
    lose(store, object_of(store, run, 0, "state_in"))
    assert samebits.verify(run, store).verdict == "failed"


def test_a_difference_counts_even_where_something_else_is_missing(store: Store, other: Store) -> None:
    run = forged(store, 47)
    lose(store, object_of(store, run, 1, "commits"))
    verdict = samebits.verify(run, store)
    assert (verdict.verdict, verdict.first_different_step) == ("different", 47)
    assert verdict.artifacts.status == "failed"
    assert verdict.entry is not None
    body = Log.open(log_directory(store), read_only=True).find(verdict.entry)[1].body
    assert isinstance(body, VerdictBody)
    assert (body.first_step, body.stop_step, body.first_different_step) == (40, 50, 47)  # what is known, no more


def test_a_damaged_log_is_a_failed_verdict_that_says_so(store: Store) -> None:
    run = honest(store)
    tile = max(path for path in (log_directory(store) / "tile" / "0").rglob("*") if path.is_file())
    data = bytearray(tile.read_bytes())
    data[40] ^= 1
    tile.write_bytes(data)
    verdict = samebits.verify(run, store)
    assert (verdict.verdict, parts(verdict)) == ("failed", ("failed", "skipped", "skipped"))
    assert (verdict.entry, verdict.job, verdict.segments) == (None, None, ())


def test_verdicts_go_into_the_ledger_that_is_named(store: Store, other: Store, tmp_path: Path) -> None:
    run = honest(store)
    Log.open(tmp_path / "log").close()
    Log.open(log_directory(other)).close()
    for named, directory in ((tmp_path / "log", tmp_path / "log"), (Path(other.path), log_directory(other))):
        verdict = samebits.verify(run, store, ledger=named, selection=SampleRequest(2))
        with Log.open(directory, read_only=True) as log:
            assert [entry.kind for entry in log.entries()] == ["draw", "verdict"]
            assert (verdict.entry, verdict.ledger) == (entry_address(log.entry(1)), log.origin)
    assert Log.open(log_directory(store), read_only=True).verdicts(run) == []
    with pytest.raises(RunError, match="no log that can be written to"):
        samebits.verify(run, store, ledger=tmp_path / "typo")
    assert not (tmp_path / "typo").exists()


def test_nothing_is_signed_without_sign(store: Store) -> None:
    run = honest(store)
    assert samebits.verify(run, store, sign=False).entry is None
    assert samebits.verify(run, store, sign=False, selection=SampleRequest(1, beacon=b"x")).entry is None
    with pytest.raises(RunError, match="announced in a ledger"):
        samebits.verify(run, store, sign=False, selection=SampleRequest(1))
    assert [entry.kind for entry in Log.open(log_directory(store), read_only=True).entries()][-1] == "segment"


def test_a_false_first_state_is_different_though_its_bytes_are_withheld(store: Store) -> None:
    """The entries prove it alone; it was "failed", which is not signed."""
    author = Author(store, make_job(), first_state={"w": np.float32(2)})
    lose(store, object_of(store, author.run, 0, "state_in"))
    verdict = samebits.verify(author.run, store)
    assert (verdict.verdict, verdict.first_different_step) == ("different", 0)
    assert verdict.entry is not None


# what log verdicts finds of a draw


def checks(store: Store, run: Digest) -> list[SampleCheck | None]:
    with Log.open(log_directory(store), read_only=True) as log:
        checker = SampleChecker(log, run, store, lambda origin: ())
        return [checker.check(index, entry) for index, entry in log.verdicts(run)]


def test_an_honest_sample_is_found_right(store: Store, other: Store) -> None:
    run = honest(store)
    samebits.verify(run, store, selection=SampleRequest(3))
    samebits.verify(run, store, selection=SampleRequest(3, beacon=b"public"))
    samebits.verify(run, store)
    first, second, whole = checks(store, run)
    assert first == second == SampleCheck("fits")
    assert whole is None
    samebits.verify(run, other, source=store, selection=SampleRequest(3))
    (elsewhere,) = checks(other, run)
    assert elsewhere is not None
    assert (elsewhere.status, "whose key is not trusted" in elsewhere.reason) == ("unknown", True)
    with Log.open(log_directory(store), read_only=True) as theirs, Log.open(log_directory(other)) as log:
        checker = SampleChecker(log, run, other, lambda origin: [theirs.verifier])
        ((index, entry),) = log.verdicts(run)
        trusted = checker.check(index, entry)
        assert trusted is not None
        assert trusted.reason.startswith("the run is in another log")


Change = Callable[[Sample, Store, Log], Sample]


def _other_segments(sample: Sample, store: Store, log: Log) -> Sample:
    free = [number for number in range(10) if number not in sample.segments]
    return replace(sample, segments=tuple(sorted([*sample.segments[1:], free[0]])))


def _fewer(sample: Sample, store: Store, log: Log) -> Sample:
    return replace(sample, segments=sample.segments[1:])


def _older_checkpoint(sample: Sample, store: Store, log: Log) -> Sample:
    return replace(sample, checkpoint=store.put_blob(CHECKPOINTS["before"].encode()))


def _own_checkpoint(sample: Sample, store: Store, log: Log) -> Sample:
    made = sign_checkpoint(Checkpoint(log.origin, 99, bytes(32)), SigningKey(log.origin, bytes([3]) * 32))
    return replace(sample, checkpoint=store.put_blob(made.encode()))


def _other_nonce(sample: Sample, store: Store, log: Log) -> Sample:
    return replace(sample, nonce=bytes(32))


def _no_checkpoint(sample: Sample, store: Store, log: Log) -> Sample:
    return replace(sample, checkpoint=store.put_blob(b"no checkpoint"))


def _unknown_draw(sample: Sample, store: Store, log: Log) -> Sample:
    return replace(sample, draw=Digest(bytes(32)))


def _added_beacon(sample: Sample, store: Store, log: Log) -> Sample:
    """The segments that the seed draws with it: somebody who may choose it tries until they are those they like."""
    (announced,) = log.entries(log.size - 1)
    assert isinstance(announced.body, DrawBody)
    assert announced.prev is not None
    text = signed_checkpoint(store.get_blob(sample.checkpoint), log.verifier)
    run, head, beacon = announced.body.run, announced.prev, b"chosen afterwards"
    drawn = draw_segments(run, head, 10, 3, nonce=sample.nonce, beacon=beacon, checkpoint=text)
    return replace(sample, beacon=beacon, segments=drawn)


CHECKPOINTS: dict[str, str] = {}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_other_segments, "other segments than those that the seed draws"),
        (_fewer, "3 segments were to be drawn, it has 2"),
        (_older_checkpoint, "its checkpoint is from before the draw"),
        (_own_checkpoint, "its checkpoint is not signed by this log"),
        (_other_nonce, "its nonce is not the one announced"),
        (_no_checkpoint, "its checkpoint is none"),
        (_unknown_draw, "does not have the draw"),
        (_added_beacon, "it has a beacon that was not announced"),
    ],
)
def test_a_verifier_who_reports_another_draw_is_caught(store: Store, change: Change, message: str) -> None:
    run = honest(store)
    key = author_key(store)
    with Log.open(log_directory(store)) as log:
        CHECKPOINTS["before"] = log.checkpoint()
        head = log.chain(run).head
        nonce = os.urandom(32)
        announced = sign_entry(log.origin, head, DrawBody(run, hash_nonce(run, nonce), 10, 3), key, time=1)
        log.append([announced])
        note = log.checkpoint()
        text = signed_checkpoint(note.encode(), log.verifier)
        drawn = draw_segments(run, head, 10, 3, nonce=nonce, beacon=b"", checkpoint=text)
        right = Sample(entry_address(announced), nonce, b"", store.put_blob(note.encode()), drawn)
        body = VerdictBody(run, 0, STEPS, "same", None, "numpy", change(right, store, log))
        log.append([sign_entry(log.origin, head, body, key, time=2)])
    (found,) = checks(store, run)
    assert found is not None
    assert found.status == "wrong"
    assert message in found.reason


def test_a_draw_is_reported_once_and_by_its_author(store: Store) -> None:
    run = honest(store)
    verdict = samebits.verify(run, store, selection=SampleRequest(3))
    assert verdict.drawn is not None
    with Log.open(log_directory(store)) as log:
        head = log.chain(run).head
        for key in (author_key(store), SigningKey("eve.example", bytes([5]) * 32)):
            body = VerdictBody(run, 0, STEPS, "same", None, "abacus", verdict.drawn.sample)
            log.append([sign_entry(log.origin, head, body, key, time=3)])
    right, again, stolen = checks(store, run)
    assert right == SampleCheck("fits")
    assert again is not None
    assert "reported this draw already" in again.reason
    assert stolen is not None
    assert "by another author" in stolen.reason


def test_a_draw_without_a_verdict_is_listed(store: Store) -> None:
    run = honest(store)
    lose(store, object_of(store, run, 3, "commits"))
    assert samebits.verify(run, store, selection=SampleRequest(10)).verdict == "failed"
    with Log.open(log_directory(store), read_only=True) as log:
        ((_, entry),) = SampleChecker(log, run, store, lambda origin: ()).unreported()
        assert entry.kind == "draw"


def test_the_checkpoint_of_a_draw_outlives_garbage_collection(store: Store) -> None:
    run = honest(store)
    drawn = samebits.verify(run, store, selection=SampleRequest(3)).drawn
    assert drawn is not None
    collect_store(store, grace_s=0)
    assert store.has(drawn.sample.checkpoint)
    assert checks(store, run) == [SampleCheck("fits")]


class ChangingPlace(StorePlace):
    """A prover who shows the whole run before a draw, and after it one with a segment less."""

    found = 0  # how often the whole log was audited

    def find(self, run: Digest) -> FoundRun:
        self.found += 1
        return super().find(run)

    def prove(self, run: Digest) -> RunProof:
        proof = super().prove(run)
        return replace(proof, entries=proof.entries[:-1])


def test_a_prover_who_changes_the_run_after_the_draw_is_refused(store: Store, other: Store) -> None:
    run = honest(store)
    place = ChangingPlace(store)
    with pytest.raises(RunError, match="is another one than before the draw"):
        samebits.verify(run, other, source=place, selection=SampleRequest(3))
    assert place.found == 1


def test_a_locked_ledger_is_waited_for_and_said(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before the replay, when the ledger is opened, and behind it, when the verdict is signed."""
    monkeypatch.setattr("samebits.exec.running.ledger_wait._SAY_AFTER_S", 0.1)
    run, said = honest(store), list[str]()
    descriptor = os.open(log_directory(store) / "lock", os.O_RDWR)

    unlocks: list[threading.Timer] = []

    def lock(*_: object) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        unlocks.append(threading.Timer(5.0, fcntl.flock, (descriptor, fcntl.LOCK_UN)))  # where nothing is said
        unlocks[-1].start()

    def notice(line: str) -> None:
        said.append(line)
        fcntl.flock(descriptor, fcntl.LOCK_UN)

    lock()
    assert samebits.verify(run, store, progress=lock, notice=notice).entry is not None
    for unlock in unlocks:
        unlock.cancel()
    os.close(descriptor)
    assert said == 2 * [f"waiting for the ledger {log_directory(store)}, which process {os.getpid()} has locked"]


def test_a_prover_who_changes_the_checkpoint_changes_the_draw_but_cannot_aim_it(store: Store, other: Store) -> None:
    """What he can do is append to his log; he does not know the nonce, and the verdict names what was drawn from."""
    run = forged(store, 47)
    drawn = set()
    for _ in range(6):
        samebits.run(make_job(steps=1), store)  # the log grows
        verdict = samebits.verify(run, other, source=store, selection=SampleRequest(3))
        assert verdict.drawn is not None
        drawn.add(verdict.drawn.sample.segments)
        assert (verdict.verdict == "different") == (4 in verdict.drawn.sample.segments)
    assert len(drawn) > 1


def test_a_prover_who_knows_the_beacon_cannot_steer_by_what_they_append(store: Store) -> None:
    """Each checkpoint drew other segments once, so who knew the beacon appended until one missed the forged segment."""
    run = forged(store, 47)
    drawn = set()
    for _ in range(4):
        samebits.run(make_job(steps=1), store)  # the log grows
        found = samebits.verify(run, store, sign=False, selection=SampleRequest(3, beacon=b"round 4711")).drawn
        assert found is not None
        drawn.add(found.sample.segments)
    assert len(drawn) == 1


def test_a_draw_hangs_on_the_logs_signature_and_not_on_what_others_add(store: Store) -> None:
    honest(store)
    with Log.open(log_directory(store)) as log:
        note, other = log.checkpoint(), SigningKey("witness.example", bytes(range(32)))
        text = note.rpartition("\n\n")[0] + "\n"
        cosigned = add_signatures(note, sign_note(text, [other]).rpartition("\n\n")[2])
        assert cosigned != note
        assert signed_checkpoint(cosigned.encode(), log.verifier) == note
        with pytest.raises(SignatureError):
            signed_checkpoint(sign_note(text, [other]).encode(), log.verifier)
