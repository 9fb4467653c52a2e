"""Collecting cosignatures: from good witnesses, and from stalled, lying, broken and absent ones beside them."""

from __future__ import annotations

import http.server
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.ledger.witness_places import policy_witness, serving_witness, witness_key

from samebits.ledger.checkpoint import Checkpoint, open_checkpoint, sign_checkpoint
from samebits.ledger.cosigned import open_cosigned
from samebits.ledger.entry import Entry, encode_entry
from samebits.ledger.errors import QuorumError, SignatureError, StaleCheckpointError, WitnessError
from samebits.ledger.keyfile import load_key
from samebits.ledger.log import Log
from samebits.ledger.logkey import PRIVATE_NAME
from samebits.ledger.merkle import consistency_proof, leaf_hash, root_hash
from samebits.ledger.note import parse_note
from samebits.ledger.policy import Policy, PolicyLog
from samebits.ledger.witness import Witness
from samebits.ledger.witness_client import cosign_log, request_cosignature
from samebits.ledger.witness_protocol import parse_request
from samebits.ledger.witness_state import WitnessState

Answer = Callable[[bytes], tuple[int, str, bytes]]  # request body -> status, content type, body
TEXT = "text/plain; charset=utf-8"
SIZE = "text/x.tlog.size"


@contextmanager
def serving_answers(answer: Answer) -> Iterator[str]:
    """Serve what a function says to every request; yields the URL."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            status, content_type, body = answer(self.rfile.read(int(self.headers["content-length"])))
            self.send_response(status)
            self.send_header("content-type", content_type)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *arguments: object) -> None:
            """Say nothing."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/prefix"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def filled(log: Log, make_entries: Callable[..., list[Entry]]) -> Log:
    log.append(make_entries(log.origin, 6))
    return log


def witness_of(log: Log, directory: Path, name: str) -> Witness:
    directory.mkdir(exist_ok=True)
    return Witness(WitnessState(directory), witness_key(name), [log.verifier])


def refusal(log: Log, answer: Answer) -> str:
    """Return what is said of a witness that answers like this; it never gets into the checkpoint."""
    before = log.checkpoint()
    with serving_answers(answer) as url:
        done = cosign_log(log, [policy_witness("w", url)], timeout_s=5)
    assert not done.cosignatures
    assert done.note == log.checkpoint() == before
    (problem,) = done.problems
    assert problem.witness == "w"
    return problem.problem


def test_cosign_log_follows_a_log_that_grows(
    log: Log, tmp_path: Path, make_entries: Callable[..., list[Entry]]
) -> None:
    entries = make_entries(log.origin, 20)
    with serving_witness(witness_of(log, tmp_path / "w", "w")) as url:
        witness = policy_witness("w", url)
        policy = Policy((PolicyLog(log.verifier),), (witness,), (), "w")
        for start, stop in ((0, 0), (0, 1), (1, 2), (2, 7), (7, 8), (8, 21)):
            log.append(entries[start:stop])
            done = cosign_log(log, [witness])
            assert done.problems == ()
            assert done.note == log.checkpoint()
            seen = open_cosigned(log.checkpoint().encode(), policy)
            assert seen.checkpoint.tree_size == stop
            assert abs(seen.witnessings[0].time_s - time.time()) < 60
        assert log.audit().is_ok


def test_cosigning_again_replaces_the_witness_line(filled: Log, tmp_path: Path) -> None:
    clock = [1000.0]
    (tmp_path / "w").mkdir()
    state = WitnessState(tmp_path / "w")
    with serving_witness(Witness(state, witness_key("w"), [filled.verifier], clock_s=lambda: clock[0])) as url:
        for now in (1000.0, 2000.0):
            clock[0] = now
            note = cosign_log(filled, [policy_witness("w", url)]).note
            assert len(parse_note(note.encode())[1]) == 2
            assert cosign_log(filled, [policy_witness("w", url)]).cosignatures[0][1].time_s == int(now)


def test_a_bad_witness_is_named_and_stops_nobody_else(filled: Log, tmp_path: Path) -> None:
    release = threading.Event()

    def stall(body: bytes) -> tuple[int, str, bytes]:
        release.wait(20)
        return 200, TEXT, b""

    with (
        serving_witness(witness_of(filled, tmp_path / "good", "good")) as good,
        serving_answers(stall) as stalled,
        serving_answers(lambda body: (200, TEXT, b"\xe2\x80\x94 nonsense AAAAAAAA\n")) as lying,
    ):
        urls = {"stalled": stalled, "lying": lying, "absent": "http://127.0.0.1:9", "good": good, "nowhere": None}
        witnesses = [policy_witness(name, url) for name, url in urls.items()]
        started = time.monotonic()
        done = cosign_log(filled, witnesses, timeout_s=4)
        assert time.monotonic() - started < 15
        release.set()
    assert [witness.name for witness, _ in done.cosignatures] == ["good"]
    problems = {problem.witness: problem.problem for problem in done.problems}
    assert "no cosignature within 4 s" in problems["stalled"] or "no answer" in problems["stalled"]
    assert "no cosignature by lying+" in problems["lying"]
    assert "can't connect" in problems["absent"]
    assert "gives no URL" in problems["nowhere"]
    policy = Policy((), tuple(witnesses), (), "good")
    assert [seen.witness for seen in open_cosigned(done.note.encode(), policy, filled.verifier).witnessings] == ["good"]
    with pytest.raises(QuorumError, match="lying"):
        open_cosigned(done.note.encode(), Policy((), tuple(witnesses), (), "lying"), filled.verifier)


def test_an_answer_that_trickles_ends_at_the_timeout(filled: Log) -> None:
    listener = socket.create_server(("127.0.0.1", 0))

    def trickle() -> None:
        connection, _ = listener.accept()
        with connection:
            try:
                connection.sendall(b"HTTP/1.1 200 OK\r\n")
                for number in range(400):
                    connection.sendall(b"x-%d: y\r\n" % number)
                    time.sleep(0.05)
            except OSError:
                pass

    thread = threading.Thread(target=trickle, daemon=True)
    thread.start()
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    started = time.monotonic()
    with pytest.raises(WitnessError, match=r"no cosignature within 1 s|no answer"):
        request_cosignature(policy_witness("w", url), filled.checkpoint(), lambda old: (), timeout_s=1)
    assert time.monotonic() - started < 10
    listener.close()
    thread.join(10)


def test_a_witness_that_is_slow_each_time_it_is_asked_ends_at_the_timeout(filled: Log) -> None:
    sizes = iter(range(1, 7))

    def slow(body: bytes) -> tuple[int, str, bytes]:
        time.sleep(0.7)
        return 409, SIZE, b"%d\n" % next(sizes)

    with serving_answers(slow) as url, pytest.raises(WitnessError, match="no cosignature within 1 s"):
        request_cosignature(policy_witness("w", url), filled.checkpoint(), lambda old: (), timeout_s=1)


def test_a_cosignature_of_something_else_is_refused(filled: Log) -> None:
    key = witness_key("w")

    def other_tree(body: bytes) -> tuple[int, str, bytes]:
        text = parse_note(parse_request(body).note)[0]
        return 200, TEXT, key.cosign(text.replace("\n7\n", "\n8\n"), 5).encode()

    def other_key(body: bytes) -> tuple[int, str, bytes]:
        return 200, TEXT, witness_key("x").cosign(parse_note(parse_request(body).note)[0], 5).encode()

    assert refusal(filled, other_tree) == "the cosignature by w does not verify"
    assert "its answer has no cosignature by w+" in refusal(filled, other_key)


def test_lines_that_were_not_asked_for_do_not_get_into_the_checkpoint(filled: Log) -> None:
    key = witness_key("w")

    def more(body: bytes) -> tuple[int, str, bytes]:
        text, signatures = parse_note(parse_request(body).note)
        bad_log_line = f"\u2014 {filled.origin} {'A' * 92}\n"
        assert len(signatures) == 1
        return 200, TEXT, (bad_log_line + witness_key("x").cosign(text, 5) + key.cosign(text, 6)).encode()

    before = filled.checkpoint()
    with serving_answers(more) as url:
        done = cosign_log(filled, [policy_witness("w", url)])
    text = before.rpartition("\n\n")[0] + "\n"
    assert done.note == filled.checkpoint() == before + key.cosign(text, 6)


@pytest.mark.parametrize(
    ("status", "content_type", "body", "problem"),
    [
        (200, TEXT, b"", "malformed note"),
        (200, TEXT, b"\xff\n", "not UTF-8"),
        (200, TEXT, b"x" * 200_000, "answer"),
        (409, SIZE, b"0\n", "answered 409 to size 0"),
        (409, SIZE, b"", "answered 409 to size 0"),
        (409, SIZE, b"01\n", "answered 409 to size 0"),
        (409, SIZE, b"-1\n", "answered 409 to size 0"),
        (409, SIZE, b"9" * 5000, "answered 409 to size 0"),
        (409, SIZE, b"8\n", "says that it cosigned 8 entries of this log, which had 7; was the log restored"),
        (409, TEXT, b"this log has forked\n", "answered 409: 'this log has forked'"),
        (404, TEXT, b"\x1b[2Jno\n", "answered 404: '\\x1b[2Jno'"),
        (403, TEXT, b"", "answered 403"),
        (422, TEXT, b"bad proof\n", "answered 422: 'bad proof'"),
        (302, TEXT, b"", "answered 302"),
        (500, TEXT, b"oops", "answered 500: 'oops'"),
    ],
)
def test_what_a_witness_says_instead_is_told(
    filled: Log, status: int, content_type: str, body: bytes, problem: str
) -> None:
    assert problem in refusal(filled, lambda _: (status, content_type, body))


def test_a_witness_that_names_another_size_each_time_is_left(filled: Log) -> None:
    sizes = iter(range(1, 7))
    assert "names another size each time" in refusal(filled, lambda _: (409, SIZE, b"%d\n" % next(sizes)))


def test_a_log_that_grows_meanwhile_is_asked_about_again(log: Log, make_entries: Callable[..., list[Entry]]) -> None:
    entries = make_entries(log.origin, 5)
    log.append(entries[:1])
    waiting = [entries[1:3]]

    def grow_and_sign(body: bytes) -> tuple[int, str, bytes]:
        if waiting:
            log.append(waiting.pop())
        return 200, TEXT, witness_key("w").cosign(parse_note(parse_request(body).note)[0], 5).encode()

    with serving_answers(grow_and_sign) as url:
        done = cosign_log(log, [policy_witness("w", url)])
    assert open_checkpoint(done.note.encode(), log.verifier).tree_size == 3
    assert len(parse_note(log.checkpoint().encode())[1]) == 2


def test_publish_cosigned_refuses_a_note_of_another_checkpoint_and_one_that_spoils_it(
    filled: Log, make_run: Callable[..., Entry]
) -> None:
    note = filled.checkpoint()
    text = note.rpartition("\n\n")[0] + "\n"
    line = witness_key("w").cosign(text, 5)
    with pytest.raises(SignatureError):
        filled.publish_cosigned(f"{text}\n{line}\u2014 {filled.origin} {note.split()[-1][:6]}{'A' * 86}\n")
    assert filled.checkpoint() == note
    filled.append([make_run(filled.origin, 99)])
    with pytest.raises(StaleCheckpointError, match="has grown since"):
        filled.publish_cosigned(f"{text}\n{line}")
    assert len(parse_note(filled.checkpoint().encode())[1]) == 1


def test_a_log_that_was_restored_from_an_old_copy_gets_no_cosignature(
    tmp_path: Path, log: Log, make_entries: Callable[..., list[Entry]], make_run: Callable[..., Entry]
) -> None:
    """The witness remembers what the log forgot: first that there was more, then that it was something else."""
    entries = make_entries(log.origin, 5)
    witness = witness_of(log, tmp_path / "w", "w")
    key = load_key(tmp_path / "log" / PRIVATE_NAME)
    hashes = [leaf_hash(encode_entry(entry)) for entry in entries]

    def prove(hashes: list[bytes]) -> Callable[[int], tuple[bytes, ...]]:
        return lambda old: consistency_proof(hashes, min(old, len(hashes)))

    def note_of(hashes: list[bytes]) -> str:
        return sign_checkpoint(Checkpoint(log.origin, len(hashes), root_hash(hashes)), key)

    with serving_witness(witness) as url:
        seen = policy_witness("w", url)
        request_cosignature(seen, note_of(hashes), prove(hashes))
        with pytest.raises(WitnessError, match="cosigned 6 entries of this log, which had 4; was the log restored"):
            request_cosignature(seen, note_of(hashes[:4]), prove(hashes[:4]))
        forked = [*hashes[:4], *(leaf_hash(b"other %d" % i) for i in range(4))]
        with pytest.raises(WitnessError, match="answered 422"):
            request_cosignature(seen, note_of(forked), prove(forked))
        with pytest.raises(WitnessError, match=r"answered 409: .*forked"):
            request_cosignature(seen, note_of(forked[:6]), prove(forked[:6]))
        request_cosignature(seen, note_of([*hashes, forked[7]]), prove([*hashes, forked[7]]))
