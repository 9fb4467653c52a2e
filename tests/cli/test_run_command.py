"""`samebits run --resume` and `run --from` as a user types them: each a process of its own."""

from __future__ import annotations

import base64
import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.cli.test_commands import json_of, samebits_command
from tests.exec.small_job import make_job

import samebits


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two job files, and a store with a run of the shorter one, which tests only add to."""
    path = tmp_path_factory.mktemp("runs")
    samebits.save_job(make_job(), path / "short.job", embed="all")
    samebits.save_job(make_job(steps=40), path / "long.job", embed="all")
    return path


@pytest.fixture(scope="module")
def short(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json_of("run", folder / "short.job", "--store", folder / "store", "--checkpoint-every", 10)
    return found


def test_fork_of_another_store_is_told_by_lineage(folder: Path, short: dict[str, Any], tmp_path: Path) -> None:
    whole = json_of("run", folder / "long.job", "--store", folder / "store")
    named = f"{folder / 'store'}/{short['run']}@20"
    longer = json_of("run", "--from", named, "--steps", 40, "--store", tmp_path)
    assert longer["final_state"] == whole["final_state"]
    assert (longer["first_step"], longer["parent"], longer["commits"]) == (20, short["run"], 20)
    text = samebits_command("log", "lineage", longer["final_state"], "--store", tmp_path).stdout
    assert f"goes on from run {short['run']} at step 20 (which is in another log)" in text
    assert "steps 20..40 of 40" in text
    (part,) = json_of("log", "lineage", longer["final_state"], "--store", tmp_path)["parts"]
    assert (part["first_step"], part["parent"], part["parent_entry"]) == (20, short["run"], None)
    verdict = json_of("verify", longer["run"], "--store", tmp_path)
    assert (verdict["verdict"], verdict["first_step"], verdict["parent"]) == ("same", 20, short["run"])
    said = " ".join(samebits_command("verify", longer["run"], "--store", tmp_path).stdout.split())
    assert f"state that its job names; how run {short['run']} came to it, `verify` of that run checks" in said
    assert f"parentage skipped: run {short['run']} can't be looked at here: " in said
    assert verdict["parentage"]["status"] == "skipped"
    exported = samebits_command("log", "export", longer["run"], "--store", tmp_path, "-o", tmp_path / "run.json")
    assert exported.returncode == 0
    again = json_of("run", longer["run"], "--resume", "--store", tmp_path)
    assert (again["run"], again["parent"]) == (longer["run"], short["run"])


def test_fork_of_the_own_ledger_is_told_by_lineage(folder: Path, short: dict[str, Any]) -> None:
    np.save(folder / "y.npy", np.linspace(0, 1, 40, dtype=np.float32))
    forked = json_of(
        "run", folder / "long.job", "--from", f"{short['run']}@10", "--data", f"y={folder / 'y.npy'}", "--seed", 5,
        "--store", folder / "store",
    )  # fmt: skip
    text = samebits_command("log", "lineage", forked["final_state"], "--store", folder / "store").stdout
    assert f"goes on from run {short['run']} at step 10 (entry 0)" in text


def test_resume_of_a_job_begins_or_goes_on(folder: Path, tmp_path: Path) -> None:
    begun = json_of("run", folder / "short.job", "--resume", "--store", tmp_path)
    assert begun["commits"] == 25
    again = json_of("run", begun["run"], "--resume", "--store", tmp_path)
    assert {name: again[name] for name in ("run", "final_state", "entry")} == {
        name: begun[name] for name in ("run", "final_state", "entry")
    }


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "want a JOB to run, or --from RUN@STEP"),
        (["{job}", "--steps", "5"], "they need --from RUN@STEP"),
        (["0" * 64, "--resume"], "neither a run in the ledger of"),
        (["--from", "nonsense"], "names no run: want RUN, PLACE/RUN or PLACE/RUN@STEP"),
        (["--from", "{run}@26"], "has no state at step 26"),
        (["--from", "{run}"], "after 25 steps nothing is left to do of 25; --steps N gives the job a later end"),
        (["--from", "nowhere/{run}@5"], "place nowhere: there is no such folder or archive"),
        (["--from", "0" * 64 + "@5"], "taken home; PLACE/RUN is one elsewhere"),
        (["--from", "{run}@5", "--rate", "fast"], "--rate 'fast': want VALUE or NAME=VALUE, a number"),
        (["--from", "{run}@5", "--rate", "0.1"], "the job takes no rate"),
        (["--from", "{run}@5", "--data", "x"], "--data 'x': want NAME=FILE.npy"),
        (["--from", "{run}@5", "--data", "x=a.npy", "--data", "x=b.npy"], "set each name once"),
        (["--from", "{run}@5", "--data", "x=missing.npy"], "missing.npy"),
    ],
)
def test_what_does_not_fit_is_one_line(folder: Path, short: dict[str, Any], arguments: list[str], message: str) -> None:
    values = {"{job}": str(folder / "short.job"), "{run}": short["run"]}
    for name, value in values.items():
        arguments = [one.replace(name, value) for one in arguments]
    said = samebits_command("run", *arguments, "--store", folder / "store", code=2).stderr
    assert message in said
    assert len(said.splitlines()) == 1


def test_a_place_that_is_not_there_is_said_before_a_store_is_made(tmp_path: Path) -> None:
    named = f"{tmp_path / 'nowhere'}/{'0' * 64}@5"
    samebits_command("run", "--from", named, "--store", tmp_path / "store", code=2)
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize("command", [["verify"], ["run", "--steps", "50", "--from"]])
def test_a_run_that_the_store_lacks_is_said_to_be_found_by_its_place(tmp_path: Path, command: list[str]) -> None:
    """Without a ledger too: the user was told only that there is no log."""
    said = samebits_command(*command, "0" * 64, "--store", tmp_path, code=2).stderr
    assert f"is not in the store {tmp_path}, neither in its ledger nor taken home; PLACE/RUN is one elsewhere" in said
    assert said.count("\n") == 1


def test_job_show_tells_the_first_step(folder: Path, short: dict[str, Any], tmp_path: Path) -> None:

    job = make_job()
    later = dataclasses.replace(job, spec=dataclasses.replace(job.spec, first_step=7))
    samebits.save_job(later, tmp_path / "later.job", embed="all")
    assert json_of("job", "show", tmp_path / "later.job")["first_step"] == 7
    assert "first_step" not in json_of("job", "show", folder / "short.job")
    run = json_of("run", tmp_path / "later.job", "--store", tmp_path / "store")
    assert run["commits"] == 18
    exported = tmp_path / "run.json"
    samebits_command("log", "export", run["run"], "--store", tmp_path / "store", "-o", exported)

    statement = json.loads(base64.b64decode(json.loads(exported.read_text())["payload"]))
    parameters = statement["predicate"]["buildDefinition"]["externalParameters"]
    assert (parameters["firstStep"], parameters["steps"]) == (7, 25)


def test_pack_and_push_refuse_a_run_elsewhere(folder: Path, short: dict[str, Any], tmp_path: Path) -> None:
    """The place was ignored, and the run looked for here."""
    named = f"{folder / 'store'}/{short['run']}"
    for arguments in (["pack", named, "-o", tmp_path / "run.car"], ["push", named, tmp_path / "remote"]):
        said = samebits_command(*arguments, "--store", folder / "store", code=2).stderr
        assert "want a run of this store, not one of" in said
    assert not [*tmp_path.iterdir()]
