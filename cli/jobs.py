"""`samebits job`: capture a job from a script into a file, and look into job files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from samebits.cas import Digest, encode_node
from samebits.cli.lazy_group import make_group
from samebits.cli.options import JsonOption, StoreOption, open_existing_store, open_store, store_path
from samebits.cli.output import CommandError, command, print_fields, print_json, printable, size_text
from samebits.cli.script import resolve_job
from samebits.exec.canonical import GRAPH_KIND, parse_graph
from samebits.exec.job import Job
from samebits.exec.job_file import EMBED, list_tensors, packed_size_bytes, save_job
from samebits.exec.running.runner import put_job

app = make_group("Capture jobs and look into them.")


@app.command("capture")
@command
def capture_command(
    script: Annotated[str, typer.Argument(help="script.py[:function]", metavar="SCRIPT")],
    output: Annotated[Path, typer.Option("-o", "--output", metavar="FILE", help="The job file to write.")],
    embed: Annotated[
        str, typer.Option(metavar="WHAT", help=f"Tensors that go into the file: {', '.join(EMBED)}.")
    ] = "none",
    store: StoreOption = None,
    json: JsonOption = False,
) -> None:
    """Capture a job from a script and write it to a file.

    The tensors that are not embedded are put in the store, from where `samebits run FILE` takes them.
    """
    job = resolve_job(script)
    if not isinstance(job, Job):
        raise CommandError(f"{script}: not a script")
    with open_store(store) as opened:
        put_job(job, opened)
    size_bytes = save_job(job, output, embed=embed)
    fields = {
        "job": job.address,
        "file": str(output),
        "size_bytes": size_bytes,
        "definition_bytes": job.definition_size_bytes(),
        "packed_bytes": packed_size_bytes(job),
    }
    print_json(fields) if json else print_fields(fields)


@app.command("show")
@command
def show_command(
    file: Annotated[str, typer.Argument(help="A job file, or script.py[:function].", metavar="FILE")],
    store: StoreOption = None,
    json: JsonOption = False,
) -> None:
    """Say what a job file holds, and which tensors must be fetched to run it here."""
    job = resolve_job(file)
    if not isinstance(job, Job):
        raise CommandError(f"{file}: not a job file")
    tensors = list_tensors(job)
    stored = _stored_blobs(store, [part.blob for part in tensors])
    graphs = {
        address: {"nodes": len(parse_graph(node).nodes), "size_bytes": len(encode_node(node))}
        for address, node in job.nodes.items()
        if node.kind == GRAPH_KIND
    }
    spec = job.spec
    fields = {
        "job": job.address,
        "steps": spec.steps,
        **({"first_step": spec.first_step} if spec.first_step else {}),
        "stream": f"{spec.stream.rule}, batches of {spec.stream.batch_size}, seed {spec.stream.seed}",
        "arithmetic": spec.arithmetic,
        "seed": spec.seed,
        "check": str(spec.check) or "compared with eager PyTorch",
        "step graph": spec.step,
        "init graph": spec.init or "none",
        "schedule": spec.schedule or "none",
        "evaluation graph": spec.evaluation.graph if spec.evaluation else "none",
        "definition_bytes": job.definition_size_bytes(),
        "packed_bytes": packed_size_bytes(job),
    }
    if json:
        parts = [
            {
                "name": part.name,
                "dtype": part.dtype,
                "shape": list(part.shape),
                "blob": part.blob,
                "size_bytes": part.size_bytes,
                "embedded": part.embedded,
                "stored": part.blob in stored,
            }
            for part in tensors
        ]
        print_json({**fields, "graphs": {str(a): graph for a, graph in graphs.items()}, "tensors": parts})
        return
    print_fields(fields)
    for address, graph in graphs.items():
        print(f"graph {address}: {graph['nodes']} nodes, {graph['size_bytes']} bytes")
    for part in tensors:
        shape = ",".join(map(str, part.shape))
        here = "in the file" if part.embedded else "in the store" if part.blob in stored else "to be fetched"
        print(f"{printable(part.name)}  {part.dtype}[{shape}]  {size_text(part.size_bytes)}  {here}: {part.blob}")


def _stored_blobs(path: Path | None, blobs: list[Digest]) -> set[Digest]:
    """Return which of the blobs the store has; none if there is no store yet."""
    folder = store_path(path)
    if not (folder / "cas").exists():
        return set()
    with open_existing_store(folder) as opened:
        return {blob for blob in blobs if opened.has(blob)}
