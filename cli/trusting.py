"""The trust file and key files on the command line: the options, reading them, and how an author is shown."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

import platformdirs
import typer

from samebits.cli.options import read_file
from samebits.cli.output import CommandError, printable
from samebits.exec.author import own_key
from samebits.ledger import NoteFormatError, SigningKey, Trust, VerifierKey, load_key
from samebits.ledger.bodies import EntryKind

_MAX_KEY_SIZE_BYTES: Final = 4096

TrustOption = Annotated[
    Path | None,
    typer.Option(
        "--trust",
        metavar="FILE",
        envvar="SAMEBITS_TRUST",
        help="The trust file. Default: `trust` in the user's configuration folder.",
    ),
]
KeyOption = Annotated[
    Path | None,
    typer.Option("--key", metavar="FILE", help="The author's private key to sign with. Default: the store's."),
]


def trust_path(given: Path | None) -> Path:
    """Return where the trust file is: as given, or in the user's configuration folder."""
    return given if given is not None else platformdirs.user_config_path("samebits", appauthor=False) / "trust"


def load_trust(given: Path | None, store: Path) -> Trust:
    """Read the trust file; the author's key of the store in this folder is the user's own. Raises TrustFileError."""
    own = own_key(store)
    return Trust.load(trust_path(given), None if own is None else own.public)


def load_given_key(given: Path | None) -> SigningKey | None:
    """Read the private key that the user named, None for none; raises KeyFileError."""
    return None if given is None else load_key(given)


def load_verifier(given: str) -> VerifierKey:
    """Return the verifier key that is given as a text, or stands in the file of this name; raises CommandError."""
    path = Path(given)
    is_file = path.is_file()
    text = read_file(path, _MAX_KEY_SIZE_BYTES).decode(errors="replace").removesuffix("\n") if is_file else given
    try:
        return VerifierKey.parse(text)
    except NoteFormatError as error:
        named = "a private key" if given.startswith("PRIVATE+KEY+") else repr(given[:200])  # it may end in some log
        said = f"{named}: {error}"
        raise CommandError(said if is_file else f"{said}, or the name of a file that holds a key") from error


def author_text(trust: Trust, author: bytes, kind: EntryKind) -> str:
    """Return the name that the trust file has for an author, printable, or the beginning of the public key.

    A name whose entries of this kind do not count says so.
    """
    name = trust.author_name(author)
    if name is None:
        return f"{author.hex()[:12]}…"
    return printable(name) if trust.counts(author, kind) else f"{printable(name)} (not trusted for a {kind})"
