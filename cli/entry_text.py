"""Entries of a ledger as they are printed."""

from __future__ import annotations

from samebits.cli.output import readable, time_text
from samebits.cli.trusting import author_text
from samebits.ledger import Entry, SignatureError, Trust, VerdictBody, check_entry_signature, entry_address


def entry_fields(index: int, entry: Entry, known: Trust) -> dict[str, object]:
    """Return an entry as it is printed with --json; one whose signature does not verify never has a name, or counts."""
    signed = _is_signed(entry)
    return {
        "index": index,
        "address": str(entry_address(entry)),
        "kind": entry.kind,
        "author": entry.author.hex(),
        "author_name": known.author_name(entry.author) if signed else None,
        "counts": signed and known.counts(entry.author, entry.kind),
        "signature_verifies": signed,
        "time": entry.time,
        "prev": None if entry.prev is None else str(entry.prev),
        "body": readable(entry.body.to_body()),
    }


def entry_line(index: int, entry: Entry, known: Trust) -> str:
    """Return an entry as one line for people."""
    body = {name: readable(getattr(entry.body, name)) for name in entry.body.__slots__}
    if isinstance(entry.body, VerdictBody) and entry.body.sample is not None:
        body["sample"] = f"of {len(entry.body.sample.segments)} segments"
    shown = "  ".join(f"{name} {short_text(value)}" for name, value in body.items() if value not in (None, []))
    if _is_signed(entry):
        by = "by " + author_text(known, entry.author, entry.kind)
    else:
        by = f"SIGNATURE DOES NOT VERIFY  claims {entry.author.hex()[:12]}…"
    at = "" if entry.time is None else f"  {time_text(entry.time)}"  # as the author claims
    return f"{index:>5}  {entry.kind:<7}  {entry_address(entry)}{at}  {by}  {shown}"


def _is_signed(entry: Entry) -> bool:
    """Return whether the author signed it: reading a log does not verify that, and its operator can put in anything."""
    try:
        check_entry_signature(entry)
    except SignatureError:
        return False
    return True


def short_text(value: object) -> str:
    """Return a value for people; an address as its beginning."""
    if isinstance(value, list):
        return ",".join(short_text(item) for item in value)
    text = str(value)
    return text[:12] + "…" if len(text) == 64 else text
