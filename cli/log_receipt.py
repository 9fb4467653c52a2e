"""`samebits log prove` and `log check`: receipts, files that show that an entry is in a log."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from samebits.cas import Digest
from samebits.cas.files import replacing_file
from samebits.cli.naming import named_entry
from samebits.cli.options import JsonOption, PolicyOption, StoreOption, load_policy, open_log, read_file, store_path
from samebits.cli.output import CommandError, command, print_fields, print_json, readable, time_text
from samebits.cli.trusting import TrustOption, author_text, load_trust, load_verifier
from samebits.ledger import Log, RunBody, SegmentBody, VerifierKey
from samebits.ledger.cosigned import CosignedCheckpoint, open_cosigned
from samebits.ledger.policy import Policy, PolicyLog
from samebits.ledger.proof_file import MAX_PROOF_SIZE_BYTES, format_proof, parse_proof
from samebits.ledger.receipt import Receipt, check_receipt, make_receipt


@command
def prove_command(
    entry: Annotated[
        str, typer.Argument(help="Address of a run or of an entry, or its first characters.", metavar="RUN|ENTRY")
    ],
    output: Annotated[
        Path,
        typer.Option(
            "-o", "--output", metavar="FILE", help="The receipt to write; it is usual to name it FILE.tlog-proof."
        ),
    ],
    itself: Annotated[
        bool, typer.Option("--itself", help="Of a run: prove its first entry, not its latest segment.")
    ] = False,
    policy: PolicyOption = None,
    store: StoreOption = None,
    json: JsonOption = False,
) -> None:
    """Write a receipt: that an entry is in the log, for anybody to check without the log and without this program.

    Of a run, the receipt is of its latest segment, which names the result. It carries the cosignatures that the
    checkpoint has by now (see `samebits log cosign`); with a policy, it is only written if they are enough.
    """
    rule = None if policy is None else load_policy(policy)
    with open_log(store) as log:
        address = named_entry(log, entry)
        if not itself:
            address = _head(log, address)
        proof = make_receipt(log, address)
        cosigned = open_cosigned(proof.checkpoint.encode(), rule or _policy_of(log.verifier), log.verifier)
    with replacing_file(output) as file:
        file.write(format_proof(proof).encode())
    fields: dict[str, object] = {
        "receipt": str(output),
        "entry": address,
        "index": proof.index,
        "tree_size": cosigned.checkpoint.tree_size,
        "origin": cosigned.checkpoint.origin,
        "key": log.verifier.vkey,
    }
    if rule is not None:
        fields |= witness_fields(cosigned, as_json=json)
    print_json(fields) if json else print_fields(fields)


@command
def check_command(
    receipt: Annotated[Path, typer.Argument(help="A receipt, as `samebits log prove` writes it.", metavar="RECEIPT")],
    key: Annotated[
        str | None,
        typer.Option("--key", metavar="VKEY|FILE", help="The log's verifier key, or a file of it (log.pub)."),
    ] = None,
    policy: PolicyOption = None,
    store: StoreOption = None,
    trust: TrustOption = None,
    json: JsonOption = False,
) -> None:
    """Check a receipt without the log: who says what, in which log, at which place, seen by which witnesses.

    Needs the log's key, or a policy that names the log. Says nothing about whether the result is right:
    `samebits verify` does.
    """
    if key is None and policy is None:
        raise CommandError("name whom to believe: --key with the log's key, or --policy")
    log_key = None if key is None else load_verifier(key)
    rule = _policy_of(log_key) if policy is None else load_policy(policy)
    checked = check_receipt(parse_proof(read_file(receipt, MAX_PROOF_SIZE_BYTES)), rule, log_key)
    fields = {"receipt": "verified", **_entry_fields(checked), **_place_fields(checked)}
    known, author = load_trust(trust, store_path(store)), checked.entry.author
    if json:
        fields["author_name"] = known.author_name(author)
    elif known.author_name(author) is not None:
        fields["author"] = f"{author_text(known, author, checked.entry.kind)}, {author.hex()}"
    fields |= witness_fields(checked.cosigned, as_json=json)
    print_json(fields) if json else print_fields(fields)


def witness_fields(cosigned: CosignedCheckpoint, *, as_json: bool) -> dict[str, object]:
    """Return which witnesses cosigned a checkpoint, and when."""
    unknown = cosigned.unknown
    if as_json:
        listed = [{"name": seen.witness, "time": time_text(seen.time_s)} for seen in cosigned.witnessings]
        return {"witnesses": listed, "unknown_signatures": unknown}
    shown = [f"{seen.witness} at {time_text(seen.time_s)}" for seen in cosigned.witnessings]
    if unknown:
        shown.append(f"{unknown} signature{'s' if unknown > 1 else ''} by unknown keys, not counted")
    return {"witnesses": ", ".join(shown) or "none"}


def _head(log: Log, address: Digest) -> Digest:
    """Return the latest entry of a run, or the address of another entry as it is."""
    chain = log.find_chain(address)
    return address if chain is None else chain.head


def _entry_fields(checked: Receipt) -> dict[str, object]:
    """Return what the entry says."""
    body, run = checked.entry.body, checked.run
    fields: dict[str, object] = {"kind": checked.entry.kind, "entry": checked.address}
    if run is not None and isinstance(run.body, RunBody):
        fields["job"] = run.body.job
        fields["run"] = checked.address if isinstance(body, RunBody) else body.run
        fields["of_steps"] = run.body.steps
    fields |= {name: value for name, value in readable(body.to_body()).items() if name not in fields}
    if isinstance(body, SegmentBody) and run is not None and isinstance(run.body, RunBody):
        fields["complete"] = body.stop_step == run.body.steps
    if checked.entry.time is not None:
        fields["time"] = time_text(checked.entry.time)  # as the author claims
    return {**fields, "author": checked.entry.author.hex()}


def _place_fields(checked: Receipt) -> dict[str, object]:
    checkpoint = checked.cosigned.checkpoint
    return {
        "origin": checkpoint.origin,
        "index": checked.index,
        "tree_size": checkpoint.tree_size,
        "root": checkpoint.root_hash.hex(),
    }


def _policy_of(log_key: VerifierKey | None) -> Policy:
    """Return the policy that believes one log, and needs no witness."""
    return Policy(() if log_key is None else (PolicyLog(log_key),))
