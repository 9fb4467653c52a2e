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
from samebits.cas.digest import hash_blob
from samebits.exec.ledger_folder import log_directory
from samebits.ledger import Log, RunBody, SegmentBody, SigningKey, VerifierKey, entry_address, sign_entry


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
    of_job = found["runs_of_jobs"][str(one.job)]
    assert [run["state"] for run in of_job["runs"]] == [str(one.final_state), str(two.final_state)]
    assert found["runs_from_states"][part["state_in"]] == {"count": 2, "runs": [str(one.address), str(two.address)]}


def test_lineage_stays_short_in_a_log_that_is_flooded_with_runs(tmp_path: Path) -> None:
    """60 runs make a state from another that 60 runs made: each pair, or each run beside each, would be 3,600 lines."""
    key, states = SigningKey("x.example", bytes(32)), [hash_blob(b"%d" % step) for step in range(3)]
    with Log.open(tmp_path / "ledger") as log:
        for step in range(2):
            for nonce in range(60):
                run = sign_entry(log.origin, None, RunBody(states[step], nonce.to_bytes(16, "big"), 1, 1, 1), key)
                address = entry_address(run)
                body = SegmentBody(address, 0, 1, states[step], states[step + 1], states[0], bytes(32), "numpy", ())
                log.append([run, sign_entry(log.origin, address, body, key)])
    lines = samebits_command("log", "lineage", states[2], "--store", tmp_path).stdout.splitlines()
    assert sum("fork: run" in line for line in lines) == 80
    assert sum("fork: and 39 more runs" in line for line in lines) == 4
    assert sum("(shown above)" in line for line in lines) == 59 * 20
    assert sum("made by more than 20 runs" in line for line in lines) == 60
    found = json_of("log", "lineage", states[2], "--store", tmp_path)
    assert [len(found[name]) for name in ("parts", "runs_of_jobs", "runs_from_states")] == [80, 2, 2]
    for listed in (*found["runs_of_jobs"].values(), *found["runs_from_states"].values()):
        assert (listed["count"], len(listed["runs"])) == (60, 20)
    assert [(len(part["started_from"]), part["started_from_more"]) for part in found["parts"]].count((20, True)) == 60


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


def test_verify_finds_a_log_that_went_back_on_the_machine_that_signed_it(
    finished: tuple[Path, samebits.Run, samebits.Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SAMEBITS_STATE", str(tmp_path / "state"))
    path, old = tmp_path / "store", tmp_path / "old"
    shutil.copytree(finished[0], path)
    samebits_command("log", "verify", "--store", path)  # no head is known of here
    assert not (tmp_path / "state").exists()
    Log.open(path / "ledger").close()
    shutil.copytree(path, old)
    (tmp_path / "kept").write_bytes((path / "ledger" / "checkpoint").read_bytes())
    shutil.copytree(tmp_path / "state", tmp_path / "old state")
    with Log.open(path / "ledger") as log:
        log.append(
            [sign_entry(log.origin, None, RunBody(hash_blob(b""), bytes(16), 1, 1, 1), SigningKey("x", bytes(32)))]
        )
    samebits_command("log", "verify", "--store", path)
    done = samebits_command("log", "verify", "--store", old, code=2)
    assert "checkpoint that was signed last on this machine: has" in done.stderr
    assert "it was rolled back, or is another branch" in done.stderr
    shutil.copy(tmp_path / "kept", path / "ledger" / "checkpoint")  # a crash before the signed head was published
    samebits_command("log", "verify", "--store", path)
    shutil.rmtree(tmp_path / "state")
    (tmp_path / "old state").rename(tmp_path / "state")
    samebits_command("log", "verify", "--store", old)


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
