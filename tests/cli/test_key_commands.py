"""`samebits key`: the user's keys and the trust file, as a user types it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

import samebits
from samebits.cli.main import app
from samebits.ledger import Log, SigningKey, VerifierKey, load_key

ALICE = SigningKey("alice.example", bytes([1]) * 32)
BOB = SigningKey("bob.example", bytes([2]) * 32)


def key(*arguments: Any, code: int = 0) -> Result:
    """Run `samebits key ARGUMENTS` and check its exit code."""
    done = CliRunner().invoke(app, ["key", *map(str, arguments)])
    assert done.exit_code == code, (done.stdout, done.stderr, done.exception)
    if code:
        assert done.stdout == ""
        assert done.stderr.startswith("samebits: ")
        assert done.stderr.count("\n") == 1
    return done


def json_of(*arguments: Any) -> Any:
    return json.loads(key(*arguments, "--json").stdout)


def test_new_makes_the_stores_author_key_once(tmp_path: Path) -> None:
    made = json_of("new", "--name", "alice.example", "--store", tmp_path)
    path = tmp_path / "keys" / "author.key"
    assert made == {"author_vkey": load_key(path).vkey, "author_key_file": str(path)}
    assert made["author_vkey"].startswith("alice.example+")
    assert path.stat().st_mode & 0o777 == 0o600
    before = path.read_bytes()
    assert "never overwritten" in key("new", "--store", tmp_path, code=2).stderr
    assert path.read_bytes() == before


def test_new_makes_a_key_in_another_file_and_runs_are_signed_with_it(tmp_path: Path) -> None:
    from tests.exec.small_job import make_job

    store, path = tmp_path / "store", tmp_path / "here.key"
    vkey = json_of("new", "-o", path)["author_vkey"]
    samebits.save_job(make_job(steps=1), tmp_path / "a.job", embed="all")
    done = CliRunner().invoke(
        app, ["run", str(tmp_path / "a.job"), "--store", str(store), "--key", str(path), "--json"]
    )
    assert done.exit_code == 0, done.stderr
    verified = CliRunner().invoke(
        app, ["verify", json.loads(done.stdout)["run"], "--store", str(store), "--key", str(path), "--json"]
    )
    public = VerifierKey.parse(vkey).public
    assert json.loads(verified.stdout)["run_author"] == public.hex()
    with Log.open(store / "ledger", read_only=True) as log:
        assert [entry.author for entry in log.entries()] == [public] * 3
    assert not (store / "keys").exists()
    wrong = CliRunner().invoke(app, ["run", str(tmp_path / "a.job"), "--store", str(store), "--key", str(tmp_path)])
    assert (wrong.exit_code, "key file" in wrong.stderr) == (2, True)


@pytest.mark.parametrize("name", ["", "a b", "a+b", "samebits.local/log/0123456789abcdef"])
def test_new_refuses_names_that_a_key_cannot_have(name: str, tmp_path: Path) -> None:
    assert "cannot name an author's key" in key("new", "--name", name, "--store", tmp_path, code=2).stderr
    assert list(tmp_path.iterdir()) == []


def test_new_refuses_a_link_that_leads_nowhere(tmp_path: Path) -> None:
    (tmp_path / "a.key").symlink_to(tmp_path / "missing")
    assert "never overwritten" in key("new", "-o", tmp_path / "a.key", code=2).stderr
    assert not (tmp_path / "missing").exists()


def test_show_gives_both_public_halves_and_nothing_private(tmp_path: Path, own_trust_file: Path) -> None:
    assert json_of("show", "--store", tmp_path / "none") == {
        "log_vkey": None,
        "author_vkey": None,
        "log_pub_file": None,
        "author_key_file": None,
        "trust_file": str(own_trust_file),
    }
    assert not (tmp_path / "none").exists()
    with Log.open(tmp_path / "ledger") as log:
        log_vkey = log.verifier.vkey
    author = json_of("new", "--store", tmp_path)["author_vkey"]
    shown = json_of("show", "--store", tmp_path)
    assert (shown["log_vkey"], shown["author_vkey"]) == (log_vkey, author)
    assert shown["log_vkey"] != shown["author_vkey"]
    text = key("show", "--store", tmp_path).stdout
    assert "PRIVATE" not in text + json.dumps(shown)
    for path in (tmp_path / "keys" / "author.key", tmp_path / "ledger" / "log.key"):
        assert path.read_text().split("+", 4)[4].strip() not in text


def test_trust_list_untrust(own_trust_file: Path) -> None:
    assert json_of("trust", "--list") == {"trust_file": str(own_trust_file), "keys": []}
    key("trust", ALICE.vkey, "--name", "Alice")
    key("trust", BOB.vkey, "--as", "author:verdicts")
    assert json_of("trust", "--list")["keys"] == [
        {"role": "author", "name": "Alice", "vkey": ALICE.vkey},
        {"role": "author:verdicts", "name": "bob.example", "vkey": BOB.vkey},
    ]
    assert "no longer trusted: author Alice" in key("untrust", "Alice").stdout
    assert "Alice" not in key("trust", "--list").stdout
    assert "bob.example" in key("trust", "--list").stdout
    assert "no key and no name Alice" in key("untrust", "Alice", code=2).stderr


def test_trust_takes_a_file_of_a_key(tmp_path: Path) -> None:
    file = tmp_path / "alice.pub"
    file.write_text(f"{ALICE.verifier.vkey}\n")
    assert [one["vkey"] for one in json_of("trust", file)["keys"]] == [ALICE.verifier.vkey]
    file.write_text("no key\n")
    assert "key" in key("trust", file, code=2).stderr


def test_trust_takes_a_key_with_a_logs_name_for_a_log(tmp_path: Path) -> None:
    with Log.open(tmp_path / "ledger") as log:
        vkey = log.verifier.vkey
    key("trust", vkey)
    assert json_of("trust", "--list")["keys"][0]["role"] == "log"
    assert "key of a log" in key("trust", vkey, "--as", "author", code=2).stderr


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ((), "give a verifier key, or --list"),
        ((ALICE.vkey, "--list"), "give a verifier key, or --list"),
        (("nonsense",), "malformed verifier key"),
        ((ALICE.vkey, "--as", "friend"), "--as is one of log, author"),
        ((ALICE.vkey, "--name", "a\nb"), "printable"),
        (("a+00000000+AQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",), "small order"),
    ],
)
def test_trust_refuses(arguments: tuple[str, ...], problem: str, own_trust_file: Path) -> None:
    assert problem in key("trust", *arguments, code=2).stderr
    assert not own_trust_file.exists()


def test_trust_refuses_a_private_key_without_showing_it() -> None:
    error = key("trust", ALICE.format(), code=2).stderr
    assert "private key" in error
    assert ALICE.format()[-40:] not in error


@pytest.mark.skipif(sys.platform != "linux", reason="the folder of the user's configuration is elsewhere")
def test_the_trust_file_is_in_the_users_configuration(tmp_path: Path) -> None:
    environment = {**os.environ, "XDG_CONFIG_HOME": str(tmp_path)}
    del environment["SAMEBITS_TRUST"]
    command = [sys.executable, "-m", "samebits.cli", "key", "trust"]
    subprocess.run([*command, ALICE.vkey], env=environment, check=True, capture_output=True)
    path = tmp_path / "samebits" / "trust"
    assert path.stat().st_mode & 0o777 == 0o644
    listed = subprocess.run([*command, "--list"], env=environment, check=True, capture_output=True, text=True)
    assert ALICE.vkey in listed.stdout
    elsewhere = subprocess.run(
        [*command, "--list", "--trust", str(tmp_path / "none")], env=environment, check=True, capture_output=True
    )
    assert elsewhere.stdout == b""


def test_a_bad_line_of_the_trust_file_is_named(own_trust_file: Path) -> None:
    own_trust_file.write_text("# mine\nautor x\n")
    own_trust_file.chmod(0o644)
    assert f"trust file {own_trust_file}, line 2: " in key("trust", "--list", code=2).stderr
