"""Policies: which logs are believed, and which witnesses must have cosigned a checkpoint before it counts.

Example of a file, where the keys are vkeys (``name+key ID+base64``; a log's of type 01, a witness's of type 04)::

    # one of the two laboratories, and the archive
    log       samebits.local/log/21fe31dfa154a261+04ee55d4+AddamAGCsQq31Uv+08lkBzoO4XLz2qYjJa8CGmj3B1Ea
    witness   lab-a    <vkey>  https://witness.lab-a.example
    witness   lab-b    <vkey>
    witness   archive  <vkey>  https://archive.example/witness
    group     labs     any  lab-a lab-b
    group     enough   all  labs archive
    quorum    enough

A group counts when so many of its members do: ``any`` is 1, ``all`` is all, or a number. Names stand on lines before
those that use them, and are a member of one group at most. ``quorum none`` requires no witness.
Source: https://c2sp.org/tlog-policy (the editor's copy of 2026).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from samebits.ledger.cosignature import WitnessVerifierKey
from samebits.ledger.errors import NoteFormatError, PolicyFormatError
from samebits.ledger.keys import VerifierKey

MAX_POLICY_SIZE_BYTES: Final = 256 << 10
NO_QUORUM: Final = "none"
_COUNT = re.compile(r"[1-9][0-9]{0,5}\Z", re.ASCII)
_FORBIDDEN = re.compile(rb"[^\t\n\x20-\x7e\x80-\xff]")
_BLANKS = re.compile(r"[ \t]+")


@dataclass(frozen=True, slots=True)
class PolicyLog:
    """A log that is believed."""

    key: VerifierKey
    url: str | None = None


@dataclass(frozen=True, slots=True)
class PolicyWitness:
    """A witness; its name means something in the policy only."""

    name: str
    key: WitnessVerifierKey
    url: str | None = None  # submission prefix, as tlog-witness calls it


@dataclass(frozen=True, slots=True)
class PolicyGroup:
    """A group counts when `threshold` of its members do."""

    name: str
    threshold: int  # 1 .. len(members)
    members: tuple[str, ...]  # witnesses and groups of lines before this one


@dataclass(frozen=True, slots=True)
class Policy:
    """A policy; made by `parse_policy`, in which every name is defined."""

    logs: tuple[PolicyLog, ...]  # none: any log whose key is known otherwise
    witnesses: tuple[PolicyWitness, ...] = ()
    groups: tuple[PolicyGroup, ...] = ()  # in the order of the file: members come first
    quorum: str = NO_QUORUM  # a witness, a group, or "none"

    def unmet(self, cosigned: Iterable[str]) -> str:
        """Return what the quorum lacks if these witnesses (their names) have cosigned; empty if nothing."""
        counted = set(cosigned)
        lacks = {w.name: w.name for w in self.witnesses if w.name not in counted}
        for group in self.groups:
            missing = [name for name in group.members if name in lacks]
            if len(group.members) - len(missing) < group.threshold:
                wanted = group.threshold - len(group.members) + len(missing)
                lacks[group.name] = _describe_missing(group.name, wanted, [lacks[name] for name in missing])
        return lacks.get(self.quorum, "")


@dataclass(slots=True)
class _Parser:
    """Reads a policy line by line."""

    logs: list[PolicyLog] = field(default_factory=list)
    witnesses: list[PolicyWitness] = field(default_factory=list)
    groups: list[PolicyGroup] = field(default_factory=list)
    quorum: str | None = None
    _names: set[str] = field(default_factory=set)
    _members: set[str] = field(default_factory=set)

    def read_line(self, items: list[str]) -> None:
        """Read the items of one line; raises ValueError saying what is wrong with it."""
        match items:
            case ["log", vkey]:
                self._add_log(vkey, None)
            case ["log", vkey, url]:
                self._add_log(vkey, url)
            case ["witness", name, vkey]:
                self._add_witness(name, vkey, None)
            case ["witness", name, vkey, url]:
                self._add_witness(name, vkey, url)
            case ["group", name, count, *members] if members:
                self._add_group(name, count, members)
            case ["quorum", name]:
                if self.quorum is not None:
                    raise ValueError("a second quorum")
                if name != NO_QUORUM and name not in self._names:
                    raise ValueError(f"the quorum {name} is not defined on a line before")
                self.quorum = name
            case _:
                raise ValueError(
                    "want: log VKEY [URL], witness NAME VKEY [URL], group NAME all|any|COUNT MEMBER..., or quorum NAME"
                )

    def _add_log(self, vkey: str, url: str | None) -> None:
        key = VerifierKey.parse(vkey)
        if any(log.key.public == key.public for log in self.logs):
            raise ValueError(f"a second log with the key of {key.name}")
        self.logs.append(PolicyLog(key, url))

    def _add_witness(self, name: str, vkey: str, url: str | None) -> None:
        key = WitnessVerifierKey.parse(vkey)
        if any(witness.key.public == key.public for witness in self.witnesses):
            raise ValueError(f"a second witness with the key of {key.name}")
        self._define(name)
        self.witnesses.append(PolicyWitness(name, key, url))

    def _add_group(self, name: str, count: str, members: list[str]) -> None:
        for member in members:
            if member not in self._names:
                raise ValueError(f"the member {member} is not defined on a line before")
            if member in self._members:
                raise ValueError(f"{member} is already a member of a group")
            self._members.add(member)
        thresholds = {"any": 1, "all": len(members)}
        threshold = int(count) if _COUNT.match(count) else thresholds.get(count, 0)
        if not 1 <= threshold <= len(members):
            raise ValueError(f"want all, any or a number from 1 to {len(members)}, not {count}")
        self._define(name)
        self.groups.append(PolicyGroup(name, threshold, tuple(members)))

    def _define(self, name: str) -> None:
        if name == NO_QUORUM or name in self._names:
            raise ValueError(f"the name {name} is {'reserved' if name == NO_QUORUM else 'taken'}")
        self._names.add(name)


def parse_policy(data: bytes) -> Policy:
    """Read a policy file; raises PolicyFormatError naming the line."""
    if len(data) > MAX_POLICY_SIZE_BYTES:
        raise PolicyFormatError(None, f"longer than {MAX_POLICY_SIZE_BYTES} bytes")
    if data and not data.endswith(b"\n"):  # one that was cut short could ask for less
        raise PolicyFormatError(data.count(b"\n") + 1, "no newline at its end: is the file complete?")
    parser = _Parser()
    for number, line in enumerate(data.split(b"\n")[:-1], 1):
        if wrong := _FORBIDDEN.search(line):
            raise PolicyFormatError(number, f"control character {wrong.group()[0]}")
        text = line.decode(errors="surrogateescape").strip(" \t")  # names are octets: nothing else is looked at
        if not text or text.startswith("#"):
            continue
        try:
            parser.read_line(_BLANKS.split(text))
        except NoteFormatError as error:
            raise PolicyFormatError(number, str(error)) from None
        except ValueError as error:
            raise PolicyFormatError(number, str(error)) from None
    if parser.quorum is None:
        raise PolicyFormatError(None, "no quorum line (`quorum none` requires no witness)")
    return Policy(tuple(parser.logs), tuple(parser.witnesses), tuple(parser.groups), parser.quorum)


def _describe_missing(group: str, wanted: int, members: list[str]) -> str:
    """Say how many of which members a group lacks: ``labs (1 more of lab-a, lab-b)``."""
    return f"{group} ({wanted} more of {', '.join(members)})"
