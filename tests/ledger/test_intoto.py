"""Statements: what is written is read back, and what is no statement is refused with what is wrong."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from samebits.ledger.dsse import Envelope, sign_envelope
from samebits.ledger.errors import EnvelopeError
from samebits.ledger.intoto import PAYLOAD_TYPE, STATEMENT_TYPE, Resource, Statement, parse_statement, sign_statement
from samebits.ledger.keys import SigningKey

KEY = SigningKey("a.example", bytes(32))
GOOD: dict[str, Any] = {
    "_type": STATEMENT_TYPE,
    "subject": [{"name": "a", "digest": {"sha256": "00"}}],
    "predicateType": "https://example.com/p/v1",
    "predicate": {"x": [1, None, "ä"]},
}


def envelope_of(value: object, kind: str = PAYLOAD_TYPE) -> Envelope:
    return sign_envelope(kind, json.dumps(value).encode(), KEY)


texts = st.text(st.characters(codec="utf-8"), max_size=20)
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)
resources = st.builds(
    Resource, texts, st.dictionaries(texts, texts, min_size=1, max_size=3), texts, st.dictionaries(texts, values)
)


@given(st.lists(resources, min_size=1, max_size=3), texts.filter(bool), st.dictionaries(texts, values, max_size=4))
def test_parse_reads_back_what_is_signed(subjects: list[Resource], kind: str, predicate: dict[str, Any]) -> None:
    statement = Statement(tuple(subjects), kind, predicate)
    assert parse_statement(sign_statement(statement, KEY)) == statement


def test_parse_ignores_fields_it_does_not_know() -> None:
    """in-toto's parsing rules: "Consumers MUST ignore unrecognized fields"."""
    subject = {**GOOD["subject"][0], "more": 1, "uri": "https://example.com"}
    assert parse_statement(envelope_of({**GOOD, "more": {}, "subject": [subject]})).subjects[0].name == "a"


def test_encode_has_one_form() -> None:
    statement = Statement((Resource("a", {"sha256": "00", "blake3": "11"}),), "p", {"b": 1, "a": "ä"})
    assert statement.encode() == (
        b'{"_type":"https://in-toto.io/Statement/v1","predicate":{"a":"\\u00e4","b":1},"predicateType":"p",'
        b'"subject":[{"digest":{"blake3":"11","sha256":"00"},"name":"a"}]}'
    )


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"_type": "https://in-toto.io/Statement/v0.1"}, "_type is not"),
        ({"_type": None}, "_type is not"),
        ({"predicateType": ""}, "predicateType"),
        ({"predicateType": 1}, "predicateType"),
        ({"predicate": []}, "predicate is not an object"),
        ({"subject": []}, "at least one"),
        ({"subject": {}}, "at least one"),
        ({"subject": ["a"]}, "a subject is not an object"),
        ({"subject": [{"name": "a"}]}, "no digest"),
        ({"subject": [{"name": "a", "digest": {}}]}, "no digest"),
        ({"subject": [{"name": "a", "digest": {"sha256": 1}}]}, "no digest"),
        ({"subject": [{"name": 1, "digest": {"sha256": "00"}}]}, "name or mediaType"),
        ({"subject": [{"mediaType": 1, "digest": {"sha256": "00"}}]}, "name or mediaType"),
        ({"subject": [{"annotations": [], "digest": {"sha256": "00"}}]}, "annotations"),
    ],
)
def test_parse_refuses(changes: dict[str, Any], problem: str) -> None:
    with pytest.raises(EnvelopeError, match="malformed statement: ") as caught:
        parse_statement(envelope_of({**GOOD, **changes}))
    assert problem in str(caught.value)


def test_parse_refuses_other_payloads() -> None:
    with pytest.raises(EnvelopeError, match="not application/vnd"):
        parse_statement(envelope_of(GOOD, "application/json"))
    with pytest.raises(EnvelopeError, match="not a JSON object"):
        parse_statement(envelope_of([GOOD]))
    with pytest.raises(EnvelopeError, match="stands twice"):
        parse_statement(sign_envelope(PAYLOAD_TYPE, b'{"_type": "a", "_type": "b"}', KEY))
