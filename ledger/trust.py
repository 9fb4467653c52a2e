"""The trust file: whose logs, runs and verdicts count for the user. A text of one key a line, in UTF-8.

Example::

    # from their site, checked by phone
    log samebits.local/log/21fe31dfa154a261+04ee55d4+AddamAGCsQq31Uv+08lkBzoO4XLz2qYjJa8CGmj3B1Ea the lab
    author:verdicts runner.example+c3a10a52+AT1AF8PoQ4lakrcKp00bfrycmCzPLsSWjMDNVfEq9GYM Runa

A line: what the key is trusted as, the verifier key in the text form of signed-note, and, after it, the name to show
(else that of the key). Columns are apart by spaces or tabs; empty lines and those that start with # are left alone.
An entry holds its author's 32 bytes of public key and no name, so those decide; a log's name decides too.
"""

from __future__ import annotations

import re
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal, TypeAlias

from samebits.ledger.bodies import EntryKind
from samebits.ledger.errors import NoteFormatError, TrustFileError
from samebits.ledger.keys import VerifierKey
from samebits.ledger.logkey import log_origin
from samebits.ledger.regular_file import read_regular

TrustedAs: TypeAlias = Literal["log", "author", "author:runs", "author:verdicts"]
ROLES: Final[tuple[TrustedAs, ...]] = ("log", "author", "author:runs", "author:verdicts")
OWN_NAME: Final = "you"
MAX_SIZE_BYTES: Final = 1 << 20
MAX_NAME_LENGTH: Final = 100
_COUNTED: Final[dict[TrustedAs, tuple[EntryKind, ...]]] = {
    "log": (),
    "author": ("run", "segment", "verdict", "draw", "trace"),
    "author:runs": ("run", "segment", "trace"),
    "author:verdicts": ("verdict", "draw"),
}
_HEX: Final = re.compile(r"[0-9a-f]{8,}\Z")
_WRITABLE_BY_OTHERS: Final = 0o022


@dataclass(frozen=True, slots=True)
class TrustedKey:
    """One line of the file; raises ValueError for a key that cannot be trusted as this."""

    role: TrustedAs
    key: VerifierKey
    label: str = ""  # at most 100 printable characters; empty: the key's own name is shown

    def __post_init__(self) -> None:
        if len(self.label) > MAX_NAME_LENGTH or not self.label.isprintable() or self.label != self.label.strip():
            raise ValueError(f"a name has at most {MAX_NAME_LENGTH} printable characters, no space around them")
        if self.name == OWN_NAME or _HEX.match(self.name):
            raise ValueError(f"{self.name} can't be shown as a name: it would pass for your own, or for a key in hex")
        if self.role != "log" and is_log_key(self.key):
            raise ValueError(f"{self.key.name} is the key of a log, not of an author")

    @property
    def name(self) -> str:
        """The name to show."""
        return self.label or self.key.name

    def format(self) -> str:
        """Return the line, without its newline."""
        return f"{self.role} {self.key.vkey} {self.label}".rstrip()


@dataclass(frozen=True, slots=True)
class Trust:
    """Whose entries count. What is in no line does not; the user's own key always does."""

    keys: tuple[TrustedKey, ...] = ()
    own: bytes | None = None  # the user's public key, 32 bytes
    _logs: dict[str, TrustedKey] = field(init=False, repr=False, compare=False)
    _authors: dict[bytes, TrustedKey] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_logs", {key.key.vkey: key for key in self.keys if key.role == "log"})
        object.__setattr__(self, "_authors", {key.key.public: key for key in self.keys if key.role != "log"})

    @classmethod
    def load(cls, path: Path, own: bytes | None = None) -> Trust:
        """Read a trust file; one that does not exist trusts nobody else. Raises TrustFileError."""
        return cls(parse_trust(path, read_trust_text(path)), own)

    def knows_log(self, vkey: str) -> bool:
        """Say whether the log with this verifier key (its text, name included) is trusted."""
        return vkey in self._logs

    def counts(self, author: bytes, kind: EntryKind) -> bool:
        """Say whether entries of this kind count when this public key signed them."""
        if author == self.own:
            return True
        trusted = self._authors.get(author)
        return trusted is not None and kind in _COUNTED[trusted.role]

    def author_name(self, author: bytes) -> str | None:
        """Return the name that the user knows this public key by, or None; it may count for some kinds only."""
        if author == self.own:
            return OWN_NAME
        trusted = self._authors.get(author)
        return None if trusted is None else trusted.name

    def log_keys(self, origin: str) -> list[VerifierKey]:
        """Return the trusted keys of logs of this name."""
        return [key.key for key in self._logs.values() if key.key.name == origin]

    def log_name(self, vkey: str) -> str | None:
        """Return the name that the user knows the log with this verifier key by, or None."""
        trusted = self._logs.get(vkey)
        return None if trusted is None else trusted.name


def is_log_key(key: VerifierKey) -> bool:
    """Say whether the key goes by the origin of a log of its own."""
    return key.name == log_origin(key.public)


def parse_trust(path: Path, text: str) -> tuple[TrustedKey, ...]:
    """Return the keys of a trust file's text; `path` is for the messages. Raises TrustFileError with the line."""
    found: dict[tuple[bool, bytes], int] = {}
    keys = []
    for number, line in enumerate(text.split("\n"), 1):
        key = parse_line(path, number, line)
        if key is None:
            continue
        identity = (key.role == "log", key.key.public)
        if identity in found:
            raise TrustFileError(path, f"repeats the key of line {found[identity]}", number)
        found[identity] = number
        keys.append(key)
    return tuple(keys)


def parse_line(path: Path, number: int, line: str) -> TrustedKey | None:
    """Return the key of one line, None for an empty one or a comment; raises TrustFileError."""
    words = line.split(maxsplit=2)
    if not words or words[0].startswith("#"):
        return None
    role = next((role for role in ROLES if role == words[0]), None)
    if role is None:
        raise TrustFileError(path, f"a line starts with one of {', '.join(ROLES)}", number)
    if len(words) == 1:
        raise TrustFileError(path, f"no verifier key after {role}", number)
    try:
        return TrustedKey(role, VerifierKey.parse(words[1]), words[2].strip() if len(words) == 3 else "")
    except NoteFormatError as error:
        raise TrustFileError(path, str(error), number) from None
    except ValueError as error:
        raise TrustFileError(path, str(error), number) from None


def read_trust_text(path: Path) -> str:
    """Return the text of a trust file, empty if there is none; raises TrustFileError, also if others may write it."""
    try:
        content, mode = read_regular(path, MAX_SIZE_BYTES)
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise TrustFileError(path, f"cannot be read: {error.strerror}") from error
    if mode & _WRITABLE_BY_OTHERS:
        raise TrustFileError(path, f"others may write it (mode {stat.S_IMODE(mode):04o}); run: chmod go-w {path}")
    if len(content) > MAX_SIZE_BYTES:
        raise TrustFileError(path, f"longer than {MAX_SIZE_BYTES} bytes")
    try:
        return content.decode()
    except UnicodeDecodeError:
        raise TrustFileError(path, "not UTF-8") from None
