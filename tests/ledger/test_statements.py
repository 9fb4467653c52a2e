"""Draws, traces, sampled verdicts, and runs that begin with a later step: their form and their rules."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from samebits.cas.digest import Digest, hash_blob
from samebits.ledger.bodies import Body, DrawBody, RunBody, Sample, TraceBody, VerdictBody
from samebits.ledger.entry import Entry, decode_entry, encode_entry, entry_address, sign_entry
from samebits.ledger.errors import ChainError, EntryError
from samebits.ledger.keys import SigningKey
from samebits.ledger.log import Log

RUN = hash_blob(b"run")
SAMPLE = Sample(hash_blob(b"draw"), bytes(32), b"", hash_blob(b"checkpoint"), (0, 3))
BODIES: list[Body] = [
    DrawBody(RUN, bytes(32), 10, 3),
    TraceBody(RUN, 4, 5, "nodes", 17, bytes(32)),
    VerdictBody(RUN, 0, 40, "same", None, "numpy", SAMPLE),
    VerdictBody(RUN, 0, 40, "different", 33, "numpy", Sample(None, b"", b"round", RUN, (3,))),
]


@pytest.mark.parametrize("body", BODIES, ids=lambda body: body.KIND)
def test_bodies_come_back_as_they_were(body: Body, author: SigningKey) -> None:
    entry = sign_entry(author.verifier.name, RUN, body, author, time=7)
    assert decode_entry(encode_entry(entry)) == entry


def test_a_run_may_begin_later_and_name_its_parent(author: SigningKey) -> None:
    body = RunBody(RUN, bytes(16), 50, 1, 10, 20, hash_blob(b"parent"))
    entry = sign_entry(author.verifier.name, None, body, author)
    assert decode_entry(encode_entry(entry)).body == body
    plain = RunBody(RUN, bytes(16), 50, 1, 10)
    assert not {"first_step", "parent"} & plain.to_body().keys()  # what was written before stays as it is
    with pytest.raises(EntryError, match="parent"):
        RunBody.from_body({**plain.to_body(), "parent": 3})
    spelled = RunBody.from_body({**plain.to_body(), "first_step": 0})
    assert spelled == plain  # so an entry that spells it out is not canonical


@pytest.mark.parametrize(
    ("make", "field"),
    [
        (lambda: DrawBody(RUN, bytes(32), 3, 4), "sample"),
        (lambda: DrawBody(RUN, bytes(31), 3, 1), "nonce_hash"),
        (lambda: TraceBody(RUN, 4, 4, "nodes", 1, bytes(32)), "stop_step"),
        (lambda: TraceBody(RUN, 4, 5, "bits", 1, bytes(32)), "level"),  # type: ignore[arg-type]
        (lambda: TraceBody(RUN, 4, 5, "nodes", 0, bytes(32)), "leaves"),
        (lambda: RunBody(RUN, bytes(16), 5, 1, 1, 5), "first_step"),
        (lambda: RunBody(RUN, bytes(16), 5, 1, 1, False), "first_step"),
        (lambda: Sample(None, b"", b"", RUN, (0,)), "beacon"),
        (lambda: Sample(None, bytes(32), b"x", RUN, (0,)), "nonce"),
        (lambda: Sample(RUN, bytes(32), bytes(65), RUN, (0,)), "beacon"),
        (lambda: Sample(RUN, bytes(32), b"", RUN, (1, 0)), "segments"),
        (lambda: Sample(RUN, bytes(32), b"", RUN, ()), "segments"),
    ],
)
def test_malformed_fields_are_named(make: Callable[[], Any], field: str) -> None:
    with pytest.raises(EntryError) as caught:
        make()
    assert caught.value.field == field


@pytest.fixture
def chained(log: Log, make_entries: Callable[..., list[Entry]]) -> list[Entry]:
    entries = make_entries(log.origin, 3)
    log.append(entries)
    return entries


def test_only_the_runner_traces_and_within_a_segment(
    log: Log, chained: list[Entry], author: SigningKey, stranger: SigningKey
) -> None:
    run, second = entry_address(chained[0]), entry_address(chained[2])

    def trace(key: SigningKey, prev: Digest, first: int) -> Entry:
        return sign_entry(log.origin, prev, TraceBody(run, first, first + 1, "nodes", 9, bytes(32)), key)

    with pytest.raises(ChainError, match=r"only .* traces this run"):
        log.append([trace(stranger, second, 1)])
    with pytest.raises(ChainError, match="outside its segment"):
        log.append([trace(author, second, 0)])
    with pytest.raises(ChainError, match="not in this run"):
        log.append([trace(author, run, 0)])
    log.append([trace(author, second, 1)])
    assert log.audit().traces == 1
    assert len(log.chain(run).segments) == 3


def test_a_draw_is_by_anyone_and_names_a_segment(log: Log, chained: list[Entry], stranger: SigningKey) -> None:
    run = entry_address(chained[0])
    body = DrawBody(run, bytes(32), 3, 2)
    with pytest.raises(ChainError, match="not in this run"):
        log.append([sign_entry(log.origin, hash_blob(b"another"), body, stranger)])
    log.append([sign_entry(log.origin, entry_address(chained[-1]), body, stranger)])
    assert log.audit().draws == 1
    assert log.chain(run).is_complete is False


def test_a_run_that_begins_later_chains_from_there(
    log: Log, author: SigningKey, make_segment: Callable[..., Entry]
) -> None:
    body = RunBody(hash_blob(b"job"), bytes(16), 30, 1, 10, 20, hash_blob(b"parent"))
    run = sign_entry(log.origin, None, body, author)
    log.append([run])
    with pytest.raises(ChainError, match="starts at step 0, but the run stands at step 20"):
        log.append([make_segment(run, run, 0)])
    log.append([make_segment(run, run, 20, stop_step=30)])
    chain = log.chain(entry_address(run))
    assert chain.is_complete
    assert log.audit().problems == ()
