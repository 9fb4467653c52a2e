"""Errors of the ledger."""

from __future__ import annotations

from typing import TYPE_CHECKING

from samebits.cas.errors import PicklableError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from samebits.cas.digest import Digest


class LedgerError(PicklableError):
    """Root of every error that `samebits.ledger` raises for bad data, a bad key file or a bad log."""


class ProofError(LedgerError):
    """An inclusion or consistency proof does not lead to the root hash it should."""


class NoteFormatError(LedgerError):
    """A note, checkpoint, verifier key or private key text that is not in its one accepted form."""

    def __init__(self, what: str, problem: str) -> None:
        self.what = what
        self.problem = problem
        super().__init__(f"malformed {what}: {problem}")


class SignatureError(LedgerError):
    """A signature does not verify, or a note carries none by a known key."""


class EnvelopeError(LedgerError):
    """A DSSE envelope, or the in-toto statement in it, that is not well-formed."""

    def __init__(self, what: str, problem: str) -> None:
        self.what = what
        self.problem = problem
        super().__init__(f"malformed {what}: {problem}")


class PolicyFormatError(LedgerError):
    """A line of a policy is not what a policy may have there."""

    def __init__(self, line: int | None, problem: str) -> None:
        self.line = line  # counted from 1; None: the policy as a whole
        self.problem = problem
        super().__init__(f"policy{'' if line is None else f', line {line}'}: {problem}")


class QuorumError(LedgerError):
    """A checkpoint lacks cosignatures that a policy requires."""


class WitnessError(LedgerError):
    """A witness gave no cosignature, or none that can be used."""

    def __init__(self, witness: str, problem: str) -> None:
        self.witness = witness
        self.problem = problem
        super().__init__(f"witness {witness}: {problem}")


class WitnessRefusalError(LedgerError):
    """What a witness answers to a request that it does not cosign."""

    def __init__(self, status: int, problem: str, *, known_size: int | None = None) -> None:
        self.status = status  # of HTTP: 400, 403, 404, 409 or 422
        self.known_size = known_size  # 409 only: the size of the latest tree it cosigned
        super().__init__(problem)


class StaleCheckpointError(LedgerError):
    """The log has another checkpoint by now than the one that was cosigned."""


class KeyFileError(LedgerError):
    """A private key file is missing, malformed, readable by others or cannot be written."""

    def __init__(self, path: Path, problem: str) -> None:
        self.path = path
        self.problem = problem
        super().__init__(f"key file {path}: {problem}")


class TrustFileError(LedgerError):
    """The trust file is malformed, writable by others or cannot be written."""

    def __init__(self, path: Path, problem: str, line: int | None = None) -> None:
        self.path = path
        self.problem = problem
        self.line = line  # from 1; None: it is not about one line
        super().__init__(f"trust file {path}{'' if line is None else f', line {line}'}: {problem}")


class EntryError(LedgerError):
    """An entry, or a field of its body, is not what its kind wants."""

    def __init__(self, field: str, problem: str) -> None:
        self.field = field
        self.problem = problem
        super().__init__(f"{field}: {problem}")


class ChainError(LedgerError):
    """An entry breaks a rule of the run it belongs to, or of the log it is in."""

    def __init__(self, index: int, address: Digest | None, problem: str) -> None:
        self.index = index
        self.address = address
        self.problem = problem
        shown = f" ({str(address)[:16]})" if address is not None else ""
        super().__init__(f"entry {index}{shown}: {problem}")


class RunNotFoundError(LedgerError):
    """The entries hold no run of this address."""

    def __init__(self, run: Digest, where: str = "this log") -> None:
        self.run = run
        super().__init__(f"run {run} is not in {where}")


class AmbiguousPrefixError(LedgerError):
    """The beginning of an address that several have."""

    def __init__(self, prefix: str, matches: Sequence[str]) -> None:
        self.prefix = prefix
        self.matches = tuple(matches)
        super().__init__(f"{prefix} is the beginning of more than one address: {', '.join(matches)}")


class ArtifactNotFoundError(LedgerError):
    """No entry has this address, and none names it."""

    def __init__(self, address: Digest) -> None:
        self.address = address
        super().__init__(f"{address} is neither an entry of this log nor anything that one names")


class EntryNotFoundError(LedgerError):
    """The log holds no such entry."""

    def __init__(self, wanted: Digest | int, tree_size: int) -> None:
        self.wanted = wanted
        self.tree_size = tree_size
        super().__init__(f"entry {wanted} is not in this log of {tree_size} entries")


class StorageError(LedgerError):
    """The files of a log are missing, damaged, full or in use by something else."""

    def __init__(self, path: Path, problem: str) -> None:
        self.path = path
        self.problem = problem
        super().__init__(f"log {path}: {problem}")


class IndexFileError(LedgerError):
    """The index file of a log cannot be read or written; nothing is lost, it is made from the log."""

    def __init__(self, directory: Path, problem: str) -> None:
        self.directory = directory
        self.problem = problem
        super().__init__(f"index {directory}: {problem}")


class MissingEntryError(StorageError):
    """The storage says how many entries it has, and does not have this one, or can't read it."""

    def __init__(self, path: Path, index: int, reason: str = "") -> None:
        self.index = index
        self.reason = reason
        super().__init__(path, f"entry {index} is missing" + (f" ({reason})" if reason else ""))


class TileError(LedgerError):
    """A tile or a bundle of entries of a log is missing, malformed, or not what the checkpoint vouches for."""

    def __init__(self, path: str, problem: str) -> None:
        self.path = path  # below the log's directory or URL
        self.problem = problem
        super().__init__(f"{path}: {problem}")


class AuditError(LedgerError):
    """An audit found problems; the message is the first of them."""

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        super().__init__(f"{problems[0]}{more}")
