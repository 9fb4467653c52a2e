"""Runs in archives: a run's record with all that it needs as one CAR file, for machines without a network."""

from __future__ import annotations

from pathlib import Path

from samebits.cas import Digest, Store
from samebits.cas.car import Archived, read_car, write_car
from samebits.cas.remotes.protocol import Remote
from samebits.cas.tally import Progress
from samebits.exec.errors import RunError
from samebits.exec.places.run_places import FoundRun, StorePlace, found_by_proof
from samebits.exec.places.run_record import put_run_record, read_record_proof, recorded_run
from samebits.ledger import LedgerError, VerifierKey
from samebits.ledger.run_proof import RunProof, check_log_key, check_run_proof


class ArchivePlace:
    """An archive of one run. Its objects are put into the store, not pinned, when the run is first asked for."""

    def __init__(
        self, path: Path, store: Store, log_key: VerifierKey | None = None, progress: Progress | None = None
    ) -> None:
        self.name = str(path)
        self.remote: Remote | None = None  # what is in the archive is in the store then
        self._path = path
        self._store = store
        self._log_key = log_key
        self._progress = progress
        self._archived: Archived | None = None

    @property
    def archived(self) -> Archived:
        """What the archive holds; reads it first. Raises FileError, FileFormatError."""
        if self._archived is None:
            self._archived = read_car(self._path, self._store, progress=self._progress)
        return self._archived

    def run(self) -> Digest:
        """Return the run that is in the archive; raises RunError for an archive of something else."""
        root = self.archived.root
        if self._store.stat(root).kind != "node":
            raise RunError(f"{self.name} holds a blob and no run; `samebits cas unpack` unpacks it")
        try:
            return recorded_run(self._store.get_node(root))
        except RunError as error:
            raise RunError(f"{self.name}: its root {error}; `samebits cas unpack` unpacks it") from error

    def find(self, run: Digest) -> FoundRun:
        """Return the run's chain, its proof checked; raises RunError and CasError that name the archive."""
        proof = self.prove(run)
        try:
            return found_by_proof(proof, run, self._log_key)
        except LedgerError as error:
            raise RunError(f"{self.name}: {error}") from error

    def prove(self, run: Digest) -> RunProof:
        """Return the proof of the run, of which only the log's key is checked; raises RunError and CasError."""
        held = self.run()
        if held != run:
            raise RunError(f"{self.name} holds run {held}, not {run}")
        try:
            proof = read_record_proof(self._store, self.archived.root, run)
            check_log_key(proof.log_key, self._log_key)
        except (LedgerError, RunError) as error:
            raise RunError(f"{self.name}: {error}") from error
        return proof


def pack_run(run: Digest, store: Store, path: Path, *, progress: Progress | None = None) -> Archived:
    """Write a run of a store, of its ledger or taken home, with all that it needs into a file.

    Raises LedgerError, RunError, ObjectNotFoundError, DamagedObjectError or FileError; there is no file then.
    """
    proof = StorePlace(store, is_own=True).prove(run)
    record = put_run_record(store, proof, check_run_proof(proof, run).chain)
    return write_car(store, record, path, progress=progress)
