"""Runs in a remote: served by `samebits serve`, pinned there as records, or in the tiles of a log beside it.

A server makes the proof of a run when it is asked for it (`GET /runs/RUN`). Any other remote may have the run's record
under the pin ``runs/RUN``. Where neither is and a log is published beside the objects, by any web server, the run is
searched for in the log's entries, within the bounds of `searched_log.py`.
"""

from __future__ import annotations

from contextlib import closing
from typing import Final

from samebits.cas import Digest, RemoteError
from samebits.cas.fetching import fetch_blob, fetch_node
from samebits.cas.remotes.http import ServerRemote
from samebits.cas.remotes.http_client import HttpClient
from samebits.cas.remotes.protocol import Remote
from samebits.exec.errors import RunError
from samebits.exec.places.run_places import FoundRun, found_by_proof
from samebits.exec.places.run_record import record_proof, run_pin
from samebits.exec.places.searched_log import SearchedLog
from samebits.ledger import LedgerError, VerifierKey
from samebits.ledger.published_log import open_published_log
from samebits.ledger.run_proof import (
    MAX_RUN_PROOF_SIZE_BYTES,
    RunProof,
    check_log_key,
    decode_run_proof,
    find_run,
    prove_chain,
)

RUNS_PATH: Final = "runs"
MAX_SEARCHED_ENTRIES: Final = 1_000_000
_REFUSAL_SIZE_BYTES: Final = 4096


class RemotePlace:
    """A remote that has runs. What it says of the log's key is taken at its word unless the caller names the key."""

    def __init__(self, remote: Remote, url: str | None, log_key: VerifierKey | None, timeout_s: float = 30.0) -> None:
        """`url`: where the remote is, if that is over HTTP."""
        self.name = remote.name
        self.remote: Remote | None = remote
        self._from = remote
        self._url = url
        self._log_key = log_key
        self._timeout_s = timeout_s

    def find(self, run: Digest) -> FoundRun:
        """Return the run's chain, its proof checked; raises RunError and RemoteError that name the place."""
        proof = self.prove(run)
        try:
            return found_by_proof(proof, run, self._log_key)
        except LedgerError as error:
            raise RunError(f"{self.name}: {error}") from error

    def prove(self, run: Digest) -> RunProof:
        """Return the proof of a run, of which only the log's key is checked; raises RunError, RemoteError."""
        try:
            found = self._asked(run) or recorded_proof(self._from, run) or self._searched(run)
            if found is not None:
                check_log_key(found.log_key, self._log_key)
        except LedgerError as error:
            raise RunError(f"{self.name}: {error}") from error
        if found is None:
            raise RunError(f"{self.name} has no run {run}")
        return found

    def _asked(self, run: Digest) -> RunProof | None:
        """Ask a server for the proof; None where there is none, or no server of ours."""
        if self._url is None:
            return None
        with closing(HttpClient(self._url, timeout_s=self._timeout_s)) as client:
            most = max(MAX_RUN_PROOF_SIZE_BYTES, _REFUSAL_SIZE_BYTES)
            answer = client.request("GET", f"{RUNS_PATH}/{run}", most)
        if answer.status in (404, 410):
            return None
        if answer.status != 200:
            said = " ".join(answer.data[:200].decode(errors="replace").split())
            raise RemoteError(self.name, f"answers with status {answer.status} when asked for the run: {said}")
        return decode_run_proof(answer.data)

    def _searched(self, run: Digest) -> RunProof | None:
        """Search the log that is published at the URL; a server of ours would have said already."""
        if self._url is None or isinstance(self._from, ServerRemote):
            return None
        with closing(SearchedLog(self._url, self._timeout_s)) as source:
            log = open_published_log(source)
            if log is None:
                return None
            check_log_key(log.log_key, self._log_key)
            chain = find_run(log.tiles, run, MAX_SEARCHED_ENTRIES)
            return prove_chain(chain, log.note.decode(), log.log_key, log.tiles)


def recorded_proof(remote: Remote, run: Digest) -> RunProof | None:
    """Return the proof in the record that a remote has pinned for a run, not checked; None if there is none.

    Raises RemoteError, RunError and NoteFormatError for a record that is not one of this run.
    """
    record = remote.pins().get(run_pin(run))
    if record is None:
        return None
    try:
        proof = record_proof(fetch_node(remote, record), run)
    except RunError as error:
        raise RunError(f"{remote.name}: its pin {run_pin(run)} {error}") from error
    return decode_run_proof(fetch_blob(remote, proof, MAX_RUN_PROOF_SIZE_BYTES))
