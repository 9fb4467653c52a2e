"""The three bodies of entries: who runs what, what some steps gave, and what a verifier found.

Each is checked when it is made, from values or from what was read; EntryError names the field.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal, TypeAlias

from samebits.cas.digest import Digest
from samebits.cas.encoding import Value
from samebits.ledger.errors import EntryError
from samebits.ledger.fields import (
    check_names,
    read_bytes,
    read_digest,
    read_digests,
    read_integer,
    read_range,
    read_text,
)

EntryKind: TypeAlias = Literal["run", "segment", "verdict"]
NONCE_SIZE_BYTES = 16


@dataclass(frozen=True, slots=True)
class RunBody:
    """Who runs what: the author of the entry runs this job. The nonce tells two runs of one job by one key apart."""

    KIND: ClassVar[EntryKind] = "run"

    job: Digest
    nonce: bytes  # 16 bytes
    steps: int  # >= 1, all steps of the job
    commit_every: int  # steps, >= 1
    checkpoint_every: int  # steps, >= 1

    def __post_init__(self) -> None:
        body = self.to_body()
        read_digest(body, "job")
        read_bytes(body, "nonce", NONCE_SIZE_BYTES)
        for name in ("steps", "commit_every", "checkpoint_every"):
            read_integer(body, name, 1)

    def to_body(self) -> dict[str, Value]:
        """Return the fields as they stand in an entry, in their order."""
        return _to_body(self)

    @classmethod
    def from_body(cls, body: Value) -> RunBody:
        """Read the fields of a run entry; raises EntryError."""
        checked: Any = check_names("run body", body, _NAMES[cls])
        return cls(**checked)


@dataclass(frozen=True, slots=True)
class SegmentBody:
    """What the steps [first_step, stop_step) of a run gave."""

    KIND: ClassVar[EntryKind] = "segment"

    run: Digest
    first_step: int  # >= 0
    stop_step: int  # > first_step
    state_in: Digest
    state_out: Digest
    commits: Digest  # the stored list of the segment's commits
    commits_root: bytes  # 32 bytes: RFC 6962 root hash over the raw commit digests, each one an entry
    device: str  # 1 to 255 printable characters
    kernels: tuple[Digest, ...]  # sources that ran

    def __post_init__(self) -> None:
        body = self.to_body()
        for name in ("run", "state_in", "state_out", "commits"):
            read_digest(body, name)
        read_range(body)
        read_bytes(body, "commits_root", 32)
        read_text(body, "device")
        read_digests(body, "kernels")

    def to_body(self) -> dict[str, Value]:
        """Return the fields as they stand in an entry, in their order."""
        return _to_body(self)

    @classmethod
    def from_body(cls, body: Value) -> SegmentBody:
        """Read the fields of a segment entry; raises EntryError."""
        checked: Any = check_names("segment body", body, _NAMES[cls])
        return cls(**{**checked, "kernels": read_digests(checked, "kernels")})


@dataclass(frozen=True, slots=True)
class VerdictBody:
    """What a verifier, who may be anyone, found for the steps [first_step, stop_step) of a run."""

    KIND: ClassVar[EntryKind] = "verdict"

    run: Digest
    first_step: int  # >= 0
    stop_step: int  # > first_step
    result: Literal["same", "different"]
    first_different_step: int | None  # in the range if the result is "different", else None
    device: str  # 1 to 255 printable characters

    def __post_init__(self) -> None:
        body = self.to_body()
        read_digest(body, "run")
        read_range(body)
        _read_result(body)
        read_text(body, "device")

    def to_body(self) -> dict[str, Value]:
        """Return the fields as they stand in an entry, in their order."""
        return _to_body(self)

    @classmethod
    def from_body(cls, body: Value) -> VerdictBody:
        """Read the fields of a verdict entry; raises EntryError."""
        checked: Any = check_names("verdict body", body, _NAMES[cls])
        return cls(**checked)


Body: TypeAlias = RunBody | SegmentBody | VerdictBody
_KINDS: dict[str, type[Body]] = {
    "run": RunBody,
    "segment": SegmentBody,
    "verdict": VerdictBody,
}
_SORTED_NAMES: dict[str, list[str]] = {name: sorted(kind.__slots__) for name, kind in _KINDS.items()}
_NAMES: dict[type[Body], frozenset[str]] = {kind: frozenset(kind.__slots__) for kind in _KINDS.values()}


def read_body(kind: str, body: Value) -> Body:
    """Return the typed body of an entry of this kind; raises EntryError."""
    if kind not in _KINDS:
        raise EntryError("kind", f"want one of {', '.join(_KINDS)}")
    return _KINDS[kind].from_body(body)


def _to_body(body: Body) -> dict[str, Value]:
    values: dict[str, Value] = {name: getattr(body, name) for name in _SORTED_NAMES[body.KIND]}
    return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}


def _read_result(body: dict[str, Value]) -> tuple[Literal["same", "different"], int | None]:
    result = body["result"]
    if result not in ("same", "different"):
        raise EntryError("result", "want same or different")
    if result == "same":
        if body["first_different_step"] is not None:
            raise EntryError("first_different_step", "a verdict of same has none")
        return "same", None
    first, stop = read_range(body)
    return "different", read_integer(body, "first_different_step", first, stop - 1)
