"""`samebits log cosign`: have the log's checkpoint cosigned by witnesses."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from samebits.cli.options import JsonOption, StoreOption, load_policy, open_log, store_path
from samebits.cli.output import CommandError, command, print_fields, print_json, printable, stderr, time_text
from samebits.exec.ledger_folder import LEDGER_FOLDER
from samebits.ledger import Log
from samebits.ledger.cosigned import open_cosigned
from samebits.ledger.policy import Policy, PolicyWitness
from samebits.ledger.witness_client import TIMEOUT_S, cosign_log


@command
def cosign_command(
    policy: Annotated[
        Path, typer.Option("--policy", metavar="FILE", help="Names the witnesses, their keys and URLs, and the quorum.")
    ],
    witness: Annotated[
        list[str] | None,
        typer.Option("--witness", metavar="NAME", help="Ask this one only (name in the policy); repeatable."),
    ] = None,
    timeout: Annotated[float, typer.Option("--timeout", metavar="SECONDS", min=0.1, help="For each witness.")] = (
        TIMEOUT_S
    ),
    store: StoreOption = None,
    json: JsonOption = False,
) -> None:
    """Send the log's checkpoint to the witnesses of a policy, and publish it with their cosignatures.

    Every witness that gives none is named on stderr; the others count. Exit code 2 if the policy's quorum is not
    reached; what came is published all the same.
    """
    rule = load_policy(policy)
    asked = _chosen(rule, witness)
    open_log(store).close()  # one that is not there is not made
    with Log.open(store_path(store) / LEDGER_FOLDER) as log:
        done = cosign_log(log, asked, timeout_s=timeout)
        for problem in done.problems:
            stderr.print(f"samebits: {printable(' '.join(str(problem).split()))}")
        cosigned = open_cosigned(done.note.encode(), rule, log.verifier)
    times = {seen.witness: time_text(seen.time_s) for seen in cosigned.witnessings}
    size = cosigned.checkpoint.tree_size
    if json:
        listed = [{"name": name, "time": time} for name, time in times.items()]
        problems = [{"name": problem.witness, "problem": problem.problem} for problem in done.problems]
        print_json({"origin": log.origin, "size": size, "witnesses": listed, "problems": problems})
        return
    print_fields({"origin": log.origin, "size": size, **{f"cosigned by {name}": time for name, time in times.items()}})


def _chosen(policy: Policy, names: list[str] | None) -> list[PolicyWitness]:
    """Return the witnesses to ask: those of these names, or all that have a URL."""
    if not names:
        found = [witness for witness in policy.witnesses if witness.url is not None]
        if not found:
            raise CommandError("the policy gives no URL of a witness")
        return found
    by_name = {witness.name: witness for witness in policy.witnesses}
    for name in names:
        if name not in by_name:
            raise CommandError(f"the policy has no witness {name}")
    return [by_name[name] for name in dict.fromkeys(names)]
