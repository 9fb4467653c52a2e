"""Logs and witnesses that the tests share."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from samebits.ledger.checkpoint import Checkpoint, sign_checkpoint
from samebits.ledger.cosignature import WitnessSigningKey
from samebits.ledger.keys import SigningKey
from samebits.ledger.merkle import consistency_proof, leaf_hash, root_hash
from samebits.ledger.policy import PolicyWitness
from samebits.ledger.witness import Witness
from samebits.ledger.witness_protocol import AddCheckpoint, format_request
from samebits.ledger.witness_state import WitnessState

LOG = SigningKey("log.example/one", bytes(32))
OTHER_LOG = SigningKey("log.example/two", bytes([1]) * 32)


@dataclass(frozen=True)
class Tree:
    """A log as an operator may lie about it: entry i is `prefix` and i."""

    size: int
    prefix: bytes = b"entry"
    forks_at: int | None = None  # entries from here on are others
    key: SigningKey = LOG

    def hashes(self) -> list[bytes]:
        """Return the leaf hashes."""
        fork = self.size if self.forks_at is None else self.forks_at
        return [leaf_hash((self.prefix if i < fork else b"other") + b" %d" % i) for i in range(self.size)]

    def checkpoint(self) -> Checkpoint:
        """Return the checkpoint."""
        return Checkpoint(self.key.name, self.size, root_hash(self.hashes()))

    def note(self) -> str:
        """Return the signed checkpoint."""
        return sign_checkpoint(self.checkpoint(), self.key)

    def proof(self, old_size: int) -> tuple[bytes, ...]:
        """Return the consistency proof from an old size."""
        return consistency_proof(self.hashes(), old_size)

    def request(self, old_size: int) -> bytes:
        """Return the body of an add-checkpoint request."""
        return format_request(AddCheckpoint(old_size, self.proof(old_size), self.note().encode()))


def make_witness(directory: Path, *logs: SigningKey, name: str = "witness.example/w1") -> Witness:
    """Return a witness with state in a directory; its key follows from its name."""
    directory.mkdir(exist_ok=True)
    return Witness(WitnessState(directory), witness_key(name), [key.verifier for key in logs or (LOG,)])


def witness_key(name: str = "witness.example/w1") -> WitnessSigningKey:
    """Return the key of a witness of this name."""
    return WitnessSigningKey(name, name.encode().ljust(32, b".")[:32])


def policy_witness(name: str, url: str | None) -> PolicyWitness:
    """Return a policy's line for a witness whose key is that of `witness_key`."""
    return PolicyWitness(name, witness_key(name).verifier, url)


@contextmanager
def serving_witness(witness: Witness) -> Iterator[str]:
    """Serve a witness on a free port of loopback; yields the URL."""
    from tests.serving import serving_app  # here, since the workers that are killed start faster without

    from samebits.ledger.witness_server import make_witness_app

    with serving_app(make_witness_app(witness)) as url:
        yield url
