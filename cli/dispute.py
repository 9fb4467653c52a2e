"""`samebits dispute`: follow two runs that differ to one operation, name the liar, and check evidence."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Annotated, Any

import typer

from samebits.cas.errors import FileError
from samebits.cas.files import replacing_file
from samebits.cli.limits import MaxMemoryOption, MaxSecondsOption, limited
from samebits.cli.options import DeviceOption, JsonOption, StoreOption, check_target, open_store, read_file
from samebits.cli.output import (
    EXIT_DIFFERENT,
    CommandError,
    command,
    print_fields,
    print_json,
    printable,
    size_text,
    stderr,
)
from samebits.cli.trusting import load_given_key, load_verifier
from samebits.exec.devices.registry import check_device_name
from samebits.exec.dispute.check import check_evidence
from samebits.exec.dispute.dispute import dispute
from samebits.exec.dispute.evidence import MAX_SIZE_BYTES, decode_evidence, encode_evidence
from samebits.exec.dispute.places import open_prover
from samebits.exec.dispute.report import NOTHING, DisputeReport, Finding
from samebits.exec.dispute.subject import Accusation
from samebits.exec.errors import EvidenceError
from samebits.exec.places.place_opening import check_place
from samebits.exec.places.run_reference import parse_run_reference

_RUNS = "RUN, or PLACE/RUN with a store's folder, the URL of `samebits serve`, or any other place."


@command
def dispute_command(
    run_a: Annotated[str | None, typer.Argument(help=_RUNS, metavar="RUN_A")] = None,
    run_b: Annotated[str | None, typer.Argument(help=_RUNS, metavar="RUN_B")] = None,
    check: Annotated[
        Path | None, typer.Option("--check", metavar="FILE", help="Check evidence, offline and on numpy alone.")
    ] = None,
    key: Annotated[
        str | None,
        typer.Option(
            "--key", metavar="VKEY|FILE", help="With --check: the verifier key that it has to convict, or a file of it."
        ),
    ] = None,
    evidence: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="Where to write the evidence.")
    ] = None,
    both: Annotated[
        bool, typer.Option("--both", help="Judge the other side too, by computing the whole step where they part.")
    ] = False,
    timeout: Annotated[
        float, typer.Option("--timeout", min=0.1, metavar="SECONDS", help="How long a server may take for an answer.")
    ] = 60.0,
    author_key: Annotated[
        Path | None,
        typer.Option("--author-key", metavar="FILE", help="Signs traces of runs in stores here. Default: the store's."),
    ] = None,
    device: DeviceOption = "numpy",
    store: StoreOption = None,
    max_memory: MaxMemoryOption = None,
    max_seconds: MaxSecondsOption = None,
    json: JsonOption = False,
) -> None:
    """Find where two runs of one job part, compute that one operation, and name who lied.

    The runs are compared by their signed commits, then each side signs a trace of the step in which they part, before
    it is asked anything about it. The evidence convicts by the liar's own signatures. --check FILE checks it again.
    Exit code: 0 the runs agree, or the evidence proves what it says; 1 a side lied, did not answer, or stops early, or
    the runs differ and it can't be decided who is wrong; 2 bad input, or evidence that proves nothing.
    """
    if check is not None:
        if run_a is not None or evidence is not None or both:
            raise CommandError("--check takes no runs, and neither --output nor --both")
        with limited(max_memory, max_seconds):
            _check(check, key, as_json=json)
        return
    if run_a is None or run_b is None:
        raise CommandError("name two runs, or --check FILE")
    if key is not None:
        raise CommandError("--key goes with --check")
    first, second = (parse_run_reference(text) for text in (run_a, run_b))
    if first.step is not None or second.step is not None:
        raise CommandError("want whole runs, without @STEP")
    check_place(first.place)
    check_place(second.place)
    signer = load_given_key(author_key)
    check_device_name(device)
    if evidence is not None:
        check_target("--output", evidence)
    with limited(max_memory, max_seconds), contextlib.ExitStack() as stack:
        opened = stack.enter_context(open_store(store))
        sides = (open_prover(one, opened, key=signer, device=device, timeout_s=timeout) for one in (first, second))
        a, b = (stack.enter_context(side) for side in sides)
        report = dispute(a, b, both=both)
    written = _write(report, evidence)
    _print(report, (run_a, run_b), written, as_json=json)
    if report.outcome != "agree":
        raise typer.Exit(EXIT_DIFFERENT)


def _check(file: Path, key: str | None, *, as_json: bool) -> None:
    accused = None if key is None else load_verifier(key).public
    try:
        found = check_evidence(decode_evidence(read_file(file, MAX_SIZE_BYTES)), accused=accused)
    except EvidenceError as error:
        raise CommandError(f"{file}: {error}") from error
    fields = _accusation(found)
    if as_json:
        print_json({"proves": True, **fields})
        return
    shown = {name: value for name, value in fields.items() if name != "what" and value is not None}
    print_fields({"proves": str(found), **shown})


def _accusation(found: Accusation) -> dict[str, Any]:
    return {
        "author": found.author.hex(),
        "run": found.run,
        "job": found.job,
        "step": found.step,
        "place": found.place,
        "what": found.what,
    }


def _write(report: DisputeReport, target: Path | None) -> list[Path | None]:
    """Write the evidence against each side, under its own name where it is against both.

    What can't be written is said on stderr: it takes nothing from the report.
    """
    found = [finding.evidence for finding in report.findings]
    if target is None:
        return [None, None]
    names = [target if None in found else target.with_name(f"{target.name}.{label}") for label in "AB"]
    written: list[Path | None] = []
    for label, name, one in zip("AB", names, found, strict=True):
        written.append(None)
        if one is not None:
            try:
                with replacing_file(name) as file:
                    file.write(encode_evidence(one))
                written[-1] = name
            except (FileError, EvidenceError, MemoryError) as error:
                reason = printable(str(error) or "out of memory")
                stderr.print(f"samebits: the evidence against {label} is not written: {reason}")
    return written


def _print(report: DisputeReport, names: tuple[str, str], written: list[Path | None], *, as_json: bool) -> None:
    if as_json:
        print_json(_json(report, written))
        return
    fields: dict[str, Any] = {"outcome": _outcome(report), "job": report.job}
    for label, name, finding, file in zip("AB", names, report.findings, written, strict=True):
        fields[f"run {label}"] = name
        fields[f"{label}"] = _finding(finding)
        if file is not None:
            fields[f"evidence {label}"] = f"{file} ({size_text(file.stat().st_size)})"
    for level, traffic in report.traffic.items():
        fields[level] = f"{traffic.queries} questions, {size_text(traffic.size_bytes)} of answers"
    fields["objects"] = f"{size_text(report.bytes_fetched)} fetched by hash"
    fields["computed"] = f"{report.operations_computed} operations, {report.steps_computed} steps, on numpy"
    fields["time"] = f"{report.seconds:.1f} s"
    print_fields(fields)
    if report.outcome == "liar" and not any(finding.evidence for finding in report.findings):
        stderr.print("samebits: what was found can't be proved to others: nothing that was signed is wrong")


def _outcome(report: DisputeReport) -> str:
    if report.outcome == "liar":
        where = "the initial state" if report.steps is None else _steps(report.steps)
        at = where if report.place is None else f"{where}, {report.place}"
        said = [f"{x} {one.verdict}" for x, one in zip("AB", report.findings, strict=True) if one.verdict]
        return f"{', '.join(said)} ({at})"
    if report.outcome == "undecided":
        where = "" if report.steps is None else f" in {_steps(report.steps)}"
        return f"undecided: the runs differ{where}, or a side did not answer; nobody is proved wrong"
    agreed = f"the runs agree up to step {report.agreed_steps} of {report.job_steps}"
    stops = [
        f"{label} stops after {stop} of {report.job_steps} steps"
        for label, stop in zip("AB", report.stops, strict=True)
        if stop < report.job_steps
    ]
    return "; ".join([agreed, *stops])


def _steps(steps: tuple[int, int]) -> str:
    return f"step {steps[0]}" if steps[1] - steps[0] == 1 else f"steps {steps[0]}:{steps[1]}"


def _finding(finding: Finding) -> str:
    if not finding.verdict:
        said = "right, as far as it was computed" if finding.cleared else NOTHING
        return said if finding.cleared or not finding.reason else f"{said}: {finding.reason}"
    return f"{finding.verdict}: {finding.reason}"


def _json(report: DisputeReport, written: list[Path | None]) -> dict[str, Any]:
    sides = {}
    for label, run, stop, finding, file in zip("AB", report.runs, report.stops, report.findings, written, strict=True):
        sides[label] = {
            "run": run,
            "stops_at": stop,
            "verdict": finding.verdict or None,
            "reason": finding.reason or None,
            "cleared": finding.cleared,
            "accusation": None if finding.accusation is None else _accusation(finding.accusation),
            "evidence": None if file is None else str(file),
        }
    return {
        "outcome": report.outcome,
        "job": report.job,
        "depth": report.depth,
        "agreed_steps": report.agreed_steps,
        "steps": report.steps,
        "place": report.place,
        **sides,
        "questions": {level: traffic.queries for level, traffic in report.traffic.items()},
        "answer_bytes": {level: traffic.size_bytes for level, traffic in report.traffic.items()},
        "bytes_fetched": report.bytes_fetched,
        "operations_computed": report.operations_computed,
        "steps_computed": report.steps_computed,
        "seconds": round(report.seconds, 3),
    }
