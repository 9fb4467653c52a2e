"""`samebits dispute` as users type it, with two `samebits serve --answer` in processes of their own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from tests.cli.test_commands import json_of, samebits_command
from tests.cli.test_remote_commands import serve
from tests.exec.frauds import Author, nudge
from tests.exec.small_job import make_job

from samebits.cas import Store


def change(t: int, state: dict[str, object]) -> dict[str, object]:
    return {name: nudge(value) for name, value in state.items()} if t == 13 else state


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, Author]]:
    """Return a fraud, who changed a weight after step 13, and two honest runs."""
    folder = tmp_path_factory.mktemp("runs")
    made = {}
    for name, after in (("fraud", change), ("one", None), ("two", None)):
        with Store(folder / name) as store:
            made[name] = folder / name, Author(store, make_job(), after_step=after)
    return made


def test_dispute_of_two_servers_and_evidence_that_is_checked_offline(
    runs: dict[str, tuple[Path, Author]], tmp_path: Path
) -> None:
    (fraud_store, fraud), (store, honest) = runs["fraud"], runs["one"]
    evidence = tmp_path / "evidence"
    with serve("--answer", "--store", fraud_store) as a, serve("--answer", "--store", store) as b:
        found = json_of("dispute", f"{a}/{fraud.run}", f"{b}/{honest.run}", "-o", evidence, code=1)
    assert (found["outcome"], found["steps"]) == ("liar", [13, 14])
    assert (found["A"]["verdict"], found["B"]["verdict"]) == ("contradicts itself", None)
    assert found["questions"]["steps"] > 0
    assert found["answer_bytes"]["operations"] > 0
    checked = json_of("dispute", "--check", evidence, "--store", tmp_path / "empty", "--key", fraud.key.vkey)
    assert (checked["proves"], checked["author"], checked["step"]) == (True, fraud.key.public.hex(), 13)
    assert "step 13" in samebits_command("dispute", "--check", evidence).stdout
    assert not (tmp_path / "empty").exists()
    key_file = tmp_path / "author.pub"
    key_file.write_text(f"{fraud.key.vkey}\n")
    assert json_of("dispute", "--check", evidence, "--key", key_file) == checked
    key_file.write_text(f"{honest.key.vkey}\n")
    for wrong in (honest.key.vkey, key_file):
        assert "not of" in samebits_command("dispute", "--check", evidence, "--key", wrong, code=2).stderr
    key_file.write_text("no key")
    assert "malformed" in samebits_command("dispute", "--check", evidence, "--key", key_file, code=2).stderr
    data = bytearray(evidence.read_bytes())
    data[len(data) // 2] ^= 1
    evidence.write_bytes(data)
    assert samebits_command("dispute", "--check", evidence, code=2).stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("before", "said"),
    [
        ("evidence.MAX_SIZE_BYTES = 1000", "would have "),
        (
            "command.dispute = lambda *a, **k: (found(*a, **k), os.rmdir(os.path.dirname(sys.argv[5])))[0]",
            "No such file or directory",
        ),
    ],
)
def test_a_report_is_printed_where_its_evidence_is_not_written(
    runs: dict[str, tuple[Path, Author]], tmp_path: Path, before: str, said: str
) -> None:
    """The evidence of a large state was refused when it was written, and the report with it; or the folder is gone."""
    (fraud_store, fraud), (store, honest) = runs["fraud"], runs["one"]
    script = "import os, sys; from samebits.exec.dispute import evidence; from samebits.cli import samebits_main; "
    script += f"from samebits.cli import dispute as command; found = command.dispute; {before}; "
    script += "sys.argv[5] += '/evidence'; samebits_main.main()"
    sides = [f"{store}/{honest.run}", f"{fraud_store}/{fraud.run}"]
    (tmp_path / "room").mkdir()
    command = [sys.executable, "-c", script, "dispute", *sides, "-o", tmp_path / "room", "--json"]
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, timeout=300)
    assert done.returncode == 1, done.stderr
    report = json.loads(done.stdout)
    assert (report["B"]["verdict"], report["B"]["evidence"]) == ("contradicts itself", None)
    (line,) = done.stderr.splitlines()
    assert line.startswith("samebits: the evidence against B is not written: ")
    assert said in line
    assert not [*tmp_path.rglob("evidence*")]


def test_dispute_of_honest_runs_agrees(runs: dict[str, tuple[Path, Author]], tmp_path: Path) -> None:
    (one_store, one), (two_store, two) = runs["one"], runs["two"]
    done = samebits_command("dispute", f"{one_store}/{one.run}", two.run, "--store", two_store)
    assert "the runs agree up to step 25 of 25" in done.stdout


def test_dispute_with_a_server_that_only_holds_the_run(runs: dict[str, tuple[Path, Author]], tmp_path: Path) -> None:
    (fraud_store, fraud), (store, honest) = runs["fraud"], runs["one"]
    with serve("--store", fraud_store) as url:
        done = samebits_command("dispute", f"{url}/{fraud.run}", f"{store}/{honest.run}", code=1)
    assert "A           lied: step 13" in done.stdout
    assert "B           right, as far as it was computed" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["dispute"], "name two runs"),
        (["dispute", "abc", "def"], "names no run"),
        (["dispute", "0" * 64, "1" * 64, "--store", "{none}"], "none"),
        (["dispute", "--check", "{none}"], "none"),
        (["dispute", "0" * 64, "1" * 64, "--key", "x"], "--key goes with --check"),
        (["dispute", "0" * 64, "--check", "x"], "--check takes no runs"),
        (["dispute", "--check", "x", "-o", "y"], "--check takes no runs, and neither --output nor --both"),
        (["dispute", "--check", __file__], f"{__file__}: not an evidence file"),
        (["dispute", "--check", "x", "--key", "PRIVATE+KEY+x+y"], "samebits: a private key: malformed"),
        (["dispute", "--check", "x", "--key", "{none}"], "or the name of a file that holds a key"),
        (["dispute", "0" * 64, "1" * 64, "-o", "{none}/x"], "--output {none}/x: there is no folder {none}"),
        (["dispute", "0" * 64, "1" * 64, "-o", "/"], "it is there and not a regular file"),
        (["dispute", "0" * 64, "1" * 64, "--device", "abacus"], "unknown device 'abacus'"),
        (["serve", "--answer", "--device", "abacus"], "unknown device 'abacus'"),
        (["dispute", "0" * 64 + "@3", "1" * 64], "without @STEP"),
        (["serve", "--answer", "--store", "{none}"], "author's key"),
    ],
)
def test_dispute_refuses_bad_input_in_one_line(arguments: list[str], message: str, tmp_path: Path) -> None:
    done = samebits_command(*(part.format(none=tmp_path / "none") for part in arguments), code=2)
    assert message.format(none=tmp_path / "none") in done.stderr
    assert done.stderr.count("\n") == 1
