"""Exported statements, read by programs that nobody here wrote: in-toto-attestation, securesystemslib, hashlib."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from blake3 import blake3
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from tests.exec.small_job import make_job
from typer.testing import CliRunner, Result

import samebits
from samebits.cas import Digest, Store
from samebits.cas.digest import NODE_CONTEXT
from samebits.cli.main import app
from samebits.exec.attestation import BUILD_TYPE, PROVENANCE, run_statement
from samebits.exec.author import author_key
from samebits.exec.errors import RunError
from samebits.exec.ledger_folder import LEDGER_FOLDER
from samebits.exec.verification.selection import SampleRequest
from samebits.ledger import Log, SigningKey, VerdictBody, VerifierKey, sign_entry
from samebits.ledger.intoto import STATEMENT_TYPE

intoto = pytest.importorskip("in_toto_attestation.v1.statement")
protobuf = pytest.importorskip("google.protobuf.json_format")
dsse = pytest.importorskip("securesystemslib.dsse")
sslib = pytest.importorskip("securesystemslib.signer")


def command(*arguments: Any, code: int = 0) -> Result:
    done = CliRunner().invoke(app, [*map(str, arguments)])
    assert done.exit_code == code, (done.stdout, done.stderr, done.exception)
    return done


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any, Any]:
    """A store with a run of 5 steps in segments of 2, the run, and a verdict on it by the same author."""
    path = tmp_path_factory.mktemp("attested")
    with Store(path) as store:
        run = samebits.run(make_job(steps=5), store, checkpoint_every=2)
        return path, run, samebits.verify(run.address, store)


@pytest.fixture(autouse=True)
def trust_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("SAMEBITS_TRUST", str(tmp_path / "trust"))
    yield tmp_path / "trust"


def export(store: Path, address: Digest, file: Path, *more: Any) -> dict[str, Any]:
    """Export into a file; returns the payload, after securesystemslib verified it and in-toto-attestation read it."""
    command("log", "export", address, "--format", "in-toto", "-o", file, "--store", store, *more)
    with Store(store) as opened:
        public = Ed25519PublicKey.from_public_bytes(author_key(opened).public)
    envelope = dsse.Envelope.from_dict(json.loads(file.read_text()))
    envelope.verify([sslib.SSlibKey.from_crypto(public)], 1)
    assert envelope.payload_type == "application/vnd.in-toto+json"
    statement = intoto.spb.Statement()
    protobuf.Parse(envelope.payload, statement)
    intoto.Statement.copy_from_pb(statement).validate()
    value: dict[str, Any] = json.loads(envelope.payload)
    assert value["_type"] == STATEMENT_TYPE
    return value


def predicate_of(module: str, message: str, value: dict[str, Any]) -> Any:
    """Return the predicate as a message of in-toto-attestation's own definition, in which no field is unknown."""
    found = getattr(pytest.importorskip(f"in_toto_attestation.predicates.{module}"), message)()
    protobuf.ParseDict(value["predicate"], found)
    return found


def test_run_is_exported_as_provenance(made: tuple[Path, Any, Any], tmp_path: Path) -> None:
    store, run, _ = made
    value = export(store, run.address, tmp_path / "run.json")
    assert value["predicateType"] == "https://slsa.dev/provenance/v1"
    found = predicate_of("provenance.v1.provenance_pb2", "Provenance", value)
    assert found.build_definition.build_type == BUILD_TYPE
    assert found.build_definition.external_parameters["job"] == str(run.job)
    assert found.build_definition.external_parameters["steps"] == 5
    metadata = found.run_details.metadata
    assert metadata.invocation_id == str(run.address)
    with Log.open(store / LEDGER_FOLDER, read_only=True) as log:
        chain = log.chain(run.address)
        claimed = (chain.run.time, chain.segments[-1].entry.time)
    assert (metadata.started_on.ToSeconds(), metadata.finished_on.ToSeconds()) == claimed
    with Store(store) as opened:
        assert found.run_details.builder.id.endswith("/" + author_key(opened).public.hex())
    names = [one.name for one in found.build_definition.resolved_dependencies]
    assert names[:2] == ["job", "graph/step"]
    assert {"data", "data/x", "data/y", "initial-state/w", "graph/evaluation", "evaluation-data/target"} <= set(names)
    assert [one.name for one in found.run_details.byproducts] == [
        "entry/run",
        "entry/last",
        "commits/0:2",
        "commits/2:4",
        "commits/4:5",
    ]


def all_resources(value: dict[str, Any]) -> list[dict[str, Any]]:
    predicate = value["predicate"]
    dependencies = predicate["buildDefinition"]["resolvedDependencies"]
    return [*value["subject"], *dependencies, *predicate["runDetails"]["byproducts"]]


def test_digests_are_those_of_the_stored_bytes(made: tuple[Path, Any, Any], tmp_path: Path) -> None:
    """Each is computed again from the bytes, with the hash that its name says."""
    path, run, _ = made
    value = export(path, run.address, tmp_path / "run.json")
    with Store(path) as store, Log.open(path / "ledger", read_only=True) as log:
        entries = {samebits.ledger.entry_address(e): samebits.ledger.encode_entry(e) for e in log.entries()}
        for resource in all_resources(value):
            digest = resource["digest"]
            assert set(digest) >= {"sha256", "blake3"}, resource
            address = Digest.parse(digest.get("samebitsNode", digest["blake3"]))
            read = store.get_encoded if "samebitsNode" in digest else store.get_blob
            data = entries.get(address) or read(address)
            assert hashlib.sha256(data).hexdigest() == digest["sha256"]
            assert blake3(data).hexdigest() == digest["blake3"]
            if "samebitsNode" in digest:
                assert blake3(data, derive_key_context=NODE_CONTEXT).hexdigest() == digest["samebitsNode"]


def test_subject_is_the_final_state_and_its_tensors(made: tuple[Path, Any, Any], tmp_path: Path) -> None:
    path, run, _ = made
    subjects = export(path, run.address, tmp_path / "run.json")["subject"]
    assert [subject["name"] for subject in subjects] == ["state", "state/w"]
    assert subjects[0]["digest"]["samebitsNode"] == str(run.final_state)
    with Store(path) as store:
        w = store.tensor(samebits.cas.get_tree(store, run.final_state)["w"])
    assert subjects[1]["digest"]["sha256"] == hashlib.sha256(w.tobytes()).hexdigest()
    assert subjects[1]["annotations"] == {"samebits_dtype": "f32", "samebits_shape": []}


def test_what_the_store_lacks_has_its_address_only(made: tuple[Path, Any, Any], tmp_path: Path) -> None:
    path, run, _ = made
    with Log.open(path / "ledger", read_only=True) as log, Store(tmp_path / "empty") as empty:
        statement = run_statement(log.chain(run.address), empty)
    assert statement.subjects[0].digest == {"samebitsNode": str(run.final_state)}
    dependencies = statement.predicate["buildDefinition"]["resolvedDependencies"]
    assert [(one["name"], set(one["digest"])) for one in dependencies] == [("job", {"samebitsNode"})]


def test_verdict_is_exported_as_a_test_result(made: tuple[Path, Any, Any], tmp_path: Path) -> None:
    path, run, verdict = made
    value = export(path, verdict.entry, tmp_path / "verdict.json")
    found = predicate_of("test_result.v0.test_result_pb2", "TestResult", value)
    assert value["predicateType"] == "https://in-toto.io/attestation/test-result/v0.1"
    assert found.result == "PASSED"
    assert list(found.passed_tests) == ["replay of steps 0:5"]
    configuration = {one.name: one.digest["samebitsNode"] for one in found.configuration}
    assert configuration == {
        "verdict": str(verdict.entry),
        "run": str(run.address),
        "last-segment": str(run.entry),
        "job": str(run.job),
    }
    assert [subject["name"] for subject in value["subject"]] == ["state", "state/w"]


def test_verdict_of_different_has_failed(made: tuple[Path, Any, Any], tmp_path: Path) -> None:
    path, run, _ = made
    with Store(path) as store, Log.open(path / "ledger") as log:
        body = VerdictBody(run.address, 0, 5, "different", 3, "numpy")
        entry = sign_entry(log.origin, run.entry, body, author_key(store))
        log.append([entry])
    value = export(path, samebits.ledger.entry_address(entry), tmp_path / "verdict.json")
    assert value["predicate"]["result"] == "FAILED"
    assert value["predicate"]["failedTests"] == ["replay of steps 0:5: step 3 is the first that differs"]
    assert value["predicate"]["passedTests"] == []


def test_verdict_on_a_sample_does_not_claim_a_replay_of_everything(tmp_path: Path) -> None:
    with Store(tmp_path) as store:
        run = samebits.run(make_job(steps=5), store, checkpoint_every=1)
        verdict = samebits.verify(run.address, store, selection=SampleRequest(2))
    assert verdict.entry is not None
    value = export(tmp_path, verdict.entry, tmp_path / "sampled.json")
    said = "replay of 2 drawn segments of steps 0:5, not of the others"
    assert value["predicate"]["passedTests"] == [said]


def test_verdict_on_a_run_of_another_log_has_the_state_with_from(made: tuple[Path, Any, Any], tmp_path: Path) -> None:
    path, run, _ = made
    with Store(tmp_path / "b") as mine, Store(path, read_only=True) as theirs:
        verdict = samebits.verify(run.address, mine, source=theirs)
    assert verdict.entry is not None
    value = export(tmp_path / "b", verdict.entry, tmp_path / "alone.json")
    assert value["subject"] == [{"name": "last-segment", "digest": {"samebitsNode": str(run.entry)}}]
    value = export(tmp_path / "b", verdict.entry, tmp_path / "with.json", "--from", path)
    assert value["subject"][0]["digest"]["samebitsNode"] == str(run.final_state)


def test_verdict_that_ends_within_a_segment_is_not_about_the_state_after_it(
    made: tuple[Path, Any, Any], tmp_path: Path
) -> None:
    path, run, _ = made
    with Store(path) as store, Log.open(path / "ledger") as log:
        last = log.chain(run.address).segments[1]
        body = VerdictBody(run.address, 0, 3, "same", None, "numpy")
        entry = sign_entry(log.origin, last.address, body, author_key(store))
        log.append([entry])
    (subject,) = export(path, samebits.ledger.entry_address(entry), tmp_path / "verdict.json")["subject"]
    assert (subject["name"], subject["digest"]["samebitsNode"]) == ("last-segment", str(last.address))


def test_a_run_that_stops_early_is_exported_only_when_asked_for(tmp_path: Path) -> None:
    def stop(done: int, steps: int, metrics: object) -> None:
        if done == 3:
            raise KeyboardInterrupt

    with Store(tmp_path) as store:
        with pytest.raises(KeyboardInterrupt):
            samebits.run(make_job(steps=5), store, checkpoint_every=2, progress=stop)
        with Log.open(tmp_path / "ledger", read_only=True) as log:
            (chain,) = log.runs()
    arguments = ("log", "export", chain.run_address, "--store", tmp_path)
    assert "stops after 2 of 5 steps" in command(*arguments, code=2).stderr
    value = export(tmp_path, chain.run_address, tmp_path / "run.json", "--partial")
    assert value["predicate"]["buildDefinition"]["externalParameters"]["steps"] == 2
    assert value["subject"][0]["digest"]["samebitsNode"] == str(chain.state)


def test_any_changed_byte_of_the_payload_is_refused_by_both(made: tuple[Path, Any, Any], tmp_path: Path) -> None:
    store, run, _ = made
    export(store, run.address, tmp_path / "run.json")
    with Store(store) as opened:
        author = author_key(opened)
    public = sslib.SSlibKey.from_crypto(Ed25519PublicKey.from_public_bytes(author.public))
    text = (tmp_path / "run.json").read_text()
    length = len(json.loads(text)["payload"])
    start = text.index('"payload":"') + len('"payload":"')
    for place in range(start, start + length - 4, length // 15):
        changed = text[:place] + ("A" if text[place] != "A" else "B") + text[place + 1 :]
        (tmp_path / "changed.json").write_text(changed)
        with pytest.raises(Exception, match="threshold"):
            dsse.Envelope.from_dict(json.loads(changed)).verify([public], 1)
        error = command("log", "check-export", tmp_path / "changed.json", "--key", author.vkey, code=2).stderr
        assert "no valid signature" in error


def test_check_export_needs_the_file_and_the_key_only(made: tuple[Path, Any, Any], tmp_path: Path) -> None:
    store, run, verdict = made
    export(store, run.address, tmp_path / "run.json")
    export(store, verdict.entry, tmp_path / "verdict.json")
    with Store(store) as opened:
        vkey = author_key(opened).vkey
    found = json.loads(command("log", "check-export", tmp_path / "run.json", "--key", vkey, "--json").stdout)
    assert (found["signature"], found["signer"]) == ("verified", VerifierKey.parse(vkey).public.hex())
    assert found["subjects"][0]["digest"]["samebitsNode"] == str(run.final_state)
    text = command("log", "check-export", tmp_path / "verdict.json", "--key", vkey).stdout
    assert "result          PASSED" in text
    wrong = SigningKey("b.example", bytes(32)).vkey
    error = command("log", "check-export", tmp_path / "run.json", "--key", wrong, code=2).stderr
    assert "no valid signature by b.example" in error


def test_check_export_without_a_key_takes_whom_the_trust_file_names(
    made: tuple[Path, Any, Any], tmp_path: Path
) -> None:
    store, run, verdict = made
    export(store, run.address, tmp_path / "run.json")
    export(store, verdict.entry, tmp_path / "verdict.json")
    with Store(store) as opened:
        vkey = author_key(opened).vkey
    check = ("log", "check-export", "--store", tmp_path / "none")
    assert "no valid signature by any key" in command(*check, tmp_path / "run.json", code=2).stderr
    command("key", "trust", vkey, "--as", "author:verdicts", "--name", "Runa B.")
    assert "signed_by       Runa B." in command(*check, tmp_path / "verdict.json").stdout
    assert "do not trust for a run" in command(*check, tmp_path / "run.json", code=2).stderr
    assert "signed_by       you" in command("log", "check-export", tmp_path / "run.json", "--store", store).stdout


def test_check_export_refuses_statements_about_what_the_signer_did_not_write(
    made: tuple[Path, Any, Any], tmp_path: Path
) -> None:
    from samebits.ledger.dsse import parse_envelope
    from samebits.ledger.intoto import Statement, parse_statement, sign_statement

    store, run, verdict = made
    export(store, run.address, tmp_path / "run.json")
    export(store, verdict.entry, tmp_path / "verdict.json")
    thief = SigningKey("thief.example", bytes([7]) * 32)
    for name in ("run.json", "verdict.json"):
        statement = parse_statement(parse_envelope((tmp_path / name).read_bytes()))
        (tmp_path / name).write_text(sign_statement(statement, thief).format())
        error = command("log", "check-export", tmp_path / name, "--key", thief.vkey, code=2).stderr
        assert "not who signed it" in error
    other = Statement(statement.subjects, "https://example.com/other", statement.predicate)
    (tmp_path / "other.json").write_text(sign_statement(other, thief).format())
    error = command("log", "check-export", tmp_path / "other.json", "--key", thief.vkey, code=2).stderr
    assert "does not write" in error


def test_check_export_does_not_let_a_statement_steer_the_terminal(made: tuple[Path, Any, Any], tmp_path: Path) -> None:
    from samebits.ledger.intoto import Resource, Statement, sign_statement

    key = SigningKey("evil\x7f.example", bytes([7]) * 32)
    builder = {"id": f"https://samebits.local/author/{key.public.hex()}"}
    predicate = {"runDetails": {"builder": builder}, "result": "\x1b]0;"}
    subject = Resource("\x1b[2Ja\nsigned_by  you\u202e", {"\x1b[1m": "\r\ud800"})
    (tmp_path / "evil.json").write_text(sign_statement(Statement((subject,), PROVENANCE, predicate), key).format())
    done = command("log", "check-export", tmp_path / "evil.json", "--key", key.vkey)
    assert "\\x1b[2Ja\\nsigned_by" in done.stdout
    assert all(char.isprintable() or char == "\n" for char in done.stdout)
    json.loads(command("log", "check-export", tmp_path / "evil.json", "--key", key.vkey, "--json").stdout)
    unknown = Statement((subject,), "\x1b[2J", predicate)
    (tmp_path / "evil.json").write_text(sign_statement(unknown, key).format())
    error = command("log", "check-export", tmp_path / "evil.json", "--key", key.vkey, code=2).stderr
    assert "\x1b" not in error


def test_export_refuses(made: tuple[Path, Any, Any], tmp_path: Path) -> None:
    store, run, _ = made
    refuse = [
        ((run.entry,), "this is a segment"),
        (("00" * 32,), "is not in this log"),
        ((run.address, "--format", "cyclonedx"), "--format is one of in-toto"),
        ((run.address, "--key", tmp_path / "none"), "there is no such file"),
    ]
    for arguments, problem in refuse:
        assert problem in command("log", "export", *arguments, "--store", store, code=2).stderr
    command("key", "new", "-o", tmp_path / "other.key")
    other = ("log", "export", run.address, "--store", store, "--key", tmp_path / "other.key")
    assert "not by the key samebits.local/author+" in command(*other, code=2).stderr


def test_a_run_without_a_segment_has_no_result(made: tuple[Path, Any, Any], tmp_path: Path) -> None:
    from dataclasses import replace

    path, run, _ = made
    with Log.open(path / "ledger", read_only=True) as log, Store(path) as store:
        chain = log.chain(run.address)
        with pytest.raises(RunError, match="no finished segment"):
            run_statement(replace(chain, segments=(), verdicts=()), store)


def test_readme_shows_what_the_code_makes(tmp_path: Path) -> None:
    """The example of ledger/README.md, with the keys and the run of its other examples."""
    import re

    from tests.ledger.test_readme import LOG_SEED, RUNNER_SEED

    from samebits.cas import hash_blob
    from samebits.exec.attestation import verdict_statement
    from samebits.ledger import RunBody
    from samebits.ledger.dsse import encode_pae
    from samebits.ledger.intoto import PAYLOAD_TYPE, sign_statement
    from samebits.ledger.logkey import log_origin

    readme = re.sub(r"\s+", "", (Path(samebits.ledger.__file__).parent / "README.md").read_text())
    runner, origin = SigningKey("runner.example", RUNNER_SEED), log_origin(SigningKey("x", LOG_SEED).public)
    run = sign_entry(origin, None, RunBody(hash_blob(b"job"), bytes(range(16)), 300, 1, 100), runner)
    body = VerdictBody(samebits.ledger.entry_address(run), 0, 300, "same", None, "numpy")
    with Store(tmp_path / "empty") as empty:
        statement = verdict_statement(2, sign_entry(origin, hash_blob(b"segment"), body, runner), None, empty)
    payload, envelope = statement.encode(), sign_statement(statement, runner).format()
    assert re.sub(r"\s+", "", payload.decode()) in readme
    start = encode_pae(PAYLOAD_TYPE, payload)[:50].decode()
    assert re.sub(r"\s+", "", start) in readme
    assert envelope[:32] in readme
    assert envelope[envelope.index('"payloadType"') :].strip() in readme
