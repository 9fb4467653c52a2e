"""`samebits log export` and `check-export`: what the ledger says, for programs that read in-toto attestations."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from samebits.cas import Digest, Store
from samebits.cas.files import replacing_file
from samebits.cli.naming import named_entry
from samebits.cli.options import JsonOption, StoreOption, open_existing_store, store_path
from samebits.cli.output import CommandError, command, print_fields, print_json
from samebits.cli.trusting import KeyOption, TrustOption, load_given_key, load_trust
from samebits.exec.attestation import (
    AUTHOR,
    PROVENANCE,
    TEST_RESULT,
    author_uri,
    run_statement,
    verdict_statement,
)
from samebits.exec.author import author_key_path
from samebits.exec.ledger_folder import log_directory
from samebits.ledger import (
    DrawBody,
    Entry,
    Log,
    RunBody,
    RunChain,
    SegmentBody,
    TraceBody,
    Trust,
    VerdictBody,
    VerifierKey,
    entry_address,
    load_key,
)
from samebits.ledger.bodies import EntryKind
from samebits.ledger.dsse import MAX_ENVELOPE_SIZE_BYTES, parse_envelope, verify_envelope
from samebits.ledger.intoto import Statement, parse_statement, sign_statement
from samebits.ledger.trust import OWN_NAME

FORMATS = ("in-toto",)


@command
def export_command(
    wanted: Annotated[str, typer.Argument(help="Address of a run or of a verdict.", metavar="RUN|VERDICT")],
    format_name: Annotated[str, typer.Option("--format", metavar="FORMAT", help="in-toto, in a DSSE envelope.")] = (
        "in-toto"
    ),
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="FILE", help="Where to. Default: stdout.")
    ] = None,
    source: Annotated[
        Path | None,
        typer.Option("--from", metavar="DIR", help="Another store, whose ledger holds the run of the verdict."),
    ] = None,
    partial: Annotated[bool, typer.Option("--partial", help="Accept a run that stops before its last step.")] = False,
    key: KeyOption = None,
    store: StoreOption = None,
) -> None:
    """Write a run or a verdict as a signed in-toto statement: SLSA provenance of the result, or a test result.

    Only its author can: the statement is signed with the key that signed the entry.
    """
    if format_name not in FORMATS:
        raise CommandError(f"--format is one of {', '.join(FORMATS)}")
    directory = store_path(store)
    with open_existing_store(directory) as opened:
        with Log.open(log_directory(opened), read_only=True) as log:
            index, entry = log.find(named_entry(log, wanted))
            statement = _statement(log, index, entry, opened, source, partial=partial)
        signer = load_given_key(key) or load_key(author_key_path(directory))
        if signer.public != entry.author:
            by = f"by {entry.author.hex()}, not by the key {signer.vkey}"
            raise CommandError(f"this {entry.kind} is {by}; --key FILE names another")
        envelope = sign_statement(statement, signer).format().encode()
    if output is None:
        sys.stdout.buffer.write(envelope)
        return
    with replacing_file(output) as file:
        file.write(envelope)


@command
def check_export_command(
    file: Annotated[Path, typer.Argument(help="What `log export` wrote.", metavar="FILE")],
    vkey: Annotated[
        str | None,
        typer.Option("--key", metavar="VKEY", help="The author's verifier key. Default: yours, and those you trust."),
    ] = None,
    store: StoreOption = None,
    trust: TrustOption = None,
    json: JsonOption = False,
) -> None:
    """Check the signature and the form of an exported statement, with nothing but the file and the key.

    Whether what it says is true is not checked: `samebits verify` replays the run.
    """
    with file.open("rb") as opened:
        envelope = parse_envelope(opened.read(MAX_ENVELOPE_SIZE_BYTES + 1))
    if vkey is not None:
        signer = verify_envelope(envelope, [VerifierKey.parse(vkey)])
        name, statement = signer.name, parse_statement(envelope)
    else:
        known = load_trust(trust, store_path(store))
        signer = verify_envelope(envelope, _trusted_keys(known))
        name, statement = known.author_name(signer.public) or signer.name, parse_statement(envelope)
        kind: EntryKind = "run" if statement.predicate_type == PROVENANCE else "verdict"
        if not known.counts(signer.public, kind):
            raise CommandError(f"signed by {name}, whom you do not trust for a {kind}")
    _check_author(statement, signer)
    _report(statement, name, signer, as_json=json)


def _statement(log: Log, index: int, entry: Entry, store: Store, source: Path | None, *, partial: bool) -> Statement:
    match entry.body:
        case RunBody():
            chain = log.chain(entry_address(entry))
            if not chain.is_complete and not partial:
                stop, steps = chain.next_step, chain.body.steps
                raise CommandError(f"the run stops after {stop} of {steps} steps; --partial exports what is there")
            return run_statement(chain, store)
        case SegmentBody(run=run):
            raise CommandError(f"this is a segment, no result of its own; export its run, {run}")
        case DrawBody(run=run) | TraceBody(run=run):
            raise CommandError(f"this is a {entry.kind}, no result of its own; export its run, {run}")
        case VerdictBody(run=run):
            log.verdicts(run)  # checks its signature
            return verdict_statement(index, entry, _chain(log, run, source), store)


def _chain(log: Log, run: Digest, source: Path | None) -> RunChain | None:
    """Return the chain of a run, from the other store's ledger if one is given; None if this log has no such run."""
    if source is not None:
        with open_existing_store(source) as other, Log.open(log_directory(other), read_only=True) as theirs:
            return theirs.chain(run)
    return log.find_chain(run)


def _trusted_keys(trust: Trust) -> list[VerifierKey]:
    own = [] if trust.own is None else [VerifierKey(OWN_NAME, trust.own)]
    return [*own, *(key.key for key in trust.keys if key.role != "log")]


def _check_author(statement: Statement, signer: VerifierKey) -> None:
    """Raise CommandError for a statement about a run or a verdict of somebody else than who signed it."""
    if statement.predicate_type == PROVENANCE:
        named, own = _inner(statement.predicate, "runDetails", "builder", "id"), author_uri(signer.public)
    elif statement.predicate_type == TEST_RESULT:
        listed = statement.predicate.get("configuration")
        verdicts = [one for one in listed if _inner(one, "name") == "verdict"] if isinstance(listed, list) else []
        named, own = _inner(verdicts[0] if verdicts else None, "annotations", AUTHOR), signer.public.hex()
    else:
        raise CommandError(f"its predicate is {statement.predicate_type[:200]!r}, which `log export` does not write")
    if named != own:
        raise CommandError(f"it says that it is by {named!r:.200}, which is not who signed it")


def _inner(value: object, *names: str) -> object:
    """Return what stands under these names, each within the one before; None if it is not there."""
    for name in names:
        value = value.get(name) if isinstance(value, Mapping) else None
    return value


def _report(statement: Statement, name: str, signer: VerifierKey, *, as_json: bool) -> None:
    subjects = [{"name": one.name, "digest": dict(one.digest)} for one in statement.subjects]
    fields: dict[str, object] = {"signature": "verified", "signed_by": name, "signer": signer.public.hex()}
    fields["predicate_type"] = statement.predicate_type
    result = statement.predicate.get("result")
    if isinstance(result, str):
        fields["result"] = result
    if as_json:
        print_json({**fields, "subjects": subjects, "predicate": dict(statement.predicate)})
        return
    print_fields(fields)
    for one in statement.subjects:
        algorithm = "sha256" if "sha256" in one.digest else next(iter(one.digest))
        print_fields({"subject": f"{one.name}  {algorithm}:{one.digest[algorithm]}"})
