"""Whose entries count: `log verdicts`, `log show` and `verify` with a trust file."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.exec.small_job import make_job
from typer.testing import CliRunner, Result

import samebits
from samebits.cas import Digest, Store
from samebits.cas.digest import hash_blob
from samebits.cli.main import app
from samebits.exec.author import author_key
from samebits.exec.verification.sampling import draw_segments
from samebits.ledger import (
    Log,
    RunBody,
    Sample,
    SigningKey,
    VerdictBody,
    encode_entry,
    entry_address,
    load_key,
    sign_entry,
)
from samebits.ledger.checkpoint import Checkpoint, sign_checkpoint
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


@pytest.fixture
def forged(made: tuple[Path, Digest], tmp_path: Path) -> tuple[Path, Digest]:
    """A copy of the store whose operator put in a run in Alice's name, and that run's address."""
    path = tmp_path / "forged"
    shutil.copytree(made[0], path)
    with Log.open(path / "ledger") as log:
        body = RunBody(hash_blob(b"job"), bytes(16), 4, 1, 4)
        entry = replace(sign_entry(log.origin, None, body, ALICE), signature=bytes([1]) * 64)
        key = load_key(path / "ledger" / "log.key")
        with log._storage.writing() as writer:
            writer.append(
                [encode_entry(entry)], lambda *head: sign_checkpoint(Checkpoint(key.name, *head), key).encode()
            )
    return path, entry_address(entry)


def test_an_entry_that_its_author_did_not_sign_is_shown_as_nobodys(
    forged: tuple[Path, Digest], own_trust_file: Path, tmp_path: Path
) -> None:
    store, address = forged
    trust(own_trust_file, ALICE, name="Alice")
    find = ("log", "find", "--job", hash_blob(b"job"))
    for arguments in (("log", "show"), find):
        lines = command(*arguments, "--store", store).stdout.splitlines()
        (line,) = [line for line in lines if str(address) in line]
        assert f"  SIGNATURE DOES NOT VERIFY  claims {ALICE.public.hex()[:12]}…  " in line
        assert "Alice" not in line
        entry = json_of(*arguments, "--store", store)["entries"][-1]
        assert (entry["signature_verifies"], entry["author_name"], entry["counts"]) == (False, None, False)
    assert all(entry["signature_verifies"] for entry in json_of("log", "show", "--store", store)["entries"][:-1])
    receipt = tmp_path / "r.tlog-proof"
    for more in ((), ("--itself",)):
        done = command("log", "prove", address, *more, "-o", receipt, "--store", store, code=2)
        assert f"entry 6 ({str(address)[:16]})" in done.stderr
        assert "does not verify" in done.stderr
    assert not receipt.exists()


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


def test_a_sample_that_was_not_drawn_so_does_not_count_but_a_difference_does(tmp_path: Path) -> None:
    with Store(tmp_path) as store:
        run = samebits.run(make_job(steps=6), store, checkpoint_every=1)
        with Log.open(tmp_path / "ledger") as log:
            right = draw_segments(run.address, run.entry, 6, 4, nonce=b"", beacon=b"beacon", checkpoint="")
            wrong = (0, 1, 2, 3) if right != (0, 1, 2, 3) else (2, 3, 4, 5)
            sample = Sample(None, b"", b"beacon", store.put_blob(log.checkpoint().encode()), wrong)
            for result, step in (("same", None), ("different", 2)):
                body = VerdictBody(run.address, 0, 6, result, step, "numpy", sample)  # type: ignore[arg-type]
                log.append([sign_entry(log.origin, run.entry, body, author_key(store), time=1)])
    found = json_of("log", "verdicts", run.address, "--store", tmp_path)["verdicts"]
    assert [(one["result"], one["draw"], one["counts"]) for one in found] == [
        ("different", "wrong", True),
        ("same", "wrong", False),
    ]
    text = command("log", "verdicts", run.address, "--store", tmp_path).stdout
    assert "doubted  same  steps 0:6  by you (who ran it)  on numpy  sample of 4 segments by beacon" in text
    assert f"by beacon {b'beacon'.hex()}, THE DRAW IS WRONG" in text
