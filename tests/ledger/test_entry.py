"""Entries: one encoding, one signature, and every field checked when made and when read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from samebits.cas.digest import Digest, hash_blob, hash_node
from samebits.cas.encoding import decode, encode
from samebits.ledger.bodies import Body, RunBody, SegmentBody, VerdictBody, read_body
from samebits.ledger.ed25519 import verify
from samebits.ledger.entry import (
    Entry,
    check_entry_signature,
    decode_entry,
    encode_entry,
    entry_address,
    run_address,
    sign_entry,
)
from samebits.ledger.errors import EntryError, SignatureError
from samebits.ledger.keys import SigningKey

ORIGIN = "samebits.local/log/0123456789abcdef"
KEY = SigningKey("runner.example", bytes(32))
A, B = hash_blob(b"a"), hash_blob(b"b")
RUN = RunBody(A, bytes(16), 10, 1, 5)
SEGMENT = SegmentBody(A, 0, 5, A, B, A, bytes(32), "numpy", (A, B))
VERDICT = VerdictBody(A, 0, 5, "different", 3, "opencl")

digests = st.binary(min_size=32, max_size=32).map(Digest)
steps = st.integers(1, (1 << 63) - 1)
texts = st.text(min_size=1, max_size=255).filter(str.isprintable)
runs = st.builds(RunBody, digests, st.binary(min_size=16, max_size=16), steps, steps, steps)
segments = st.builds(
    SegmentBody,
    digests,
    st.integers(0, 99),
    st.integers(100, (1 << 63) - 1),
    digests,
    digests,
    digests,
    st.binary(min_size=32, max_size=32),
    texts,
    st.lists(digests, max_size=5).map(tuple),
)
same = st.builds(VerdictBody, digests, st.integers(0, 9), st.integers(10, 99), st.just("same"), st.none(), texts)
different = st.builds(VerdictBody, digests, st.just(3), st.just(9), st.just("different"), st.integers(3, 8), texts)


@settings(max_examples=150, deadline=None)
@given(st.one_of(runs, segments, same, different))
def test_decode_entry_reads_back_what_was_signed(body: RunBody | SegmentBody | VerdictBody) -> None:
    entry = sign_entry(ORIGIN, None if isinstance(body, RunBody) else A, body, KEY)
    assert decode_entry(encode_entry(entry)) == entry
    assert read_body(entry.kind, body.to_body()) == body
    check_entry_signature(entry)
    assert entry.author == KEY.public


def test_entry_address_is_that_of_its_node() -> None:
    entry = sign_entry(ORIGIN, None, RUN, KEY)
    assert entry_address(entry) == hash_node(encode_entry(entry)) == run_address(entry)
    assert run_address(sign_entry(ORIGIN, B, SEGMENT, KEY)) == A


def test_encode_entry_is_what_the_readme_says() -> None:
    entry = sign_entry(ORIGIN, None, RUN, KEY)
    fields: dict[str, Any] = {
        "version": 1,
        "kind": "run",
        "origin": ORIGIN,
        "prev": None,
        "body": {"job": A, "nonce": bytes(16), "steps": 10, "commit_every": 1, "checkpoint_every": 5},
        "author": KEY.public,
    }
    verify(KEY.public, entry.signature, b"samebits entry v1\n" + encode(fields))
    assert encode_entry(entry) == encode(["entry", {**fields, "signature": entry.signature}])


def test_check_entry_signature_covers_every_field() -> None:
    entry = sign_entry(ORIGIN, A, SEGMENT, KEY)
    for changed in [
        replace(entry, origin=ORIGIN + "x"),
        replace(entry, prev=B),
        replace(entry, author=SigningKey("x", bytes([1]) * 32).public),
        replace(entry, signature=bytes(64)),
        replace(entry, body=replace(SEGMENT, run=B)),
        replace(entry, body=replace(SEGMENT, state_in=B)),
        replace(entry, body=replace(SEGMENT, commits=B)),
        replace(entry, body=replace(SEGMENT, first_step=1)),
        replace(entry, body=replace(SEGMENT, stop_step=6)),
        replace(entry, body=replace(SEGMENT, state_out=A)),
        replace(entry, body=replace(SEGMENT, commits_root=b"\1" * 32)),
        replace(entry, body=replace(SEGMENT, device="cuda")),
        replace(entry, body=replace(SEGMENT, kernels=(B, A))),
    ]:
        with pytest.raises(SignatureError, match="does not verify"):
            check_entry_signature(changed)


BAD_BODIES: list[tuple[type[Any], dict[str, Any], str]] = [
    (RunBody, {"job": bytes(32)}, "job"),
    (RunBody, {"nonce": bytes(15)}, "nonce"),
    (RunBody, {"nonce": "x" * 16}, "nonce"),
    (RunBody, {"steps": 0}, "steps"),
    (RunBody, {"steps": True}, "steps"),
    (RunBody, {"steps": 1 << 63}, "steps"),
    (RunBody, {"commit_every": 0}, "commit_every"),
    (RunBody, {"checkpoint_every": -1}, "checkpoint_every"),
    (SegmentBody, {"run": None}, "run"),
    (SegmentBody, {"first_step": -1}, "first_step"),
    (SegmentBody, {"first_step": 5}, "stop_step"),
    (SegmentBody, {"stop_step": 0}, "stop_step"),
    (SegmentBody, {"state_in": "x"}, "state_in"),
    (SegmentBody, {"state_out": 1}, "state_out"),
    (SegmentBody, {"commits": []}, "commits"),
    (SegmentBody, {"commits_root": bytes(31)}, "commits_root"),
    (SegmentBody, {"device": ""}, "device"),
    (SegmentBody, {"device": "x" * 256}, "device"),
    (SegmentBody, {"device": "a\x1b[2J"}, "device"),
    (SegmentBody, {"kernels": A}, "kernels"),
    (SegmentBody, {"kernels": [bytes(32)]}, "kernels"),
    (VerdictBody, {"result": "unknown"}, "result"),
    (VerdictBody, {"result": "same"}, "first_different_step"),
    (VerdictBody, {"first_different_step": None}, "first_different_step"),
    (VerdictBody, {"first_different_step": 5}, "first_different_step"),
    (VerdictBody, {"first_step": 4}, "first_different_step"),
    (VerdictBody, {"extra": 1}, "extra"),
    (VerdictBody, {"device": 3}, "device"),
]
GOOD: dict[type[Any], Any] = {RunBody: RUN, SegmentBody: SEGMENT, VerdictBody: VERDICT}


@pytest.mark.parametrize(("body_type", "changed", "name"), BAD_BODIES)
def test_body_refuses_a_bad_field_by_name(body_type: type[Any], changed: dict[str, Any], name: str) -> None:
    fields = {**GOOD[body_type].to_body(), **changed}
    with pytest.raises(EntryError, match=rf"^{name}: "):
        body_type.from_body(fields)
    if "extra" not in changed:
        with pytest.raises(EntryError, match=rf"^{name}: "):
            replace(GOOD[body_type], **changed)


@pytest.mark.parametrize("body_type", [RunBody, SegmentBody, VerdictBody])
def test_body_refuses_a_missing_field_by_name(body_type: type[Any]) -> None:
    fields = GOOD[body_type].to_body()
    for name in fields:
        with pytest.raises(EntryError, match=rf"^{name}: missing"):
            body_type.from_body({key: value for key, value in fields.items() if key != name})
    with pytest.raises(EntryError, match="want named fields"):
        body_type.from_body([])


BAD_FIELDS: list[dict[str, Any]] = [
    {"version": 2},
    {"version": 3},
    {"version": 0},
    {"version": True},
    {"time": 1_700_000_000},
    {"kind": "trace"},
    {"kind": "verdict"},
    {"kind": 1},
    {"origin": ""},
    {"origin": "a b"},
    {"origin": "a+b"},
    {"prev": None},
    {"prev": bytes(32)},
    {"body": None},
    {"author": bytes(31)},
    {"author": "x" * 32},
    {"signature": bytes(65)},
    {"extra": 1},
]


@pytest.mark.parametrize("changed", BAD_FIELDS)
def test_decode_entry_refuses_a_bad_field(changed: dict[str, Any]) -> None:
    node = decode(encode_entry(sign_entry(ORIGIN, A, SEGMENT, KEY)))
    assert isinstance(node, list)
    assert isinstance(node[1], dict)
    with pytest.raises(EntryError):
        decode_entry(encode([node[0], {**node[1], **changed}]))


def test_decode_entry_refuses_other_bytes() -> None:
    good = encode_entry(sign_entry(ORIGIN, None, RUN, KEY))
    node = decode(good)
    assert isinstance(node, list)
    for data in [
        b"",
        b"\xc1",
        good[:-1],
        good + b"\0",
        encode(1),
        encode([]),
        encode(["entry"]),
        encode(["entry", 1]),
        encode(["tensor", node[1]]),
        encode(["entry", node[1], 1]),
        b"\xdc\0\2" + good[1:],  # the array in a longer form
        bytes(65_536),
    ]:
        with pytest.raises(EntryError):
            decode_entry(data)


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 255))
def test_decode_entry_of_a_changed_byte_fails_or_no_longer_verifies(place: int, change: int) -> None:
    data = bytearray(encode_entry(sign_entry(ORIGIN, A, VERDICT, KEY)))
    data[place % len(data)] ^= change
    with pytest.raises((EntryError, SignatureError)):
        check_entry_signature(decode_entry(bytes(data)))


def test_sign_entry_refuses_what_could_not_be_read_back() -> None:
    cases: list[tuple[Digest | None, Body]] = [(A, RUN), (None, SEGMENT), (None, VERDICT)]
    for prev, body in cases:
        with pytest.raises(EntryError, match=r"^prev: "):
            sign_entry(ORIGIN, prev, body, KEY)
    for origin in ("", "a b", "x" * 256):
        with pytest.raises(EntryError, match=r"^origin: "):
            sign_entry(origin, None, RUN, KEY)


def test_encode_entry_takes_65_535_bytes_and_no_more(make_run: Callable[..., Entry]) -> None:
    spare = 65_535 - len(encode_entry(sign_entry(ORIGIN, A, replace(SEGMENT, kernels=()), KEY)))
    most = (spare - 2) // 35  # an address is 35 bytes, a list of 16 or more has 2 more bytes of length
    assert len(encode_entry(sign_entry(ORIGIN, A, replace(SEGMENT, kernels=(A,) * most), KEY))) <= 65_535
    with pytest.raises(EntryError, match="are more than 65535"):
        sign_entry(ORIGIN, A, replace(SEGMENT, kernels=(A,) * (most + 1)), KEY)
