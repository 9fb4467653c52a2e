"""Disputes: each fraud is followed to its step and its operation, and convicted by evidence that stands alone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.exec.frauds import Author, FalseMachine, nudge
from tests.exec.small_job import make_job

from samebits.cas import Store
from samebits.exec.dispute.check import check_evidence
from samebits.exec.dispute.dispute import dispute
from samebits.exec.dispute.evidence import decode_evidence, encode_evidence
from samebits.exec.dispute.report import DisputeReport


@pytest.fixture
def stores(tmp_path: Path) -> Iterator[tuple[Store, Store]]:
    with Store(tmp_path / "a") as a, Store(tmp_path / "b") as b:
        yield a, b


def convicted(report: DisputeReport, side: str, verdict: str = "lied") -> Any:
    """Return the accusation of a side, out of its evidence as a file; the other side has nothing against it."""
    mine, other = report.findings["AB".index(side)], report.findings["BA".index(side)]
    assert (report.outcome, mine.verdict, other.verdict) == ("liar", verdict, "")
    assert mine.evidence is not None
    return check_evidence(decode_evidence(encode_evidence(mine.evidence)))


def test_honest_runs_agree(stores: tuple[Store, Store]) -> None:
    a, b = (Author(store, make_job()) for store in stores)
    report = dispute(a.prover(), b.prover())
    assert (report.outcome, report.agreed_steps, report.operations_computed) == ("agree", 25, 0)


@pytest.mark.parametrize("at", [0, 7, 9, 10, 24])
def test_an_operation_rounded_differently_is_named(stores: tuple[Store, Store], at: int) -> None:
    job = make_job()

    def alter(launch: Any, result: Any) -> Any:
        return nudge(result) if launch.op == "sub" and result.shape == (8,) else result

    a = Author(stores[0], job, FalseMachine(job, stores[0], at=lambda t: t >= at, alter=alter))
    b = Author(stores[1], job)
    report = dispute(a.prover(), b.prover())
    accusation = convicted(report, "A")
    assert (report.steps, accusation.step) == ((at, at + 1), at)
    assert accusation.author == a.key.public
    assert report.place == accusation.place
    assert "sub" in accusation.what
    assert report.operations_computed == 2
    assert report.steps_computed == 0
    print(report.traffic, report.bytes_fetched, len(encode_evidence(report.findings[0].evidence)), report.seconds)
