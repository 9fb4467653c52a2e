"""Fetching what a run needs from its place, by hash: the job's own node before anything large, then objects."""

from __future__ import annotations

from collections.abc import Iterable

from samebits.cas import CasError, Digest, Store
from samebits.cas.fetching import fetch_node
from samebits.cas.tally import Progress
from samebits.cas.transfer import TransferReport, pull
from samebits.exec.errors import JobError
from samebits.exec.job import JobSpec
from samebits.exec.machine import load_spec
from samebits.exec.places.run_places import RunPlace
from samebits.exec.verification.claim import check_job_steps
from samebits.ledger import RunBody


def pull_objects(
    place: RunPlace, store: Store, roots: Iterable[Digest], progress: Progress | None = None
) -> TransferReport:
    """Fetch objects, with all that they refer to, that the store lacks; nothing where they are in it already.

    What was interrupted goes on where it was. Raises ObjectNotFoundError, RemoteError.
    """
    if place.remote is None:
        return TransferReport(0, 0, 0, 0, 0)
    return pull(place.remote, store, roots, progress=progress)


def check_steps(place: RunPlace, store: Store, body: RunBody) -> JobSpec:
    """Return a run's job; raises RunError unless the run has its steps, by which every later count is bounded.

    Of the job only its own node is read, and nothing is stored.
    """
    spec = _read_spec(place, store, body.job)
    check_job_steps(body, spec)
    return spec


def _read_spec(place: RunPlace, store: Store, job: Digest) -> JobSpec:
    if place.remote is None or store.has(job):
        return load_spec(job, store)
    try:
        return JobSpec.from_node(fetch_node(place.remote, job))
    except CasError as error:
        raise JobError(f"job {job}: {error}") from error
