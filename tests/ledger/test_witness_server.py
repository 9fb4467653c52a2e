"""The witness as any HTTP client sees it: statuses, bodies and content types of tlog-witness, and cheating logs."""

from __future__ import annotations

import http.client
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import pytest
from tests.ledger.witness_places import LOG, OTHER_LOG, Tree, make_witness, serving_witness, witness_key

from samebits.ledger.checkpoint import sign_checkpoint
from samebits.ledger.cosignature import find_cosignature
from samebits.ledger.keys import SigningKey
from samebits.ledger.note import parse_note
from samebits.ledger.witness_protocol import AddCheckpoint, format_request, hash_origin

KEY = witness_key()


@dataclass
class Client:
    """Sends one request on a connection of its own."""

    url: str

    def ask(self, method: str, path: str, body: bytes | None = None) -> tuple[int, str, str]:
        """Return status, content type and body."""
        connection = http.client.HTTPConnection(self.url.removeprefix("http://"), timeout=10)
        try:
            connection.request(method, path, body)
            answer = connection.getresponse()
            return answer.status, answer.headers["content-type"], answer.read().decode()
        finally:
            connection.close()

    def add(self, body: bytes) -> tuple[int, str, str]:
        """Send an add-checkpoint request."""
        return self.ask("POST", "/add-checkpoint", body)

    def accept(self, tree: Tree, old_size: int) -> str:
        """Send a request that must be cosigned; returns the verified line."""
        status, _, line = self.add(tree.request(old_size))
        assert status == 200, line
        text = tree.note().rpartition("\n\n")[0] + "\n"
        found = find_cosignature(KEY.verifier, text, parse_note(f"{text}\n{line}".encode())[1])
        assert found is not None
        assert found.line == line
        return line

    def latest(self, key: SigningKey = LOG) -> str:
        """Return what the witness gives out of a log; empty if there is nothing."""
        status, content_type, note = self.ask("GET", f"/{sha256(key.name.encode()).hexdigest()}/checkpoint")
        assert content_type == "text/plain; charset=utf-8"
        return note if status == 200 else ""


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Client]:
    with serving_witness(make_witness(tmp_path / "witness")) as url:
        yield Client(url)


def test_a_growing_log_is_cosigned_step_by_step(client: Client) -> None:
    old_size = 0
    assert client.latest() == ""
    for size in (0, 1, 2, 3, 4, 7, 8, 8, 100, 255, 256, 257):
        line = client.accept(Tree(size), old_size)
        assert client.latest() == Tree(size).note() + line
        old_size = size


def test_200_is_text_and_ends_with_a_newline(client: Client) -> None:
    status, content_type, line = client.add(Tree(1).request(0))
    assert (status, content_type) == (200, "text/plain; charset=utf-8")
    assert line.startswith("\u2014 witness.example/w1 ")
    assert line.endswith("\n")
    assert line.count("\n") == 1


def test_409_names_the_size_that_was_cosigned_last(client: Client) -> None:
    assert client.add(Tree(5).request(3)) == (409, "text/x.tlog.size", "0\n")
    client.accept(Tree(5), 0)
    for tree, old_size in ((Tree(9), 0), (Tree(9), 4), (Tree(9), 6), (Tree(5), 0), (Tree(5), 4), (Tree(3), 0)):
        assert client.add(tree.request(old_size)) == (409, "text/x.tlog.size", "5\n")
    client.accept(Tree(9), 5)


def test_400_for_an_old_size_beyond_the_checkpoint(client: Client) -> None:
    client.accept(Tree(5), 0)
    body = format_request(AddCheckpoint(5, (), Tree(3).note().encode()))
    assert client.add(body)[0] == 400
    assert client.latest().splitlines()[1] == "5"


def test_404_for_a_log_that_is_not_known_even_with_a_bad_signature(client: Client) -> None:
    tree = Tree(1, key=OTHER_LOG)
    assert client.add(tree.request(0))[0] == 404
    assert client.add(tree.request(0).replace(b"\n1\n", b"\n2\n"))[0] == 404
    assert client.latest(OTHER_LOG) == ""


def test_403_without_a_signature_by_the_logs_key_that_verifies(client: Client) -> None:
    impostor = SigningKey(LOG.name, bytes([5]) * 32)
    assert client.add(Tree(1, key=impostor).request(0))[0] == 403
    changed = Tree(2).note().encode().replace(b"\n2\n", b"\n3\n")
    assert client.add(format_request(AddCheckpoint(0, (), changed)))[0] == 403
    both = Tree(1).note() + Tree(1, key=impostor).note().splitlines(keepends=True)[-1]
    assert client.add(format_request(AddCheckpoint(0, (), both.encode())))[0] == 200  # the unknown one is ignored
    stray = sign_checkpoint(Tree(1, key=impostor).checkpoint(), impostor).splitlines(keepends=True)[-1]
    assert stray not in client.latest()


def test_422_for_a_proof_that_does_not_verify(client: Client) -> None:
    client.accept(Tree(5), 0)
    note, proof = Tree(9).note().encode(), Tree(9).proof(5)
    for wrong in ((), proof[:-1], (*proof, proof[0]), proof[::-1], (bytes(32), *proof[1:]), Tree(10).proof(5)):
        status, content_type, _ = client.add(format_request(AddCheckpoint(5, wrong, note)))
        assert (status, content_type) == (422, "text/plain; charset=utf-8")
    same = Tree(5).note().encode()
    assert client.add(format_request(AddCheckpoint(5, (bytes(32),), same)))[0] == 422
    assert client.latest().splitlines()[1] == "5"
    client.accept(Tree(9), 5)


def test_422_for_a_proof_from_size_0(client: Client) -> None:
    assert client.add(format_request(AddCheckpoint(0, (bytes(32),), Tree(1).note().encode())))[0] == 422
    client.accept(Tree(1), 0)


BAD_BODIES = [
    b"",
    b"\n",
    b"old 0\n",
    b"old 0\n\n",
    b"old 0\r\n\r\n",
    b"old 0" + b"\n\n" + b"text",
    *(
        b"%s\n\n%s" % (head, Tree(1).note().encode())
        for head in (b"", b"old", b"old ", b"old 00", b"old 01", b"old +1", b"old -1", b"old 1e0", b"old 0x0")
    ),
    *(
        b"%s\n\n%s" % (head, Tree(1).note().encode())
        for head in (b"Old 0", b" old 0", b"old  0", b"old 0 ", b"old 9223372036854775808", b"old \xd9\xa0", b"0")
    ),
    *(b"old 0\n%s\n\n%s" % (line, Tree(1).note().encode()) for line in (b"AAAA", b"!", b"A" * 43, b"A" * 43 + b"==")),
    b"old 0\n" + b"A" * 43 + b"=\n" * 64 + b"\n" + Tree(1).note().encode(),
    b"old 0\n\n" + Tree(1).note().encode() + b"\n",
    b"old 0\n\n" + Tree(1).note().encode()[:-1],
    b"old 0\n\n" + Tree(1).note().encode().replace(b"\n1\n", b"\n01\n"),
    b"old 0\n\n" + Tree(1).note().encode().replace(b"\n1\n", b"\n0\n"),
    b"old 0\n\n" + Tree(1).note().encode().replace(b"\n1\n", b"\n1\x00\n"),
    b"old 0\n\n" + Tree(1).note().encode().replace(LOG.name.encode() + b"\n", b"\n", 1),
    b"old 0\n\n\xff" + Tree(1).note().encode(),
]


@pytest.mark.parametrize("body", BAD_BODIES)
def test_400_for_a_malformed_request(client: Client, body: bytes) -> None:
    status, content_type, line = client.add(body)
    assert (status, content_type) == (400, "text/plain; charset=utf-8"), line
    assert line.count("\n") == 1
    assert client.latest() == ""


def test_413_for_a_body_longer_than_any_request(client: Client) -> None:
    assert client.add(Tree(1).request(0) + b"x" * (64 << 10))[0] == 413
    assert client.latest() == ""


def test_other_methods_and_paths_are_refused(client: Client) -> None:
    assert client.ask("GET", "/add-checkpoint")[0] == 405
    assert client.ask("PUT", "/add-checkpoint", b"x")[0] == 405
    for path in ("/", "/checkpoint", "/add-checkpoint/", "/..%2f..%2fetc/checkpoint", "/witness.key", "/x/checkpoint"):
        assert client.ask("GET", path)[0] == 404


def test_an_operator_that_signs_two_heads_of_one_size_is_refused_and_the_proof_is_kept(
    client: Client, tmp_path: Path
) -> None:
    client.accept(Tree(5), 0)
    fork = Tree(5, forks_at=4)
    status, content_type, line = client.add(format_request(AddCheckpoint(5, (), fork.note().encode())))
    assert (status, content_type) == (409, "text/plain; charset=utf-8")
    assert "forked" in line
    assert client.latest().startswith(Tree(5).note())
    kept = list((tmp_path / "witness" / hash_origin(LOG.name)).glob("fork-5-*"))
    assert [file.read_text() for file in kept] == [fork.note()]


def test_an_operator_that_forks_before_what_was_cosigned_is_refused(client: Client) -> None:
    client.accept(Tree(50), 0)
    for size in (51, 64, 65, 100):
        for forks_at in (0, 1, 31, 49):
            assert client.add(Tree(size, forks_at=forks_at).request(50))[0] == 422
    client.accept(Tree(100, forks_at=50), 50)  # what comes after is the log's to say


def test_an_operator_that_rolls_back_or_replays_an_old_head_is_refused(client: Client) -> None:
    client.accept(Tree(5), 0)
    client.accept(Tree(9), 5)
    assert client.add(Tree(5).request(0)) == (409, "text/x.tlog.size", "9\n")
    assert client.add(Tree(5).request(5)) == (409, "text/x.tlog.size", "9\n")
    assert client.add(format_request(AddCheckpoint(9, (), Tree(5).note().encode())))[0] == 400
    assert client.latest().startswith(Tree(9).note())


def test_logs_of_one_witness_do_not_touch_each_other(tmp_path: Path) -> None:
    with serving_witness(make_witness(tmp_path / "witness", LOG, OTHER_LOG)) as url:
        client = Client(url)
        client.accept(Tree(5), 0)
        client.accept(Tree(3, prefix=b"x", key=OTHER_LOG), 0)
        client.accept(Tree(6), 5)
        assert client.latest(OTHER_LOG).splitlines()[:2] == [OTHER_LOG.name, "3"]


def test_a_damaged_state_is_answered_with_500_and_nothing_is_signed(client: Client, tmp_path: Path) -> None:
    client.accept(Tree(5), 0)
    path = tmp_path / "witness" / hash_origin(LOG.name) / "checkpoint"
    good = path.read_bytes()
    for bad in (b"", good[:-20], good.replace(b"\n5\n", b"\n3\n"), Tree(9).note().encode(), b"x" * 2_000_000):
        path.write_bytes(bad)
        status, _, line = client.add(Tree(9).request(5))
        assert (status, line) == (500, "this witness can't use its state\n")
        assert path.read_bytes() == bad
    path.write_bytes(good)
    client.accept(Tree(9), 5)
