"""`samebits log find`, `lineage`, `reindex` and `verify --against`, as a user types them."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from tests.cli.test_commands import json_of, samebits_command
from tests.exec.small_job import make_job

import samebits
from samebits.cas import Store, read_tree
from samebits.exec.runner import log_directory
from samebits.ledger import Log, SigningKey, VerifierKey


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, samebits.Run, samebits.Run]:
    """A store with two runs of one job."""
    path = tmp_path_factory.mktemp("runs") / "store"
    with Store(path) as store:
        one, two = (samebits.run(make_job(), store, checkpoint_every=10) for _ in range(2))
    return path, one, two


def indexes(*arguments: Any) -> list[int]:
    return [entry["index"] for entry in json_of("log", "find", *arguments)["entries"]]


def test_find_says_which_runs_made_or_used_these_weights(finished: tuple[Path, samebits.Run, samebits.Run]) -> None:
    path, one, two = finished
    with Log.open(path / "ledger", read_only=True) as log:
        size, last = log.size, log.find(one.entry)[0]
    both = [last, size - 1]
    assert indexes("--artifact", one.final_state, "--store", path) == both
    assert indexes("--artifact", str(one.final_state)[:6], "--run", two.address, "--store", path) == [size - 1]
    assert indexes("--job", one.job, "--store", path) == list(range(size))
    assert indexes("--since", "2020-01-01", "--until", "2020-01-02T10:00Z", "--store", path) == []
    shown = samebits_command("log", "find", "--artifact", one.final_state, "--store", path).stdout
    assert [line.endswith("(state_out)") for line in shown.splitlines()] == [True, True]
    with Store(path, read_only=True) as store:
        tensor = next(iter(read_tree(store.get_node(one.final_state)).values()))
    assert indexes("--artifact", tensor, "--store", path) == []
    assert set(both) <= set(indexes("--artifact", tensor, "--inside", "--store", path))


def test_lineage_leads_from_the_state_to_the_job_and_shows_the_other_run(
    finished: tuple[Path, samebits.Run, samebits.Run],
) -> None:
    path, one, two = finished
    lines = samebits_command("log", "lineage", one.final_state, "--store", path).stdout.splitlines()
    assert lines[0] == str(one.final_state)
    assert [line for line in lines if line.startswith("  made by run")] == [
        f"  made by run {run.address}, steps 0..{run.steps} of {run.steps}" for run in (one, two)
    ]
    assert f"    job {one.job}" in lines
    assert any(line.startswith("      data ") for line in lines)
    assert any(line.endswith("of the same job came to the same state") and str(two.address) in line for line in lines)
    found = json_of("log", "lineage", str(one.entry)[:8], "--store", path)
    assert found["made_by"] == [f"{one.address}:{one.steps}"]
    (part,) = found["parts"]
    assert (part["job"], part["started_from"]) == (str(one.job), [])
    assert {"step graph", "data", "state"} <= part["job_parts"].keys()
    assert part["other_runs"][0]["state"] == str(two.final_state)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["find"], "say what to find"),
        (["find", "--inside", "--job", "0" * 64], "--inside goes with --artifact"),
        (["find", "--since", "yesterday"], "yesterday is not a time"),
        (["find", "--run", "zz"], "is not an address"),
        (["find", "--run", "00000000"], "no address in the ledger begins with 00000000"),
        (["lineage", "0" * 64], "is neither an entry of this log nor anything that one names"),
    ],
)
def test_log_commands_say_in_one_line_what_is_wrong(
    arguments: list[str], said: str, finished: tuple[Path, samebits.Run, samebits.Run]
) -> None:
    done = samebits_command("log", *arguments, "--store", finished[0], code=2)
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_authors_by_name_and_entries_by_their_beginning(
    finished: tuple[Path, samebits.Run, samebits.Run], tmp_path: Path
) -> None:
    path, one, _ = finished
    with Log.open(path / "ledger", read_only=True) as log:
        size, author = log.size, log.entry(0).author
    vkey = VerifierKey("runner.example", author).vkey
    for named in ("you", vkey, author.hex(), author.hex()[:8]):
        assert indexes("--author", named, "--store", path) == list(range(size))
    other = tmp_path / "trust"
    other.write_text(f"author {SigningKey.generate('alice.example').vkey} Alice\n")
    other.chmod(0o644)
    assert indexes("--author", "Alice", "--store", path, "--trust", other) == []
    samebits_command("log", "find", "--author", "Bob", "--store", path, "--trust", other, code=2)
    receipt = tmp_path / "receipt"
    assert json_of("log", "prove", str(one.address)[:10], "-o", receipt, "--store", path)["entry"] == str(one.entry)
    assert json_of("log", "verdicts", str(one.address)[:10], "--store", path)["run"] == str(one.address)


def test_verify_against_kept_checkpoints(
    finished: tuple[Path, samebits.Run, samebits.Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "store"
    shutil.copytree(finished[0], path)
    shutil.copytree(log_directory(Store(path)), tmp_path / "fork")
    kept = tmp_path / "kept.txt"
    with Log.open(path / "ledger") as log:
        kept.write_text(log.checkpoint())
    assert json_of("log", "verify", "--store", path, "--against", kept)["goes on from"] == 1
    with Store(path) as store:
        samebits.run(make_job(), store)
    samebits_command("log", "verify", "--store", path, "--against", kept)
    with Log.open(path / "ledger") as log:
        kept.write_text(log.checkpoint())
    shutil.rmtree(path / "ledger")
    shutil.copytree(tmp_path / "fork", path / "ledger")
    done = samebits_command("log", "verify", "--store", path, "--against", kept, code=2)
    assert "it was rolled back, or is another branch" in done.stderr
    monkeypatch.setenv("SAMEBITS_STATE", str(tmp_path / "another state"))  # else the runner refuses to sign a fork
    with Store(path) as store:
        samebits.run(make_job(), store)
    done = samebits_command("log", "verify", "--store", path, "--against", kept, code=2)
    assert "a fork: the log's key signed two different heads of" in done.stderr
    assert kept.read_text().splitlines()[2] in done.stderr
    samebits_command("log", "verify", "--store", path)


def test_reindex_makes_the_index_anew(finished: tuple[Path, samebits.Run, samebits.Run], tmp_path: Path) -> None:
    shutil.copytree(finished[0], tmp_path / "store")
    shutil.rmtree(tmp_path / "store" / "ledger" / "index")
    before = indexes("--job", finished[1].job, "--store", tmp_path / "store")
    assert json_of("log", "reindex", "--store", tmp_path / "store")["entries"] == len(before) > 0
    assert (tmp_path / "store" / "ledger" / "index" / "data.mdb").is_file()
    assert indexes("--job", finished[1].job, "--store", tmp_path / "store") == before
