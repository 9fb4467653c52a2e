"""Whose entries count: `log verdicts`, `log show` and `verify` with a trust file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.exec.small_job import make_job
from typer.testing import CliRunner, Result

import samebits
from samebits.cas import Digest, Store
from samebits.cli.main import app
from samebits.exec.author import author_key
from samebits.ledger import Log, SigningKey, VerdictBody, sign_entry
from samebits.ledger.trust import TrustedAs, TrustedKey
from samebits.ledger.trust_edits import add_trusted

ALICE = SigningKey("alice.example", bytes([1]) * 32)
EVE = SigningKey("eve.example", bytes([5]) * 32)


def command(*arguments: Any, code: int = 0) -> Result:
    done = CliRunner().invoke(app, [*map(str, arguments)])
    assert done.exit_code == code, (done.stdout, done.stderr, done.exception)
    return done


def json_of(*arguments: Any) -> Any:
    return json.loads(command(*arguments, "--json").stdout)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Digest]:
    """A run of 4 steps by the store's author, with a verdict by them, one by Alice and two by Eve, who lies."""
    path = tmp_path_factory.mktemp("judged")
    with Store(path) as store:
        run = samebits.run(make_job(steps=4), store)
        samebits.verify(run.address, store)
        with Log.open(path / "ledger") as log:
            for key, device, step in ((EVE, "by you", 0), (EVE, "numpy", 1), (ALICE, "opencl", None)):
                result = "same" if step is None else "different"
                body = VerdictBody(run.address, 0, 4, result, step, device)  # type: ignore[arg-type]
                log.append([sign_entry(log.origin, run.entry, body, key)])
    return path, run.address


def trust(path: Path, key: SigningKey, role: TrustedAs = "author", name: str = "") -> None:
    add_trusted(path, TrustedKey(role, key.verifier, name))


def test_only_ones_own_verdicts_count_without_a_trust_file(made: tuple[Path, Digest]) -> None:
    store, run = made
    found = json_of("log", "verdicts", run, "--store", store)
    assert [(one["counts"], one["author_name"]) for one in found["verdicts"]] == [(True, "you")] + [(False, None)] * 3
    assert (found["counting"], found["counting_authors"], found["same"], found["different"]) == (1, 1, 1, 0)
    assert [one["by_runner"] for one in found["verdicts"]] == [True, False, False, False]


def test_trusted_verdicts_count_and_come_first(made: tuple[Path, Digest], own_trust_file: Path) -> None:
    store, run = made
    trust(own_trust_file, ALICE, "author:verdicts", "Alice")
    found = json_of("log", "verdicts", run, "--store", store)
    assert [one["author_name"] for one in found["verdicts"]] == ["you", "Alice", None, None]
    assert [one["index"] for one in found["verdicts"]] == [2, 5, 3, 4]
    assert (found["counting"], found["counting_authors"], found["same"]) == (2, 2, 2)
    lines = command("log", "verdicts", run, "--store", store).stdout.splitlines()
    assert [line.split()[1] for line in lines[:4]] == ["counts", "counts", "unknown", "unknown"]
    assert "by you (who ran it)" in lines[0]
    assert lines[-1] == "2 of 4 verdicts count (authors: 2): 2 same, 0 different"


def test_two_verdicts_of_one_author_are_one_authors(made: tuple[Path, Digest], own_trust_file: Path) -> None:
    store, run = made
    trust(own_trust_file, EVE)
    found = json_of("log", "verdicts", run, "--store", store)
    assert (found["counting"], found["counting_authors"], found["different"]) == (3, 2, 2)


def test_trust_for_runs_only_does_not_make_verdicts_count(made: tuple[Path, Digest], own_trust_file: Path) -> None:
    store, run = made
    trust(own_trust_file, ALICE, "author:runs")
    assert json_of("log", "verdicts", run, "--store", store)["counting"] == 1
    assert "by alice.example (not trusted for a verdict)" in command("log", "verdicts", run, "--store", store).stdout


def test_verdicts_on_an_unknown_run_are_refused(made: tuple[Path, Digest]) -> None:
    store, _ = made
    assert "neither run" in command("log", "verdicts", "00" * 32, "--store", store, code=2).stderr


def test_show_names_trusted_authors(made: tuple[Path, Digest], own_trust_file: Path) -> None:
    store, _ = made
    trust(own_trust_file, ALICE, name="Alice")
    lines = command("log", "show", "--store", store).stdout.splitlines()
    assert ["  by you  " in line for line in lines[:6]] == [True, True, True, False, False, False]
    assert f"  by {EVE.public.hex()[:12]}…  run" in lines[3]
    assert "  by Alice  " in lines[5]
    entries = json_of("log", "show", "--store", store)["entries"]
    assert [entry["counts"] for entry in entries] == [True, True, True, False, False, True]
    assert entries[5]["author_name"] == "Alice"


def test_verify_says_by_whom_the_run_is(made: tuple[Path, Digest], own_trust_file: Path, tmp_path: Path) -> None:
    store, run = made
    with Store(store) as opened:
        runner = author_key(opened)
    arguments = ("verify", run, "--store", tmp_path, "--from", store)
    found = json_of(*arguments)
    assert (found["run_author"], found["run_author_name"], found["log_name"]) == (runner.public.hex(), None, None)
    assert f"run by        {runner.public.hex()}" in command(*arguments).stdout
    with Log.open(store / "ledger", read_only=True) as log:
        add_trusted(own_trust_file, TrustedKey("log", log.verifier, "the lab"))
    trust(own_trust_file, runner, name="Runa")
    assert (json_of(*arguments)["run_author_name"], json_of(*arguments)["log_name"]) == ("Runa", "the lab")
    text = command(*arguments).stdout
    assert "run by        Runa\n" in text
    assert "(of the lab)" in text
