"""The bodies of entries: who runs what, what some steps gave, what a verifier will draw and what one found, and what
a runner says of the inside of some steps.

Each is checked when it is made, from values or from what was read; EntryError names the field.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Self, TypeAlias

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

EntryKind: TypeAlias = Literal["run", "segment", "verdict", "draw", "trace"]
TraceLevel: TypeAlias = Literal["init", "steps", "nodes"]
NONCE_SIZE_BYTES = 16
SAMPLE_NONCE_SIZE_BYTES = 32
MAX_BEACON_SIZE_BYTES = 64


class BodyFields:
    """What all bodies can do: become the fields that stand in an entry, and be read from them."""

    __slots__ = ()
    KIND: ClassVar[EntryKind]

    def to_body(self) -> dict[str, Value]:
        """Return the fields as they stand in an entry, in their order."""
        return _to_body(self)

    @classmethod
    def from_body(cls, body: Value) -> Self:
        """Read the fields of an entry of this kind; raises EntryError."""
        return cls(**cls._read(_check_names(cls, body)))

    @classmethod
    def _read(cls, fields: dict[str, Any]) -> dict[str, Any]:
        """Return the fields as the constructor takes them."""
        return fields


@dataclass(frozen=True, slots=True)
class RunBody(BodyFields):
    """Who runs what: the author of the entry runs this job. The nonce tells two runs of one job by one key apart."""

    KIND: ClassVar[EntryKind] = "run"

    job: Digest
    nonce: bytes  # 16 bytes
    steps: int  # >= 1, all steps of the job
    commit_every: int  # steps, >= 1
    checkpoint_every: int  # steps, >= 1
    first_step: int = 0  # the step that the job begins with, < steps; not written if 0
    parent: Digest | None = None  # the run whose state at first_step this one goes on from; not written if None

    def __post_init__(self) -> None:
        body = self.to_body()
        read_digest(body, "job")
        read_bytes(body, "nonce", NONCE_SIZE_BYTES)
        for name in ("steps", "commit_every", "checkpoint_every"):
            read_integer(body, name, 1)
        if "first_step" in body:
            read_integer(body, "first_step", 1, self.steps - 1)
        if "parent" in body:
            read_digest(body, "parent")


@dataclass(frozen=True, slots=True)
class SegmentBody(BodyFields):
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

    @classmethod
    def _read(cls, fields: dict[str, Any]) -> dict[str, Any]:
        return {**fields, "kernels": read_digests(fields, "kernels")}


@dataclass(frozen=True, slots=True)
class Sample:
    """Which segments of a run were drawn, and from what. How is said in samebits.exec.verification.sampling."""

    draw: Digest | None  # the entry that announced it; None: drawn by a beacon alone
    nonce: bytes  # 32 bytes, or none without such an entry
    beacon: bytes  # up to 64 bytes, public randomness; may be empty
    checkpoint: Digest  # blob: the signed checkpoint of the run's log
    segments: tuple[int, ...]  # the drawn ones, by their place in the chain from 0, ascending

    def __post_init__(self) -> None:
        body = self.to_body()
        if self.draw is not None:
            read_digest(body, "draw")
        read_bytes(body, "nonce", 0 if self.draw is None else SAMPLE_NONCE_SIZE_BYTES)
        if not isinstance(self.beacon, bytes) or len(self.beacon) > MAX_BEACON_SIZE_BYTES:
            raise EntryError("beacon", f"want up to {MAX_BEACON_SIZE_BYTES} bytes")
        if self.draw is None and not self.beacon:
            raise EntryError("beacon", "want a beacon where no draw was announced")
        read_digest(body, "checkpoint")
        steps = self.segments
        if not steps or any(type(one) is not int or one < 0 for one in steps) or list(steps) != sorted(set(steps)):
            raise EntryError("segments", "want ascending numbers from 0")

    def to_body(self) -> dict[str, Value]:
        """Return the fields as they stand in a verdict, in their order."""
        return {
            "beacon": self.beacon,
            "checkpoint": self.checkpoint,
            "draw": self.draw,
            "nonce": self.nonce,
            "segments": list(self.segments),
        }

    @classmethod
    def from_body(cls, body: Value) -> Sample:
        """Read the fields; raises EntryError."""
        checked: Any = check_names("sample", body, frozenset(cls.__slots__))
        if not isinstance(checked["segments"], list):
            raise EntryError("segments", "want a list")
        return cls(**{**checked, "segments": tuple(checked["segments"])})


@dataclass(frozen=True, slots=True)
class VerdictBody(BodyFields):
    """What a verifier, who may be anyone, found for the steps [first_step, stop_step) of a run."""

    KIND: ClassVar[EntryKind] = "verdict"

    run: Digest
    first_step: int  # >= 0
    stop_step: int  # > first_step
    result: Literal["same", "different"]
    first_different_step: int | None  # in the range if the result is "different", else None
    device: str  # 1 to 255 printable characters
    sample: Sample | None = None  # only these segments of the range were computed again; not written if None: all

    def __post_init__(self) -> None:
        body = self.to_body()
        read_digest(body, "run")
        read_range(body)
        _read_result(body)
        read_text(body, "device")

    @classmethod
    def _read(cls, fields: dict[str, Any]) -> dict[str, Any]:
        return {**fields, "sample": Sample.from_body(fields["sample"])} if "sample" in fields else fields


@dataclass(frozen=True, slots=True)
class DrawBody(BodyFields):
    """A verifier's word, before the draw, that so many segments of a run will be drawn by a nonce of this hash."""

    KIND: ClassVar[EntryKind] = "draw"

    run: Digest
    nonce_hash: bytes  # 32 bytes, see samebits.exec.verification.sampling
    segments: int  # >= 1, of the run, up to the one that the entry names
    sample: int  # 1 .. segments, how many of them will be drawn

    def __post_init__(self) -> None:
        body = self.to_body()
        read_digest(body, "run")
        read_bytes(body, "nonce_hash", 32)
        read_integer(body, "sample", 1, read_integer(body, "segments", 1))


@dataclass(frozen=True, slots=True)
class TraceBody(BodyFields):
    """A runner's word on the inside of the steps [first_step, stop_step) of a run, before anybody asks about it."""

    KIND: ClassVar[EntryKind] = "trace"

    run: Digest
    first_step: int  # >= 0
    stop_step: int  # > first_step
    level: TraceLevel  # "steps": a commit for each; "nodes": every result of one step; "init": of the init graph
    leaves: int  # >= 1
    root: bytes  # 32 bytes: RFC 6962 root hash over the leaves, which samebits.exec.trace defines

    def __post_init__(self) -> None:
        body = self.to_body()
        read_digest(body, "run")
        read_range(body)
        if self.level not in ("init", "steps", "nodes"):
            raise EntryError("level", "want init, steps or nodes")
        read_integer(body, "leaves", 1)
        read_bytes(body, "root", 32)


Body: TypeAlias = RunBody | SegmentBody | VerdictBody | DrawBody | TraceBody
_KINDS: dict[str, type[Body]] = {
    "run": RunBody,
    "segment": SegmentBody,
    "verdict": VerdictBody,
    "draw": DrawBody,
    "trace": TraceBody,
}
_OPTIONAL: dict[type[BodyFields], dict[str, Value]] = {  # fields that are not written where they have this value
    RunBody: {"first_step": 0, "parent": None},
    VerdictBody: {"sample": None},
}
_SORTED_NAMES: dict[str, list[str]] = {name: sorted(kind.__slots__) for name, kind in _KINDS.items()}
_NAMES: dict[type[BodyFields], frozenset[str]] = {kind: frozenset(kind.__slots__) for kind in _KINDS.values()}


def read_body(kind: str, body: Value) -> Body:
    """Return the typed body of an entry of this kind; raises EntryError."""
    if kind not in _KINDS:
        raise EntryError("kind", f"want one of {', '.join(_KINDS)}")
    return _KINDS[kind].from_body(body)


def _to_body(body: BodyFields) -> dict[str, Value]:
    values: dict[str, Any] = {name: getattr(body, name) for name in _SORTED_NAMES[body.KIND]}
    for name, default in _OPTIONAL.get(type(body), {}).items():
        if values[name] == default and type(values[name]) is type(default):
            del values[name]
    return {name: _to_value(value) for name, value in values.items()}


def _to_value(value: Any) -> Value:
    if isinstance(value, Sample):
        return value.to_body()
    plain: Value = list(value) if isinstance(value, tuple) else value
    return plain


def _check_names(kind: type[BodyFields], body: Value) -> dict[str, Value]:
    """Return the fields of a body, which has all names of its kind but those that may be left out."""
    optional = _OPTIONAL.get(kind, {}).keys()
    left_out = optional - body.keys() if isinstance(body, dict) else set()
    return check_names(f"{kind.KIND} body", body, _NAMES[kind] - left_out)


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
