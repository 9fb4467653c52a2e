"""Disputes over HTTP: with servers that answer, that only hold the run, that hang, and that are asked nonsense."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Mount, Route
from tests.exec.frauds import Author, FalseMachine
from tests.exec.small_job import make_job
from tests.exec.test_dispute import false_subtraction
from tests.serving import serving_app

from samebits.cas import Digest, Store
from samebits.cas.encoding import decode, encode
from samebits.cas.remotes.http_client import HttpClient
from samebits.cas.server import make_app
from samebits.exec.dispute import server as serving
from samebits.exec.dispute.check import check_evidence
from samebits.exec.dispute.dispute import dispute
from samebits.exec.dispute.http import open_http_prover
from samebits.exec.dispute.local import LocalProver
from samebits.exec.dispute.places import open_prover
from samebits.exec.dispute.prover import Prover, StoredProver
from samebits.exec.dispute.server import dispute_routes
from samebits.exec.errors import CannotTraceError, RunError
from samebits.exec.places.run_reference import RunReference
from samebits.exec.places.run_server import make_place_app

Stores = tuple[Store, Store]


@pytest.fixture
def stores(tmp_path: Path) -> Iterator[Stores]:
    with Store(tmp_path / "a") as a, Store(tmp_path / "b") as b:
        yield a, b


@pytest.fixture
def authors(stores: Stores, monkeypatch: pytest.MonkeyPatch) -> tuple[Author, Author]:
    """Return a fraud whose server answers with its own machine, and somebody honest."""
    job = make_job()
    machine = FalseMachine(job, stores[0], at=lambda t: t >= 12, alter=false_subtraction)
    fraud = Author(stores[0], job, machine)

    def prover(store: Store, chain: object, key: object, *, device: str) -> LocalProver:
        own = machine if store is stores[0] else None
        return LocalProver(store, chain, key, device=device, machine=own)  # type: ignore[arg-type]

    monkeypatch.setattr(serving, "LocalProver", prover)
    return fraud, Author(stores[1], job)


def application(author: Author, *, routes: tuple[Route, ...] = ()) -> Starlette:
    return make_place_app(author.store, more=[*routes, *dispute_routes(author.store, author.key)])


def asked(url: str, run: Digest, timeout_s: float = 30.0) -> Prover:
    """Return the side at a server that answers."""
    side = open_http_prover(url, run, timeout_s=timeout_s)
    assert side is not None
    return side


def test_two_servers_are_judged_by_their_answers(authors: tuple[Author, Author]) -> None:
    a, b = authors
    with serving_app(application(a)) as url_a, serving_app(application(b)) as url_b:
        sides = asked(url_a, a.run), asked(url_b, b.run)
        report = dispute(*sides)
        for side in sides:
            side.close()
    assert (report.outcome, report.depth, report.steps) == ("liar", "operation", (12, 13))
    assert report.findings[0].evidence is not None
    assert check_evidence(report.findings[0].evidence).author == a.key.public
    assert report.findings[1].verdict == ""


def test_a_server_that_does_not_answer_is_judged_by_the_whole_step(authors: tuple[Author, Author]) -> None:
    a, b = authors
    with serving_app(make_place_app(a.store)) as url_a, serving_app(application(b)) as url_b:
        references = RunReference(a.run, url_a), RunReference(b.run, url_b)
        with open_prover(references[0], a.store) as silent, open_prover(references[1], a.store) as answering:
            assert isinstance(silent, StoredProver)
            report = dispute(silent, answering)
    assert (report.depth, report.findings[0].verdict, report.findings[1].cleared) == ("step", "lied", True)
    assert report.findings[0].evidence is not None
    assert report.findings[0].evidence.kind == "replay"


def test_a_server_that_hangs_has_not_answered(authors: tuple[Author, Author]) -> None:
    a, b = authors

    async def hang(request: Request) -> Response:
        await asyncio.sleep(8)
        return PlainTextResponse("late")

    hanging = Route("/dispute/{run}/children", hang, methods=["POST"])
    with serving_app(application(a, routes=(hanging,))) as url:
        side = asked(url, a.run, timeout_s=3.0)
        report = dispute(side, b.prover())
        side.close()
    assert report.findings[0].verdict == "did not answer"
    assert "within 3 s" in report.findings[0].reason
    assert report.findings[0].evidence is not None  # by the commits alone
    assert check_evidence(report.findings[0].evidence).step == 12


def test_a_server_without_the_run_says_so(authors: tuple[Author, Author]) -> None:
    with serving_app(application(authors[0])) as url, pytest.raises(RunError, match="has no run"):
        missing = RunReference(Digest(bytes(32)), url)
        with open_prover(missing, authors[1].store):
            raise AssertionError("there is no such run")


def test_a_server_traces_only_runs_of_its_own_key(authors: tuple[Author, Author]) -> None:
    a, b = authors
    routes = dispute_routes(a.store, b.key)
    with serving_app(Starlette(routes=[*routes, Mount("/", make_app(a.store))])) as url:
        side = asked(url, a.run)
        with pytest.raises(CannotTraceError, match="nobody here signs"):
            side.trace("nodes", 3, 4)
        side.close()


def test_a_server_that_only_has_the_run_is_a_side_that_signs_nothing(authors: tuple[Author, Author]) -> None:
    a, b = authors
    with serving_app(make_place_app(a.store)) as url, open_prover(RunReference(a.run, url), b.store) as side:
        assert side.chain.run_address == a.run
        with pytest.raises(CannotTraceError, match="nobody there signs"):
            side.trace("nodes", 3, 4)
        report = dispute(side, b.prover())
    assert report.findings[0].evidence is not None  # by the commits alone
    assert check_evidence(report.findings[0].evidence).step == 12


@pytest.mark.parametrize(
    ("question", "arguments", "status"),
    [
        ("nothing", [], 400),
        ("commit", [], 400),
        ("commit", ["x", None], 400),
        ("commit", [99, None], 400),
        ("commit", [-1, None], 400),
        ("state", [10**15], 400),
        ("trace", ["nodes", 3, 5], 400),
        ("trace", ["nodes", -1, 0], 400),
        ("trace", ["steps", 0, 25], 400),
        ("trace", ["init", 3, 4], 400),
        ("trace", ["all", 3, 4], 400),
        ("children", [Digest(bytes(32)), 0, 2], 400),
        ("leaf", [Digest(bytes(32)), 0], 400),
        ("values", [Digest(bytes(32)), [0] * 1000], 400),
        ("values", [Digest(bytes(32)), ["x"]], 400),
    ],
)
def test_a_server_refuses_what_is_no_question(
    authors: tuple[Author, Author], question: str, arguments: list[object], status: int
) -> None:
    a, _ = authors
    with serving_app(application(a)) as url:
        client = HttpClient(url)
        answer = client.request("POST", f"dispute/{a.run}/{question}", 4096, encode(arguments))  # type: ignore[arg-type]
        assert answer.status == status
        assert answer.data.count(b"\n") == 1
        assert str(a.store.path).encode() not in answer.data
        too_long = client.request("POST", f"dispute/{a.run}/state", 4096, bytes(1 << 15))
        assert too_long.status == 413
        assert client.request("POST", f"dispute/{a.run}/state", 4096, b"\xc1").status == 400
        client.close()


def test_a_trace_is_signed_once_however_often_it_is_asked_for(authors: tuple[Author, Author]) -> None:
    a, _ = authors
    with serving_app(application(a)) as url:
        side = asked(url, a.run)
        entries = {side.trace("nodes", 12, 13) for _ in range(3)}
        leaf = side.leaf(Digest(decode_address(next(iter(entries)))), 0)
        side.close()
    assert len(entries) == 1
    assert decode(leaf.leaf)[1] == "input/batch/x"  # type: ignore[index]


def decode_address(entry: bytes) -> bytes:
    from samebits.cas.digest import hash_node

    return hash_node(entry).raw
