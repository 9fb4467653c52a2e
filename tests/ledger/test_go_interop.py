"""What Go's golang.org/x/mod/sumdb (note, tlog) thinks of our notes, trees and proofs, and we of its.

Runs where a Go toolchain is found (environment variable GO, or `go` on the PATH) whose GOPATH holds golang.org/x/mod,
which is how Debian's packages golang-go and golang-golang-x-mod-dev install it.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from samebits.ledger.entry import Entry, encode_entry
from samebits.ledger.keys import SigningKey, VerifierKey
from samebits.ledger.log import Log
from samebits.ledger.merkle import consistency_proof, leaf_hash, root_hash
from samebits.ledger.note import open_note, sign_note

PROGRAM = Path(__file__).parent / "go" / "interop.go"
ENVIRONMENT = {**os.environ, "GO111MODULE": "off"}


@pytest.fixture(scope="module")
def go() -> str:
    command = os.environ.get("GO") or shutil.which("go")
    if command is None:
        pytest.skip("no Go toolchain (set GO, or have go on the PATH)")
    packages = ["golang.org/x/mod/sumdb/note", "golang.org/x/mod/sumdb/tlog"]
    listed = subprocess.run([command, "list", *packages], env=ENVIRONMENT, capture_output=True, check=False)
    if listed.returncode:
        pytest.skip("the GOPATH holds no golang.org/x/mod")
    return command


def encode(data: bytes) -> str:
    return base64.b64encode(data).decode()


def encode_all(proofs: list[tuple[bytes, ...]]) -> list[list[str]]:
    return [[encode(item) for item in proof] for proof in proofs]


def test_go_accepts_our_log_and_gives_the_same_proofs(
    go: str, tmp_path: Path, log: Log, author: SigningKey, make_entries: Callable[..., list[Entry]]
) -> None:
    log.append(make_entries(log.origin, 69))
    entries = [encode_entry(entry) for entry in log.entries()]
    hashes = [leaf_hash(entry) for entry in entries]
    inclusion = [log.inclusion_proof(index) for index in range(70)]
    consistency = [consistency_proof(hashes, size) for size in range(1, 71)]
    request = {
        "vkey": log.verifier.vkey,
        "skey": author.format(),
        "note": log.checkpoint(),
        "entries": [encode(entry) for entry in entries],
        "inclusion": encode_all(inclusion),
        "consistency": encode_all(consistency),
    }
    binary = tmp_path / "interop"
    subprocess.run([go, "build", "-o", str(binary), str(PROGRAM)], env=ENVIRONMENT, check=True, timeout=300)
    ran = subprocess.run([binary], input=json.dumps(request), text=True, capture_output=True, timeout=60, check=False)
    assert ran.returncode == 0, ran.stderr

    answer: dict[str, Any] = json.loads(ran.stdout)
    assert answer["origin"] == log.origin
    assert answer["roots"] == [encode(root_hash(hashes[:size])) for size in range(1, 71)]
    assert answer["inclusion"] == request["inclusion"]
    assert answer["consistency"] == request["consistency"]

    go_key = SigningKey.parse(answer["skey"])
    assert go_key.vkey == answer["vkey"]
    assert go_key.format() == answer["skey"]
    assert VerifierKey.parse(answer["vkey"]) == go_key.verifier
    note = open_note(answer["note"].encode(), [author.verifier, go_key.verifier])
    assert len(note.verified) == 2
    assert sign_note(note.text, [author, go_key]) == answer["note"]  # Ed25519 is deterministic
