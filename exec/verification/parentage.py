"""Whether a run begins with the state that the run it names as its parent came to.

A run goes on from a state as it is: what a fork changes (steps, data, rates, seed, or the whole job) is not in it. So
its first state is compared whole with what the parent's signed entries say of that step. That the parent came to it by
its own job is not looked at: verifying the parent does.
"""

from __future__ import annotations

from typing import Final

from samebits.cas import CasError, Digest, Store
from samebits.exec.commits import Commit, commit_steps
from samebits.exec.errors import ExecError, one_line
from samebits.exec.places.run_objects import pull_objects
from samebits.exec.places.run_places import RunPlace, StorePlace
from samebits.exec.verification.claim import read_segment_commits
from samebits.exec.verification.verdict import FAILED, SKIPPED, VERIFIED, Part
from samebits.exec.verification.wanted_objects import WantedObjects
from samebits.ledger import LedgerError, RunChain, RunNotFoundError
from samebits.ledger.run_proof import check_run_proof

_CANNOT_BE_HAD: Final = (CasError, ExecError, LedgerError)


def parentage_part(place: RunPlace, store: Store, chain: RunChain, wanted: WantedObjects) -> Part | None:
    """Compare a run's first state with its parent's, whose entries are in the verifier's store or at the same place.

    Returns None for a run that names no parent. What can't be had is skipped: it says nothing of the run.
    """
    body = chain.body
    if body.parent is None:
        return None
    untold = absent = ""
    for told_by in (StorePlace(store, is_own=True), place):  # what is here first: the place may hide a part of it
        try:
            parent = check_run_proof(told_by.prove(body.parent), body.parent).chain
            if not parent.body.first_step <= body.first_step <= parent.body.steps:
                has = f"{parent.body.first_step} .. {parent.body.steps}"
                return _failed(f"run {body.parent} can have no state at step {body.first_step}: its steps are {has}")
            state = _state_before(place, store, parent, body.first_step, wanted)
        except _CANNOT_BE_HAD as error:
            reason = "its entries are not at hand" if isinstance(error, RunNotFoundError) else one_line(error)
            hint = f"`samebits pull PLACE/{body.parent}` takes it home"
            absent = f"run {body.parent} can't be looked at here: {reason}; {hint}"
            continue
        if state is not None:
            return _compared(state, chain, body.parent)
        untold = f"no commit that is here of run {body.parent} tells its state at step {body.first_step}"
    return Part(SKIPPED, untold or absent)


def _compared(state: Digest, chain: RunChain, parent: Digest) -> Part:
    step, first = chain.body.first_step, chain.segments[0].body.state_in
    if state != first:
        return _failed(f"the state at step {step} of run {parent} is {state}, this run begins with {first}")
    return Part(VERIFIED, f"it is the state at step {step} of run {parent}, as that run's entries say")


def _failed(reason: str) -> Part:
    return Part(FAILED, reason, (reason,))


def _state_before(place: RunPlace, store: Store, parent: RunChain, step: int, wanted: WantedObjects) -> Digest | None:
    """Return the state before a step: by the entries alone where a segment begins or ends there, else by a commit."""
    for segment in (link.body for link in parent.segments):
        if step == segment.first_step:
            return segment.state_in
        if step == segment.stop_step:
            return segment.state_out
        if step - 1 in commit_steps(segment.first_step, segment.stop_step, parent.body.commit_every):
            wanted.bytes_fetched += pull_objects(place, store, [segment.commits]).size_bytes
            commits = dict(read_segment_commits(store, parent.body, segment))
            return Commit.from_node(store.get_node(commits[step - 1])).state
    return None
