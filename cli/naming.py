"""Addresses and authors of a ledger as users write them: whole, by their beginning, or by name."""

from __future__ import annotations

from samebits.cas import Digest
from samebits.cli.output import CommandError
from samebits.ledger import Log, NoteFormatError, Trust, VerifierKey
from samebits.ledger.trust import OWN_NAME


def named_entry(log: Log, text: str) -> Digest:
    """Return the address of an entry that a text or its beginning names; raises CommandError, LedgerError."""
    found = log.find_address(text, ("entry",))
    if found is None:
        raise CommandError(f"no entry of the ledger has an address that begins with {text}")
    return found


def named_address(log: Log, text: str) -> Digest:
    """Return the address of anything in the ledger that a text or its beginning names; raises CommandError."""
    found = log.find_address(text)
    if found is None:
        raise CommandError(f"no address in the ledger begins with {text}")
    return found


def named_author(log: Log, text: str, known: Trust) -> bytes:
    """Return the public key of an author: `you`, a trusted name, a verifier key, or hex; raises CommandError."""
    if text == OWN_NAME and known.own is not None:
        return known.own
    trusted = {key.key.public for key in known.keys if key.role != "log" and key.name == text}
    if len(trusted) == 1:
        return trusted.pop()
    if len(trusted) > 1:
        raise CommandError(f"{text} is the name of several trusted keys; give the verifier key")
    try:
        return VerifierKey.parse(text).public
    except NoteFormatError:
        found = log.find_address(text, ("author",))
    if found is None:
        raise CommandError(f"no author in the ledger has a key that begins with {text}")
    return found.raw
