"""A run that names a parent begins with a state of that run: compared where the parent's entries can be had."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from tests.exec.small_job import make_job
from tests.exec.test_resume import read_log
from tests.serving import serving_app

import samebits
from samebits.cas import Digest, Store
from samebits.exec.places.archive_place import ArchivePlace, pack_run
from samebits.exec.places.place_opening import open_run_place
from samebits.exec.places.run_places import StorePlace
from samebits.exec.places.run_reference import RunReference
from samebits.exec.places.run_server import make_place_app
from samebits.exec.places.take_home import take_home
from samebits.exec.running.fork import Changes, fork_run
from samebits.exec.verification.verdict import Part, Verdict
from samebits.ledger.run_proof import RunProof

Verify = Callable[[Digest], Verdict]


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "home") as opened:
        yield opened


@pytest.fixture(params=["own", "served"])
def verify(request: pytest.FixtureRequest, store: Store, home: Store) -> Iterator[Verify]:
    """Verify runs of the store: there, or over HTTP from another one that has nothing yet."""
    if request.param == "own":
        yield lambda run: samebits.verify(run, store)
        return
    with serving_app(make_place_app(store)) as url, open_run_place(url, home) as place:
        yield lambda run: samebits.verify(run, home, source=place)


def fork(
    place: Store, run: Digest, step: int, *, steps: int = 40, to: Store | None = None, claimed: Digest | None = None
) -> Digest:
    """Go on with a run and return the new one, which claims to go on from that one, or from another."""
    into = place if to is None else to
    made = fork_run(
        RunReference(run, step=step), StorePlace(place, is_own=to is None), into, changes=Changes(steps=steps)
    )
    return samebits.run(made.job, into, checkpoint_every=10, parent=claimed or made.parent).address


def state_at(store: Store, run: Digest, step: int) -> Digest:
    """Return the state that ends a segment of a run there."""
    return next(one.body.state_out for one in read_log(store).chain(run).segments if one.body.stop_step == step)


def part_of(verdict: Verdict) -> Part:
    assert verdict.parentage is not None
    return verdict.parentage


@pytest.mark.parametrize("step", [0, 17, 20, 25])
def test_fork_begins_with_the_parents_state(store: Store, verify: Verify, step: int) -> None:
    """Step 17 is told by a commit, which is fetched; the others by what the parent's entries sign."""
    parent = samebits.run(make_job(), store, checkpoint_every=10).address
    verdict = verify(fork(store, parent, step))
    assert verdict.verdict == "same"
    assert part_of(verdict) == Part(
        "verified", f"it is the state at step {step} of run {parent}, as that run's entries say"
    )


@pytest.mark.parametrize("step", [17, 20])
def test_false_parent_fails_with_both_states(store: Store, verify: Verify, step: int) -> None:
    """All else of such a run is as it should be."""
    parent = samebits.run(make_job(), store, checkpoint_every=10).address
    other = samebits.run(make_job(rate=0.3), store, checkpoint_every=10).address
    verdict = verify(fork(store, parent, step, claimed=other))
    assert (verdict.verdict, verdict.entry, verdict.computation.status) == ("failed", None, "verified")
    part = part_of(verdict)
    assert (part.status, verdict.problem) == ("failed", f"parentage: {part.detail}")
    assert verdict.chain is not None
    assert f"this run begins with {verdict.chain.segments[0].body.state_in}" in part.detail
    if step == 20:
        assert f"step 20 of run {other} is {state_at(store, other, 20)}," in part.detail


def test_parent_that_never_comes_to_the_step_is_a_false_one(store: Store, verify: Verify) -> None:
    parent = samebits.run(make_job(), store, checkpoint_every=10).address
    shorter = samebits.run(make_job(steps=15), store, checkpoint_every=10).address
    verdict = verify(fork(store, parent, 20, claimed=shorter))
    assert verdict.problem == f"parentage: run {shorter} can have no state at step 20: its steps are 0 .. 15"


def test_step_that_the_parent_has_not_committed_is_skipped(store: Store, verify: Verify) -> None:
    parent = samebits.run(make_job(), store, checkpoint_every=10, commit_every=4).address
    verdict = verify(fork(store, parent, 13))
    assert (verdict.verdict, part_of(verdict).status) == ("same", "skipped")
    assert "no commit that is here of run" in part_of(verdict).detail
    assert part_of(verify(fork(store, parent, 16))).status == "verified"


def test_parent_that_is_not_here_is_skipped_until_it_is_taken_home(store: Store, home: Store, tmp_path: Path) -> None:
    parent = samebits.run(make_job(), store, checkpoint_every=10).address
    other = samebits.run(make_job(rate=0.3), store, checkpoint_every=10).address
    longer, false = (fork(store, parent, 17, to=home, claimed=claimed) for claimed in (None, other))
    verdict = samebits.verify(longer, home)
    assert (verdict.verdict, part_of(verdict).status) == ("same", "skipped")
    assert verdict.entry is not None
    said = "its entries are not at hand; `samebits pull PLACE/"
    assert part_of(verdict).detail == f"run {parent} can't be looked at here: {said}{parent}` takes it home"
    pack_run(longer, home, tmp_path / "longer.car")
    with Store(tmp_path / "third") as third:
        archive = ArchivePlace(tmp_path / "longer.car", third)
        assert part_of(samebits.verify(longer, third, source=archive)).status == "skipped"
        take_home(StorePlace(store), parent, third)
        assert part_of(samebits.verify(longer, third, source=archive)).status == "verified"
    for run in (parent, other):
        take_home(StorePlace(store), run, home)
    assert part_of(samebits.verify(longer, home)).status == "verified"
    assert samebits.verify(false, home).verdict == "failed"


class HidingPlace(StorePlace):
    """Shows of each run no more than its first entry, unless it is the one that is verified."""

    shown: Digest

    def prove(self, run: Digest) -> RunProof:
        proof = super().prove(run)
        return proof if run == self.shown else replace(proof, entries=proof.entries[:1])


@pytest.mark.parametrize("step", [17, 20])
def test_place_that_hides_what_the_parent_did_does_not_hide_it_from_who_has_it(
    store: Store, home: Store, step: int
) -> None:
    """The place alone was asked if it had anything of the parent: a false one passed as skipped."""
    parent, other = (samebits.run(make_job(rate=rate), store, checkpoint_every=10).address for rate in (0.1, 0.3))
    place = HidingPlace(store)
    place.shown = fork(store, parent, step, claimed=other)
    assert part_of(samebits.verify(place.shown, home, source=place, sign=False)).status == "skipped"
    take_home(StorePlace(store), other, home)
    verdict = samebits.verify(place.shown, home, source=place)
    assert (verdict.verdict, part_of(verdict).status) == ("failed", "failed")


def test_run_without_a_parent_has_no_such_part(store: Store) -> None:
    verdict = samebits.verify(samebits.run(make_job(), store).address, store)
    assert (verdict.parentage, list(verdict.parts)) == (None, ["log", "artifacts", "computation"])
