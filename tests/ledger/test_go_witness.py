"""What Go's golang.org/x/mod/sumdb thinks of our cosignatures and receipts, and our witness of a log kept by Go."""

from __future__ import annotations

import base64
import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.ledger.test_go_interop import ENVIRONMENT, go
from tests.ledger.witness_places import policy_witness, serving_witness, witness_key

from samebits.ledger.cosignature import WitnessVerifierKey
from samebits.ledger.cosigned import open_cosigned
from samebits.ledger.entry import Entry, encode_entry, entry_address
from samebits.ledger.keys import SigningKey
from samebits.ledger.log import Log
from samebits.ledger.policy import Policy, PolicyWitness
from samebits.ledger.proof_file import format_proof
from samebits.ledger.receipt import make_receipt
from samebits.ledger.witness import Witness
from samebits.ledger.witness_client import cosign_log
from samebits.ledger.witness_state import WitnessState

__all__ = ["go"]  # the fixture

PROGRAM = Path(__file__).parent / "go" / "witness.go"


def test_go_accepts_our_cosignatures_and_receipts_and_we_witness_a_log_of_go(
    go: str, tmp_path: Path, log: Log, make_entries: Callable[..., list[Entry]]
) -> None:
    entries = make_entries(log.origin, 20)
    log.append(entries)
    go_log = SigningKey.generate("go.example/log")
    (tmp_path / "witness").mkdir()
    witness = Witness(WitnessState(tmp_path / "witness"), witness_key("w"), [log.verifier, go_log.verifier])
    binary = tmp_path / "witness_client"
    subprocess.run([go, "build", "-o", str(binary), str(PROGRAM)], env=ENVIRONMENT, check=True, timeout=300)
    with serving_witness(witness) as url:
        note = cosign_log(log, [policy_witness("w", url)]).note
        request = {
            "log_vkey": log.verifier.vkey,
            "witness_vkey": witness_key("w").verifier.vkey,
            "note": note,
            "receipt": format_proof(make_receipt(log, entry_address(entries[13]))),
            "entry": base64.b64encode(encode_entry(entries[13])).decode(),
            "url": url,
            "skey": go_log.format(),
        }
        ran = subprocess.run(
            [binary], input=json.dumps(request), text=True, capture_output=True, timeout=60, check=False
        )
    assert ran.returncode == 0, ran.stderr
    answer: dict[str, Any] = json.loads(ran.stdout)
    assert answer["statuses"] == [200, 200, 200, 200, 200, 409, 409, 409, 422, 200]
    key = WitnessVerifierKey.parse(answer["vkey"])
    assert key.vkey == answer["vkey"]
    policy = Policy((), (PolicyWitness("go", key), PolicyWitness("w", witness_key("w").verifier)), (), "go")
    opened = open_cosigned(answer["note"].encode(), policy, log.verifier)
    assert [seen.witness for seen in opened.witnessings] == ["go", "w"]
    assert opened.witnessings[0].time_s == 1_700_000_000
