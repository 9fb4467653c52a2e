"""The metrics of a run over its steps, as its stored commits claim them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from samebits.cas import CasError, Store
from samebits.exec.commits import Commit, commit_steps
from samebits.exec.errors import RunError
from samebits.exec.verification.claim import read_segment_commits
from samebits.ledger import RunBody, SegmentBody

MAX_POINTS = 2000  # of a curve, about


def read_curves(
    store: Store, run: RunBody, segments: Sequence[SegmentBody]
) -> Mapping[str, tuple[tuple[int, float], ...]]:
    """Return (step, value) of each metric, from the commits that the store has; every n-th of them if there are many.

    What is missing or malformed is left out: a verification says so.
    """
    counts = [len(commit_steps(one.first_step, one.stop_step, run.commit_every)) for one in segments]
    every = sum(counts) // MAX_POINTS + 1
    curves: dict[str, list[tuple[int, float]]] = {}
    before = 0
    for segment, count in zip(segments, counts, strict=True):
        wanted = range(-before % every, count, every)
        before += count
        try:
            listed = read_segment_commits(store, run, segment) if wanted and store.has(segment.commits) else []
            for place in wanted if listed else ():
                commit = Commit.from_node(store.get_node(listed[place][1]))
                for name, value in commit.values().items():
                    curves.setdefault(name, []).append((listed[place][0], value))
        except (CasError, RunError):
            continue
    return {name: tuple(points) for name, points in sorted(curves.items())}
