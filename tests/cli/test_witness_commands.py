"""`log prove`, `check`, `cosign`, `verify --policy` and `witness` as a user types them."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.exec.small_job import make_job
from typer.testing import CliRunner, Result

import samebits
from samebits.cli.main import app
from samebits.ledger import Log


def samebits_command(*arguments: object, code: int = 0) -> Result:
    """Run `samebits ARGUMENTS` in this process and check its exit code."""
    done = CliRunner().invoke(app, [*map(str, arguments)])
    assert done.exit_code == code, (done.exit_code, done.stdout, done.stderr)
    if code:
        assert done.stdout == ""
        assert "internal error" not in done.stderr
    return done


def json_of(*arguments: object) -> Any:
    """Run a command with --json."""
    return json.loads(samebits_command(*arguments, "--json").stdout)


@contextmanager
def serve_witness(directory: Path, *arguments: object) -> Iterator[str]:
    """Run `samebits witness serve` in a process of its own; yields the URL that it prints."""
    command = [sys.executable, "-m", "samebits.cli", "witness", "serve", "--port", "0", "--dir", str(directory)]
    process = subprocess.Popen(
        [*command, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ},
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith("http://127.0.0.1:"), (line, process.communicate())
        yield line.strip()
    finally:
        process.send_signal(signal.SIGINT)
        _, error = process.communicate(timeout=20)
    assert "Traceback" not in error


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A store with one finished run, and what `run --json` said."""
    folder = tmp_path_factory.mktemp("finished")
    samebits.save_job(make_job(), folder / "line.job", embed="all")
    return folder / "store", json_of("run", folder / "line.job", "--store", folder / "store")


@pytest.fixture
def store(tmp_path: Path, finished: tuple[Path, dict[str, Any]]) -> Path:
    subprocess.run(["cp", "-r", str(finished[0]), str(tmp_path / "store")], check=True)
    return tmp_path / "store"


def log_key(store: Path) -> str:
    with Log.open(store / "ledger", read_only=True) as log:
        return log.verifier.vkey


def test_prove_and_check_a_run_with_the_key_alone(
    tmp_path: Path, store: Path, finished: tuple[Path, dict[str, Any]]
) -> None:
    run, receipt = finished[1], tmp_path / "receipt.tlog-proof"
    made = json_of("log", "prove", run["run"], "-o", receipt, "--store", store)
    assert (made["entry"], made["key"]) == (run["entry"], log_key(store))
    for key in (log_key(store), store / "ledger" / "log.pub"):
        checked = json_of("log", "check", receipt, "--key", key)
        assert checked["receipt"] == "verified"
        for name in ("job", "run", "entry"):
            assert checked[name] == run[name]
        assert checked["state_out"] == run["final_state"]
        assert (checked["kind"], checked["complete"], checked["of_steps"]) == ("segment", True, 25)
        assert (checked["index"], checked["tree_size"]) == (made["index"], made["tree_size"])
        assert (checked["witnesses"], checked["unknown_signatures"]) == ([], 0)
    text = samebits_command("log", "check", receipt, "--key", log_key(store)).stdout
    assert run["final_state"] in text
    assert "witnesses" in text
    assert checked["author_name"] is None
    author = json_of("key", "show", "--store", store)["author_vkey"]
    json_of("key", "trust", author, "--name", "Alice")
    assert json_of("log", "check", receipt, "--key", key)["author_name"] == "Alice"
    assert "Alice, " in samebits_command("log", "check", receipt, "--key", log_key(store)).stdout
    shown = samebits_command("log", "show", "--store", store).stdout
    assert re.search(rf"{run['run']}  20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ  by ", shown)
    first = json_of("log", "prove", run["run"], "--itself", "-o", receipt, "--store", store)
    assert first["entry"] == run["run"]
    assert json_of("log", "check", receipt, "--key", log_key(store))["kind"] == "run"
    kept, before = tmp_path / "kept", receipt.read_bytes()
    os.link(receipt, kept)
    json_of("log", "prove", run["entry"], "-o", receipt, "--store", store)
    assert kept.read_bytes() == before  # a new file took the receipt's place, nothing was written over
    assert json_of("log", "check", receipt, "--key", log_key(store))["entry"] == run["entry"]


def test_check_says_in_one_line_what_is_wrong(
    tmp_path: Path, store: Path, finished: tuple[Path, dict[str, Any]]
) -> None:
    receipt = tmp_path / "receipt.tlog-proof"
    samebits_command("log", "prove", finished[1]["run"], "-o", receipt, "--store", store)
    key, good = log_key(store), receipt.read_text()
    other = "example.com/log+cc714670+AddamAGCsQq31Uv+08lkBzoO4XLz2qYjJa8CGmj3B1Ea"
    for text, wanted, problem in (
        (good, other, "but example.com/log is wanted"),
        (good, "nonsense", "malformed verifier key"),
        (good[:300], key, "malformed proof"),
        (good.replace("index ", "index 7"), key, "cannot be in a tree"),
        ("", key, "its first line is not c2sp.org/tlog-proof@v1"),
    ):
        receipt.write_text(text)
        done = samebits_command("log", "check", receipt, "--key", wanted, code=2)
        assert problem in done.stderr
        assert done.stderr.count("\n") == 1
    receipt.write_text(good)
    assert "--key" in samebits_command("log", "check", receipt, code=2).stderr
    assert "No such file" in samebits_command("log", "check", tmp_path / "none", "--key", key, code=2).stderr
    assert (
        "is not in this log"
        in samebits_command("log", "prove", "00" * 32, "-o", receipt, "--store", store, code=2).stderr
    )


def make_policy(path: Path, key: str, vkeys: list[str], urls: list[str], count: str = "2") -> Path:
    lines = [f"log {key}"]
    lines += [f"witness w{i} {vkey} {url}" for i, (vkey, url) in enumerate(zip(vkeys, urls, strict=True))]
    lines += [f"group all-of-them {count} " + " ".join(f"w{i}" for i in range(len(vkeys))), "quorum all-of-them"]
    path.write_text("\n".join(lines) + "\n")
    return path


def test_cosign_publishes_what_the_witnesses_sign_and_a_policy_asks_for_it(
    tmp_path: Path, store: Path, finished: tuple[Path, dict[str, Any]]
) -> None:
    run, receipt, key = finished[1]["run"], tmp_path / "receipt.tlog-proof", log_key(store)
    folders = [tmp_path / f"witness{i}" for i in range(3)]
    vkeys = [
        json_of("witness", "new", f"witness.example/w{i}", "--dir", folder)["witness"]
        for i, folder in enumerate(folders)
    ]
    with ExitStack() as stack:
        urls = [stack.enter_context(serve_witness(folder, "--log", key)) for folder in folders[:2]]
        urls.append("http://127.0.0.1:9")  # nobody is there
        policy = make_policy(tmp_path / "policy", key, vkeys, urls)
        early = samebits_command("log", "verify", "--policy", policy, "--store", store, code=2)
        assert "lacks cosignatures: all-of-them (2 more of w0, w1, w2)" in early.stderr
        samebits_command("log", "prove", run, "-o", receipt, "--policy", policy, "--store", store, code=2)
        assert not receipt.exists()

        one = samebits_command("log", "cosign", "--policy", policy, "--witness", "w0", "--store", store, code=2)
        assert "lacks cosignatures: all-of-them (1 more of w1, w2)" in one.stderr
        done = samebits_command("log", "cosign", "--policy", policy, "--store", store, "--json")
        said = json.loads(done.stdout)
        assert [seen["name"] for seen in said["witnesses"]] == ["w0", "w1"]
        assert [problem["name"] for problem in said["problems"]] == ["w2"]
        assert "samebits: witness w2: " in done.stderr

    verified = json_of("log", "verify", "--policy", policy, "--store", store)
    assert [seen["name"] for seen in verified["witnesses"]] == ["w0", "w1"]
    samebits_command("log", "prove", run, "-o", receipt, "--policy", policy, "--store", store)
    checked = json_of("log", "check", receipt, "--policy", policy)
    assert checked["witnesses"] == verified["witnesses"]
    assert checked["witnesses"][0]["time"].endswith("Z")
    by_key = json_of("log", "check", receipt, "--key", key)
    assert (by_key["witnesses"], by_key["unknown_signatures"]) == ([], 2)
    strict = make_policy(tmp_path / "strict", key, vkeys, urls, count="all")
    assert "1 more of w2" in samebits_command("log", "check", receipt, "--policy", strict, code=2).stderr
    samebits_command("log", "verify", "--store", store)
    shown = json_of("witness", "show", "--dir", folders[0])
    assert shown["witness"] == vkeys[0]
    assert [(log["origin"], log["size"], log["forks"]) for log in shown["logs"]] == [
        (verified["origin"], verified["entries"], [])
    ]


def test_a_witness_with_damaged_state_does_not_begin_to_serve(tmp_path: Path, store: Path) -> None:
    folder, key = tmp_path / "witness", log_key(store)
    vkey = json_of("witness", "new", "witness.example/w1", "--dir", folder)["witness"]
    with serve_witness(folder, "--log", key) as url:
        policy = make_policy(tmp_path / "policy", key, [vkey], [url], count="all")
        samebits_command("log", "cosign", "--policy", policy, "--store", store)
    (cosigned,) = folder.rglob("checkpoint")
    cosigned.write_bytes(cosigned.read_bytes()[:50])
    for arguments in (("serve", "--log", key), ("show",)):
        done = samebits_command("witness", *arguments, "--dir", folder, code=2)
        assert f"is damaged, in {cosigned.parent}: " in done.stderr


def test_a_witness_is_made_once_and_serves_only_from_its_own_directory(tmp_path: Path, store: Path) -> None:
    folder = tmp_path / "witness"
    assert (
        "there is no witness here"
        in samebits_command("witness", "serve", "--log", log_key(store), "--dir", folder, code=2).stderr
    )
    vkey = samebits_command("witness", "new", "witness.example/w1", "--dir", folder).stdout
    assert "witness.example/w1+" in vkey
    assert oct((folder / "witness.key").stat().st_mode)[-3:] == "600"
    before = (folder / "witness.key").read_text()
    assert "not empty" in samebits_command("witness", "new", "witness.example/w1", "--dir", folder, code=2).stderr
    assert (folder / "witness.key").read_text() == before
    assert "cannot name a witness" in samebits_command("witness", "new", "a b", "--dir", tmp_path / "x", code=2).stderr
    assert "no log to witness" in samebits_command("witness", "serve", "--dir", folder, code=2).stderr
    assert (
        "malformed verifier key" in samebits_command("witness", "serve", "--log", "x", "--dir", folder, code=2).stderr
    )
    assert json_of("witness", "show", "--dir", folder)["logs"] == []
