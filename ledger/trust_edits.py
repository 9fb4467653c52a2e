"""Edits of the trust file: a line added or taken out, the rest of the text as it was, the whole file written anew."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from samebits.cas.durable_files import replace_file
from samebits.ledger.errors import TrustFileError
from samebits.ledger.trust import TrustedKey, parse_line, parse_trust, read_trust_text

_MODE: Final = 0o644
_HEADER: Final = "# whose logs, runs and verdicts count; see `samebits key trust --help`\n"


def add_trusted(path: Path, key: TrustedKey) -> TrustedKey | None:
    """Write a line for a key into the trust file, in the place of the one it had; returns what that one said.

    A log and an author are different lines even with one public key. Raises TrustFileError.
    """
    path = path.resolve()  # through a link, so that the link stays
    with _editing(path):
        text = read_trust_text(path)
        for known in parse_trust(path, text):
            if known.name == key.name and known.key.public != key.key.public:
                raise TrustFileError(path, f"{key.name} is the name of another key already; give it another one")
        lines = (text or _HEADER).removesuffix("\n").split("\n")
        for number, line in enumerate(lines):
            old = parse_line(path, number + 1, line)
            if old is not None and old.key.public == key.key.public and (old.role == "log") == (key.role == "log"):
                lines[number] = key.format()
                break
        else:
            old = None
            lines.append(key.format())
        _write(path, lines)
    return old


def remove_trusted(path: Path, wanted: str) -> tuple[TrustedKey, ...]:
    """Take the lines of a verifier key, or of a name that is shown, out of the trust file; returns what they said.

    Raises TrustFileError if there is none, or if a name stands for several keys.
    """
    path = path.resolve()
    with _editing(path):
        text = read_trust_text(path)
        found = [key for key in parse_trust(path, text) if wanted in (key.key.vkey, key.name)]
        if not found:
            raise TrustFileError(path, f"no key and no name {wanted}")
        if len({key.key.public for key in found}) > 1:
            raise TrustFileError(path, f"{wanted} is the name of {len(found)} keys; say which by its verifier key")
        lines = text.removesuffix("\n").split("\n")
        kept = [line for number, line in enumerate(lines, 1) if parse_line(path, number, line) not in found]
        _write(path, kept)
    return tuple(found)


@contextmanager
def _editing(path: Path) -> Iterator[None]:
    """Keep other edits out by a lock on the folder, which is made where there is none."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise TrustFileError(path, f"cannot be written: {error.strerror}") from error
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)


def _write(path: Path, lines: list[str]) -> None:
    text = "\n".join(lines) + "\n"
    parse_trust(path, text)
    try:
        replace_file(path, text.encode(), mode=_MODE)
    except OSError as error:
        raise TrustFileError(path, f"cannot be written: {error.strerror}") from error
