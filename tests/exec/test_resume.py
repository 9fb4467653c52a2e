"""A run that stopped goes on where the ledger says, with the bits and the entries of one that was not disturbed."""

from __future__ import annotations

import fcntl
import os
import threading
import time
from collections.abc import Mapping
from pathlib import Path

import pytest
from tests.exec.small_job import make_job

import samebits
from samebits.cas import Digest, Store
from samebits.cas.damage import take_out
from samebits.exec.author import author_key
from samebits.exec.errors import RunError
from samebits.exec.ledger_folder import log_directory
from samebits.exec.running.background_writer import BackgroundWriter
from samebits.exec.running.resume import is_run, resume_run, unfinished_run
from samebits.exec.running.run_lock import running
from samebits.exec.running.runner import ChainWriter
from samebits.exec.running.segment_writer import SegmentWriter
from samebits.ledger import ChainError, Log, SigningKey

STEPS = 25


class Stop(Exception):  # noqa: N818
    """Ends a run early."""


@pytest.fixture
def undisturbed(store: Store) -> samebits.Run:
    return samebits.run(make_job(), store, checkpoint_every=5)


def stopped(store: Store, at: int, *, commit_every: int = 1, checkpoint_every: int = 5) -> Digest:
    """Run the small job until a step, and return the run."""

    def stop(done: int, steps: int, metrics: Mapping[str, float]) -> None:
        if done == at:
            raise Stop

    with pytest.raises(Stop) as caught:
        samebits.run(make_job(), store, commit_every=commit_every, checkpoint_every=checkpoint_every, progress=stop)
    address = read_log(store).runs()[-1].run_address
    kept = (at - 1) // checkpoint_every * checkpoint_every
    assert caught.value.__notes__ == [f"kept: all steps before {kept}; to go on: samebits run {address} --resume"]
    return address


def read_log(store: Store) -> Log:
    return Log.open(log_directory(store), read_only=True)


def ranges(store: Store, run: Digest) -> list[tuple[int, int]]:
    return [(one.body.first_step, one.body.stop_step) for one in read_log(store).chain(run).segments]


@pytest.mark.parametrize(("at", "commit_every", "checkpoint_every"), [(6, 1, 5), (13, 1, 5), (24, 7, 10), (12, 4, 3)])
def test_resumed_run_is_the_undisturbed_one(store: Store, at: int, commit_every: int, checkpoint_every: int) -> None:
    whole = samebits.run(make_job(), store, commit_every=commit_every, checkpoint_every=checkpoint_every)
    run = stopped(store, at, commit_every=commit_every, checkpoint_every=checkpoint_every)
    resumed = resume_run(run, store)
    assert (resumed.final_state, resumed.commits, resumed.metrics) == (whole.final_state, whole.commits, whole.metrics)
    assert (resumed.address, resumed.steps) == (run, STEPS)
    assert ranges(store, run) == ranges(store, whole.address)
    read_log(store).audit().check()
    assert samebits.verify(run, store).verdict == "same"


def test_unfinished_run_is_the_latest_of_the_job_by_the_author(store: Store, undisturbed: samebits.Run) -> None:
    assert unfinished_run(undisturbed.job, store) is None
    runs = [stopped(store, at) for at in (7, 12)]
    samebits.run(make_job(), store)
    assert unfinished_run(undisturbed.job, store) == runs[1]
    assert unfinished_run(undisturbed.job, store, key=SigningKey.generate("someone/else")) is None
    resume_run(runs[1], store)
    assert unfinished_run(undisturbed.job, store) == runs[0]
    assert is_run(runs[0], store)
    assert not is_run(undisturbed.job, store)


def test_complete_run_is_returned_as_it_is(store: Store, undisturbed: samebits.Run) -> None:
    size = read_log(store).size
    again = resume_run(undisturbed.address, store)
    assert (again.final_state, again.commits, again.entry) == (
        undisturbed.final_state,
        undisturbed.commits,
        undisturbed.entry,
    )
    assert read_log(store).size == size


def test_resume_refuses_what_it_can_not_go_on_with(store: Store, tmp_path: Path) -> None:
    run = stopped(store, 7)
    with Store(tmp_path / "other") as other, pytest.raises(RunError, match="is not in the ledger"):
        resume_run(run, other)
    stranger = SigningKey.generate("someone/else")
    with pytest.raises(RunError, match=f"is by {author_key(store).public.hex()}"):
        resume_run(run, store, key=stranger)
    with pytest.raises(RunError, match="every 1 and stores every 5 steps"):
        resume_run(run, store, checkpoint_every=6)
    with running(store, run), pytest.raises(RunError, match=f"is being computed by process {os.getpid()}"):
        resume_run(run, store)
    assert resume_run(run, store, commit_every=1, checkpoint_every=5).steps == STEPS
    assert not list((store.path / "running").iterdir())


def remove_state(store: Store, state: Digest) -> None:
    """Lose a stored state: its tree."""
    take_out(store.environment, state)
    assert not store.has(state)


@pytest.mark.parametrize(("commit_every", "lost"), [(1, 1), (3, 1), (1, 3), (7, 4)])
def test_lost_state_is_computed_again(store: Store, commit_every: int, lost: int) -> None:
    """`lost`: so many of the last states; all but the first, or that one too (the job gives it)."""
    whole = samebits.run(make_job(), store, commit_every=commit_every, checkpoint_every=5)
    with Store(store.path.with_name("second")) as second:
        run = stopped(second, 17, commit_every=commit_every)
        segments = read_log(second).chain(run).segments
        for state in [segment.body.state_out for segment in reversed(segments)][:lost]:
            remove_state(second, state)
        said: list[str] = []
        resumed = resume_run(run, second, notice=said.append)
        assert resumed.commits == whole.commits
        at = 5 * max(0, len(segments) - lost)
        assert said == [f"the state at step 15 is not stored: computing steps {at} to 15 again"]
        assert second.has(segments[-1].body.state_out)


def test_lost_state_of_a_lie_is_not_made_up(store: Store) -> None:
    """The state to go on from is missing, and computing it again gives another commit than the run's."""
    from tests.exec.test_run_and_verify import Fraud

    fraud = Fraud(store, 3, claimed=make_job(), stop=10)
    remove_state(store, read_log(store).chain(fraud.run).segments[-1].body.state_out)
    with pytest.raises(RunError, match=r"step 3 of run .* gives another commit here"):
        resume_run(fraud.run, store)


def test_ledger_has_the_last_word(store: Store) -> None:
    """Two that go on with one run, without the lock: the second is refused."""
    run = stopped(store, 7)
    with Log.open(log_directory(store)) as log:
        late = SegmentWriter.after(store, log, author_key(store), log.chain(run))
        resume_run(run, store)
        body = log.chain(run).segments[1].body
        from samebits.exec.commits import Commit, read_commits

        commits = [Commit.from_node(store.get_node(c)) for _, c in read_commits(store.get_node(body.commits))]
        with pytest.raises(ChainError, match=r"a fork: entry|repeats entry"):
            late.add_segment(5, 10, body.state_in, body.state_out, commits, "numpy", ())


def test_error_of_the_writer_stops_the_run(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[int] = []
    real = SegmentWriter.add_segment

    def fail_once(self: SegmentWriter, first: int, *rest: object) -> Digest:
        if first == 5:
            raise OSError(28, "No space left on device", "somewhere")
        return real(self, first, *rest)  # type: ignore[arg-type]

    def slow(done: int, total: int, metrics: Mapping[str, float]) -> None:
        steps.append(done)
        time.sleep(0.1)

    monkeypatch.setattr(SegmentWriter, "add_segment", fail_once)
    with pytest.raises(OSError, match="No space") as caught:
        samebits.run(make_job(), store, checkpoint_every=5, progress=slow)
    assert 10 <= steps[-1] < 15  # where the next segment would be handed over
    assert "kept: all steps before 5" in caught.value.__notes__[0]
    monkeypatch.undo()
    run = read_log(store).runs()[-1].run_address
    assert resume_run(run, store).final_state == samebits.run(make_job(), store).final_state


def test_steps_go_on_while_a_checkpoint_is_written(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """One checkpoint is under way, the steps of one more segment are computed, and then they wait."""
    held, entered, steps = threading.Event(), threading.Event(), list[int]()
    real = SegmentWriter.add_segment

    def slow(self: SegmentWriter, first: int, *rest: object) -> Digest:
        entered.set()
        assert held.wait(60)
        return real(self, first, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(SegmentWriter, "add_segment", slow)
    thread = threading.Thread(
        target=samebits.run,
        args=(make_job(), store),
        kwargs={"checkpoint_every": 5, "progress": lambda done, total, metrics: steps.append(done)},
    )
    thread.start()
    assert entered.wait(60)
    deadline = time.monotonic() + 60
    while (not steps or steps[-1] < 10) and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.3)
    assert steps[-1] == 10
    assert read_log(store).size == 0
    held.set()
    thread.join(60)
    assert steps[-1] == STEPS
    assert len(read_log(store).runs()[0].segments) == 5


def test_background_writer_keeps_the_order_and_gives_errors_once() -> None:
    done: list[int] = []
    with BackgroundWriter() as writer:
        for i in range(20):
            writer.submit(lambda i=i: done.append(i))  # type: ignore[misc]
        writer.wait()
        writer.submit(lambda: 1 / 0)  # type: ignore[arg-type]
        with pytest.raises(ZeroDivisionError):
            writer.wait()
        writer.check()
    assert done == list(range(20))


def test_locked_ledger_is_waited_for_and_said(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("samebits.exec.running.ledger_wait._SAY_AFTER_S", 0.1)
    run = stopped(store, 12)
    said: list[str] = []
    locked = os.open(log_directory(store) / "lock", os.O_RDWR)
    fcntl.flock(locked, fcntl.LOCK_EX)
    threading.Timer(0.7, os.close, (locked,)).start()
    assert resume_run(run, store, notice=said.append).steps == STEPS
    assert said == [f"waiting for the ledger {log_directory(store)}, which process {os.getpid()} has locked"]


def test_chain_writer_enters_a_run_with_its_first_segment(store: Store) -> None:
    ChainWriter(store, make_job().address, STEPS, 1, 5).close()
    assert read_log(store).size == 0
