"""`samebits witness`: watch the logs of others, and cosign their checkpoints."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import platformdirs
import typer

from samebits.cli.http_serving import run_server
from samebits.cli.lazy_group import make_group
from samebits.cli.options import JsonOption, PolicyOption, load_policy
from samebits.cli.output import CommandError, command, print_fields, print_json, printable, stderr, time_text
from samebits.ledger import LedgerError, VerifierKey
from samebits.ledger.checkpoint import parse_checkpoint
from samebits.ledger.cosignature import WitnessVerifierKey, find_cosignature
from samebits.ledger.keys import is_key_name
from samebits.ledger.note import parse_note
from samebits.ledger.witness import Witness
from samebits.ledger.witness_state import WitnessState, create_witness, load_witness_key

app = make_group("Watch the logs of others and cosign their checkpoints.")

DirectoryOption = Annotated[
    Path | None,
    typer.Option(
        "--dir", metavar="DIR", envvar="SAMEBITS_WITNESS", help="Key and state. Default: in the user's data folder."
    ),
]


def _directory(given: Path | None) -> Path:
    return given if given is not None else platformdirs.user_data_path("samebits-witness", appauthor=False)


@app.command("new")
@command
def new_command(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="Its name, best a URL without https://: witness.example/w1.")
    ],
    directory: DirectoryOption = None,
    json: JsonOption = False,
) -> None:
    """Make a new witness: its key, in a directory of its own, which will also hold all that it cosigned.

    Never bring back an older copy of this directory: the witness would forget what it has signed. One that lost its
    directory is gone; make another.
    """
    if not is_key_name(name):
        raise CommandError(f"{name!r} cannot name a witness: no space, no plus, not empty")
    path = _directory(directory)
    fields = {"witness": create_witness(path, name).verifier.vkey, "directory": str(path)}
    print_json(fields) if json else print_fields(fields)


@app.command("serve")
@command
def serve_command(
    log: Annotated[
        list[str] | None, typer.Option("--log", metavar="VKEY", help="The key of a log to witness; repeatable.")
    ] = None,
    policy: PolicyOption = None,
    host: Annotated[str, typer.Option("--host", help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="The port; 0 takes a free one.")] = 8421,
    directory: DirectoryOption = None,
) -> None:
    """Cosign checkpoints over HTTP (C2SP tlog-witness) until it is interrupted.

    Cosigns for the logs of --log, and those of the policy. There is no encryption: put a proxy that has it in front on
    an open network. Several processes may serve one directory.
    """
    try:
        import uvicorn  # noqa: F401

        from samebits.ledger.witness_server import make_witness_app
    except ImportError as error:
        raise CommandError('witness serve needs starlette and uvicorn: pip install "samebits[remote]"') from error

    keys = [VerifierKey.parse(vkey) for vkey in log or ()]
    keys += [found.key for found in load_policy(policy).logs] if policy is not None else []
    if not keys:
        raise CommandError("no log to witness: name one with --log, or a policy that does")
    path = _directory(directory)
    key, state = load_witness_key(path), WitnessState(path)
    _cosigned_logs(key.verifier, state)  # fails here, where its operator is, and not with the first request

    def report(error: LedgerError) -> None:
        stderr.print(f"samebits: {printable(' '.join(str(error).split()))}")

    witness = Witness(state, key, dict.fromkeys(keys))
    run_server(make_witness_app(witness, report), host, port)


@app.command("show")
@command
def show_command(directory: DirectoryOption = None, json: JsonOption = False) -> None:
    """Print the witness's key, and what it cosigned last of every log."""
    path = _directory(directory)
    key = load_witness_key(path).verifier
    logs = _cosigned_logs(key, WitnessState(path))
    if json:
        print_json({"witness": key.vkey, "directory": str(path), "logs": logs})
        return
    print_fields({"witness": key.vkey, "directory": str(path)})
    for log in logs:
        print(f"{printable(str(log['origin']))}  {log['size']} entries  root {log['root']}  cosigned at {log['time']}")
        for file in log["forks"] if isinstance(log["forks"], list) else ():
            print(f"  FORKED: the log also signed {printable(file)}")


def _cosigned_logs(key: WitnessVerifierKey, state: WitnessState) -> list[dict[str, object]]:
    """Return what the witness cosigned last of every log; raises CommandError naming what is damaged."""
    logs: list[dict[str, object]] = []
    for origin_hash in state.origin_hashes():
        try:
            text, signatures = parse_note(state.read(origin_hash) or b"")
            checkpoint, cosignature = parse_checkpoint(text), find_cosignature(key, text, signatures)
        except LedgerError as error:
            raise CommandError(
                f"what the witness cosigned is damaged, in {state.path / origin_hash}: {error}"
            ) from error
        logs.append(
            {
                "origin": checkpoint.origin,
                "size": checkpoint.tree_size,
                "root": checkpoint.root_hash.hex(),
                "time": time_text(cosignature.time_s) if cosignature is not None else "",
                "forks": [str(file) for file in state.forks(checkpoint.origin)],
            }
        )
    return logs
