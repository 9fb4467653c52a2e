"""What a run claims: its entries, and the stored lists of commits that they sign."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from samebits.cas import Digest, Store
from samebits.exec.commits import Commit, commit_steps, read_commits
from samebits.exec.errors import RunError
from samebits.exec.job import JobSpec
from samebits.ledger import RunBody, RunChain, SegmentBody
from samebits.ledger.merkle import leaf_hash, root_hash


@dataclass(frozen=True, slots=True)
class Claim:
    """What the entries of a run and its stored commits say."""

    body: RunBody
    segments: tuple[SegmentBody, ...]  # at least one
    commits: Mapping[int, Digest]  # step -> address of its commit

    @property
    def first_step(self) -> int:
        """The step before which the run begins."""
        return self.segments[0].first_step

    @property
    def stop_step(self) -> int:
        """The first step that the run does not cover."""
        return self.segments[-1].stop_step

    @property
    def final_state(self) -> Digest:
        """The state after the last step."""
        return self.segments[-1].state_out


def check_job_steps(body: RunBody, spec: JobSpec, *, run: str = "the run") -> None:
    """Raise RunError unless a run has the steps of its job; `run` is what the message calls it."""
    if body.steps != spec.steps:
        raise RunError(f"{run} says that its job has {body.steps} steps, it has {spec.steps}")
    if body.first_step != spec.first_step:
        raise RunError(f"{run} says that its job begins at step {body.first_step}, it does at {spec.first_step}")


def claim_roots(chain: RunChain) -> list[Digest]:
    """Return the addresses of all objects that a run's entries name."""
    named = (root for segment in chain.segments for root in segment_roots(segment.body))
    return list(dict.fromkeys([chain.body.job, *named]))


def segment_roots(segment: SegmentBody) -> list[Digest]:
    """Return the addresses of the objects that a segment's entry names."""
    return [segment.state_in, segment.state_out, segment.commits, *segment.kernels]


def read_claim(store: Store, chain: RunChain) -> Claim:
    """Return what a run claims; raises RunError if a stored list of commits isn't the one that was signed."""
    body, segments = chain.body, tuple(segment.body for segment in chain.segments)
    claimed: dict[int, Digest] = {}
    for segment in segments:
        claimed |= dict(read_segment_commits(store, body, segment))
    return Claim(body, segments, claimed)


def read_segment_commits(store: Store, body: RunBody, segment: SegmentBody) -> list[tuple[int, Digest]]:
    """Return (step, address of the commit) for each commit of a segment, checked against what was signed."""
    where = f"segment {segment.first_step}:{segment.stop_step}"
    listed = read_commits(store.get_node(segment.commits))
    wanted = commit_steps(segment.first_step, segment.stop_step, body.commit_every)
    if len(listed) != len(wanted) or any(step != due for (step, _), due in zip(listed, wanted, strict=True)):
        raise RunError(f"{where} does not list the commits of its cadence")
    if root_hash([leaf_hash(commit.raw) for _, commit in listed]) != segment.commits_root:
        raise RunError(f"the commits of {where} do not have the signed root")
    last = Commit.from_node(store.get_node(listed[-1][1]))
    if last.state != segment.state_out:
        raise RunError(f"{where} ends in another state than its last commit")
    return listed
