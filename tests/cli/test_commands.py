"""The commands as a user types them: each in a process of its own."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import lmdb
import pytest
from tests.exec.small_job import make_job

import samebits
from samebits.cas import Digest, Store, check_objects, put_tensor
from samebits.ledger import Log

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"


def samebits_command(*arguments: Any, code: int = 0, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run `samebits ARGUMENTS` and check its exit code; a traceback is never right."""
    command = [sys.executable, "-m", "samebits.cli", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env={**os.environ, **environment})
    assert done.returncode == code, (done.returncode, done.stdout, done.stderr)
    assert "Traceback" not in done.stderr
    if code == 2:
        assert done.stdout == ""
        assert done.stderr.strip()
    return done


def json_of(*arguments: Any, code: int = 0) -> Any:
    """Run a command with --json; stdout is one JSON value and nothing else."""
    return json.loads(samebits_command(*arguments, "--json", code=code).stdout)


@pytest.fixture(scope="module")
def job_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("job") / "line.job"
    samebits.save_job(make_job(), path, embed="all")
    return path


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, job_file: Path) -> tuple[Path, dict[str, Any]]:
    """A store with one finished run, and what `run --json` said. Tests do not write into it."""
    store = tmp_path_factory.mktemp("finished")
    return store, json_of("run", job_file, "--store", store, "--checkpoint-every", 10)


def copy_of(store: Path, target: Path) -> Path:
    subprocess.run(["cp", "-r", str(store), str(target)], check=True)
    return target


def test_run_prints_addresses_and_metrics(finished: tuple[Path, dict[str, Any]], job_file: Path) -> None:
    _, run = finished
    assert run["job"] == str(samebits.load_job(job_file).address)
    assert {"run", "final_state", "steps", "device", "seconds", "metrics", "entry"} <= set(run)
    assert (run["steps"], run["device"], run["commits"]) == (25, "numpy", 25)
    for name in ("run", "job", "final_state", "entry"):
        Digest.parse(run[name])


def test_verify_in_a_second_empty_store(finished: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    store, run = finished
    verdict = json_of("verify", run["run"], "--store", tmp_path, "--from", store)
    assert (verdict["verdict"], verdict["first_different_step"], verdict["device"]) == ("same", None, "numpy")
    assert (verdict["run"], verdict["final_state"]) == (run["run"], run["final_state"])
    text = samebits_command("verify", run["run"], "--store", tmp_path, "--from", store).stdout
    assert "all 25 commits" in text
    assert run["job"] in text
    assert run["entry"] in text


def test_verify_of_a_false_run_exits_with_1(tmp_path: Path) -> None:
    from tests.exec.test_run_and_verify import Fraud

    with Store(tmp_path / "a") as store:
        fraud = Fraud(store, 12, claimed=make_job())
    found = json_of("verify", fraud.run, "--store", tmp_path / "b", "--from", tmp_path / "a", code=1)
    assert (found["verdict"], found["first_different_step"]) == ("different", 12)
    assert "step 12" in samebits_command("verify", fraud.run, "--store", tmp_path / "a", code=1).stdout


def test_log_commands(finished: tuple[Path, dict[str, Any]]) -> None:
    store, run = finished
    shown = json_of("log", "show", "--store", store)
    assert [entry["kind"] for entry in shown["entries"]] == ["run", "segment", "segment", "segment"]
    assert shown["entries"][0]["address"] == run["run"]
    assert shown["checkpoint"].startswith(shown["origin"] + "\n4\n")
    assert run["run"] in samebits_command("log", "show", "--store", store).stdout
    verified = json_of("log", "verify", "--store", store)
    assert (verified["entries"], verified["runs"]) == (4, 1)


def test_store_comes_from_the_environment(finished: tuple[Path, dict[str, Any]]) -> None:
    store, run = finished
    assert run["run"] in samebits_command("log", "show", SAMEBITS_STORE=str(store)).stdout


def test_job_show_says_what_must_be_fetched(tmp_path: Path, job_file: Path) -> None:
    bare = tmp_path / "bare.job"
    samebits.save_job(make_job(), bare)
    shown = json_of("job", "show", bare)
    assert [part["embedded"] for part in shown["tensors"]] == [False] * 4
    assert all(part["embedded"] for part in json_of("job", "show", job_file)["tensors"])
    text = samebits_command("job", "show", bare).stdout
    assert "data/x  f32[40]  160 B  to be fetched" in text
    missing = samebits_command("run", bare, "--store", tmp_path / "store", code=2)
    assert "is not in the store" in missing.stderr


def test_run_fetches_what_a_job_file_lacks(finished: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    store, run = finished
    samebits.save_job(make_job(), tmp_path / "bare.job")
    again = json_of("run", tmp_path / "bare.job", "--store", tmp_path / "store", "--source", store)
    assert again["final_state"] == run["final_state"]
    by_address = json_of("run", run["job"], "--store", tmp_path / "other", "--source", store)
    assert by_address["final_state"] == run["final_state"]


def test_capture_and_run_agree_with_the_job_file(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    script = tmp_path / "train.py"
    script.write_text((EXAMPLES / "digits.py").read_text().replace("steps=500", "steps=20"))
    (tmp_path / "digits.npz").write_bytes((EXAMPLES / "digits.npz").read_bytes())
    captured = json_of("job", "capture", script, "-o", tmp_path / "train.job", "--store", tmp_path / "a")
    assert captured["size_bytes"] < 10_000
    from_script = json_of("run", script, "--store", tmp_path / "b")
    from_file = json_of("run", tmp_path / "train.job", "--store", tmp_path / "a")
    assert from_script["job"] == from_file["job"] == captured["job"]
    assert from_script["final_state"] == from_file["final_state"]


def test_shipped_digits_job_is_what_the_script_gives(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    shipped = samebits.load_job(EXAMPLES / "digits.job")
    captured = json_of("job", "capture", EXAMPLES / "digits.py", "-o", tmp_path / "digits.job", "--store", tmp_path)
    assert captured["job"] == str(shipped.address)


def test_demo_job_trains_to_95_percent_in_another_process(tmp_path: Path) -> None:
    run = json_of("run", EXAMPLES / "digits.job", "--store", tmp_path / "a")
    assert run["metrics"]["evaluation/accuracy"] >= 0.95
    verdict = json_of("verify", run["run"], "--store", tmp_path / "b", "--from", tmp_path / "a")
    assert verdict["verdict"] == "same"
    assert verdict["commits_checked"] == 500


def test_cas_commands(tmp_path: Path) -> None:
    numpy = pytest.importorskip("safetensors.numpy")
    import numpy as np

    weights, plain = tmp_path / "model.safetensors", tmp_path / "notes.txt"
    numpy.save_file({"w": np.arange(300_000, dtype=np.float32), "b": np.ones(4, np.float16)}, weights)
    plain.write_bytes(b"plain" * 100)
    store = tmp_path / "store"
    put = json_of("cas", "put", weights, plain, "--store", store)
    assert [one["kind"] for one in put] == ["weights_file", "blob"]
    assert [one["name"] for one in put] == ["model.safetensors", "notes.txt"]
    assert put[0]["size_bytes"] == weights.stat().st_size
    assert put[0]["new_bytes"] >= 1_200_008
    assert all(one["new_bytes"] == 0 for one in json_of("cas", "put", weights, plain, "--store", store))
    for one, original in zip(put, (weights, plain), strict=True):
        samebits_command("cas", "get", one["digest"], "-o", tmp_path / "back", "--store", store)
        assert (tmp_path / "back").read_bytes() == original.read_bytes()
        assert json_of("cas", "show", one["digest"], "--store", store)["digest"] == one["digest"]
    listed = json_of("cas", "ls", "--store", store)
    assert {one["digest"] for one in put} <= {one["digest"] for one in listed}
    script = subprocess.run(
        [sys.executable, "-c", "from samebits.cli.cas_main import main; main()", "ls", "--store", str(store)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert put[0]["digest"] in script.stdout


def test_doctor_reports_devices_and_store(finished: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    store, _ = finished
    found = json_of("doctor", "--store", store)
    assert found["rows_compiled"] in (True, False)
    assert found["devices"]["numpy"]["usable"]
    assert found["devices"]["numpy"]["vectors"] > 300
    assert "4 verified entries" in found["store"]["state"]
    assert "none yet" in json_of("doctor", "--store", tmp_path / "none")["store"]["state"]
    assert "conforms" in samebits_command("doctor", "--store", store).stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "none.job"], "none.job"),
        (["run", "none.py"], "none.py"),
        (["run", "{broken}"], "not a job file"),
        (["run", "{syntax}"], "syntax.py:1: SyntaxError"),
        (["run", "{raises}"], "raises.py:2: ValueError: no luck"),
        (["run", "{exits}"], "exited with 7"),
        (["run", "{lacks}"], "no function job()"),
        (["run", "{other}"], "returned a int"),
        (["run", "{lacks}:nothing"], "no function nothing()"),
        (["run", "{job}", "--device", "abacus"], "unknown device 'abacus'"),
        (["run", "{job}", "--commit-every", "0"], "commit-every"),
        (["verify", "abc"], "names no run: want RUN, PLACE/RUN"),
        (["verify", "0" * 64], "neither in its ledger nor taken home"),
        (["verify", "0" * 64, "--from", "{broken}"], "is not a directory"),
        (["job", "show", "{broken}"], "not a job file"),
        (["job", "capture", "{lacks}", "-o", "out.job"], "no function job()"),
        (["cas", "put", "none.txt"], "none.txt"),
        (["cas", "put", "{bad_weights}"], "bad.safetensors"),
        (["cas", "get", "0" * 64, "-o", "out"], "no store"),
        (["cas", "show", "xyz"], "no store"),
        (["log", "show"], "no log"),
        (["log", "verify"], "no log"),
    ],
)
def test_bad_input_gives_one_line_and_exit_code_2(
    tmp_path: Path, job_file: Path, arguments: list[str], message: str
) -> None:
    scripts = {
        "syntax": "def job(:\n",
        "raises": "def job():\n    raise ValueError('no luck')\n",
        "exits": "raise SystemExit(7)\n",
        "lacks": "x = 1\n",
        "other": "def job():\n    return 3\n",
    }
    names = {name: str(tmp_path / f"{name}.py") for name in scripts}
    for name, text in scripts.items():
        Path(names[name]).write_text(text)
    (tmp_path / "broken").write_bytes(b"\x93\x01")
    (tmp_path / "bad.safetensors").write_bytes(b"\xff" * 100)
    names |= {
        "broken": str(tmp_path / "broken"),
        "bad_weights": str(tmp_path / "bad.safetensors"),
        "job": str(job_file),
    }
    given = [argument.format(**names) for argument in arguments]
    done = samebits_command(*given, "--store", tmp_path / "store", code=2)
    assert message in done.stderr
    if "Usage" not in done.stderr:
        assert len(done.stderr.strip().splitlines()) == 1, done.stderr


UNFAITHFUL = """
import torch
from torch import nn
import samebits

def job():
    model = nn.Linear(4, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def step(x):
        optimizer.zero_grad()
        loss = model(x).mean()
        if loss.item() > 0: loss = -loss
        loss.backward()
        optimizer.step()
        return {"loss": loss}

    data = {"x": torch.zeros(8, 4)}
    return samebits.training_job(step, model=model, optimizer=optimizer, data=data, batch_size=4, steps=2)
"""


def test_script_that_cannot_be_captured_is_refused_with_its_line(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    script = tmp_path / "unfaithful.py"
    script.write_text(UNFAITHFUL)
    for command in (["run", script], ["job", "capture", script, "-o", tmp_path / "out.job"]):
        said = samebits_command(*command, "--store", tmp_path / "store", code=2).stderr
        assert "unfaithful.py:13: if loss.item() > 0: loss = -loss" in said
        assert "aten._local_scalar_dense" in said
        assert len(said.strip().splitlines()) == 1
    assert not (tmp_path / "out.job").exists()


def flip_byte(file: Path) -> None:
    """Flip a bit in the middle of a file."""
    damaged = bytearray(file.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    file.write_bytes(damaged)


def flip(database: Path, pick: int, *, named: bytes) -> str:
    """Flip one byte of a value in an LMDB database; returns the key."""
    env = lmdb.open(str(database), max_dbs=16, map_size=1 << 30)
    inner = env.open_db(named, create=False)
    with env.begin(write=True) as transaction:
        items = [(bytes(key), bytes(value)) for key, value in transaction.cursor(db=inner) if value]
        key, value = items[pick % len(items)]
        damaged = bytearray(value)
        damaged[len(value) // 2] ^= 1
        transaction.put(key, bytes(damaged), db=inner)
    env.close()
    return key.hex()


@pytest.mark.parametrize("pick", range(0, 60, 7))
def test_verify_or_log_verify_catches_a_flipped_byte(
    finished: tuple[Path, dict[str, Any]], tmp_path: Path, pick: int
) -> None:
    store, run = finished
    for database in ("cas", "ledger"):
        copy = copy_of(store, tmp_path / database)
        if database == "cas":
            flip(copy / database, pick, named=b"objects")
        else:
            files = sorted(path for path in (copy / database).rglob("*") if "tile" in path.parts and path.is_file())
            flip_byte([*files, copy / database / "checkpoint"][pick % (len(files) + 1)])
        first = subprocess.run(
            [sys.executable, "-m", "samebits.cli", "verify", run["run"], "--store", str(copy)],
            capture_output=True,
            text=True,
        )
        second = subprocess.run(
            [sys.executable, "-m", "samebits.cli", "log", "verify", "--store", str(copy)],
            capture_output=True,
            text=True,
        )
        assert 2 in (first.returncode, second.returncode), (first.stdout, second.stdout)
        said = (first.stderr if first.returncode else "") + (second.stderr if second.returncode else "")
        assert "Traceback" not in said
        assert any(word in said for word in ("damaged", "entry", "checkpoint", "not intact", "log"))


def test_killed_runs_leave_a_store_that_opens_and_holds_no_half_object(tmp_path: Path, job_file: Path) -> None:
    rng = random.Random(4)
    longer = tmp_path / "longer.job"
    samebits.save_job(make_job(steps=5000), longer, embed="all")
    store = tmp_path / "store"
    for _ in range(6):
        command = [
            sys.executable,
            "-m",
            "samebits.cli",
            "run",
            str(longer),
            "--store",
            str(store),
            "--checkpoint-every",
            "5",
        ]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 30
        while not (store / "ledger" / "checkpoint").exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(rng.uniform(0.0, 1.5))
        process.send_signal(signal.SIGKILL)
        process.wait()
    with Store(store) as opened:
        objects = [info.digest for info in opened.objects() if info.kind == "blob"]
        assert not check_objects(opened, objects)[1]
        put_tensor(opened, __import__("numpy").zeros(3))
    json_of("log", "verify", "--store", store)
    for chain in Log.open(store / "ledger", read_only=True).runs():
        if chain.segments:
            found = json_of("verify", chain.run_address, "--store", store, "--partial")
            assert found["verdict"] == "same"
            break
    assert json_of("run", job_file, "--store", store)["steps"] == 25
