"""in-toto Statements v1: what is said (the predicate) about which artifacts (the subjects), as JSON.

Example, shortened: ``{"_type":"https://in-toto.io/Statement/v1","predicate":{...},"predicateType":
"https://slsa.dev/provenance/v1","subject":[{"digest":{"sha256":"..."},"name":"state"}]}``
Source: https://github.com/in-toto/attestation (spec/v1: statement, resource_descriptor, digest_set)
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from samebits.ledger.dsse import Envelope, load_json_object, sign_envelope
from samebits.ledger.errors import EnvelopeError
from samebits.ledger.keys import SigningKey

PAYLOAD_TYPE: Final = "application/vnd.in-toto+json"
STATEMENT_TYPE: Final = "https://in-toto.io/Statement/v1"

# names of digests, all of the same bytes, in lower-case hex; in-toto's list has the first, README.md defines the others
SHA256: Final = "sha256"
BLAKE3: Final = "blake3"
NODE: Final = "samebitsNode"


@dataclass(frozen=True, slots=True)
class Resource:
    """An artifact: a name that is stable within the statement, and digests that are all of the same bytes."""

    name: str
    digest: Mapping[str, str]  # algorithm -> lower-case hex; at least one
    media_type: str = ""
    annotations: Mapping[str, Any] = field(default_factory=dict)  # JSON values

    def to_json(self) -> dict[str, Any]:
        """Return the ResourceDescriptor."""
        value: dict[str, Any] = {"name": self.name, "digest": dict(self.digest)}
        if self.media_type:
            value["mediaType"] = self.media_type
        if self.annotations:
            value["annotations"] = dict(self.annotations)
        return value


@dataclass(frozen=True, slots=True)
class Statement:
    """A statement: `predicate`, whose form `predicate_type` says, holds for the subjects."""

    subjects: tuple[Resource, ...]  # at least one
    predicate_type: str
    predicate: Mapping[str, Any]  # JSON values

    def encode(self) -> bytes:
        """Return the JSON, names sorted, without spaces."""
        value = {
            "_type": STATEMENT_TYPE,
            "subject": [subject.to_json() for subject in self.subjects],
            "predicateType": self.predicate_type,
            "predicate": dict(self.predicate),
        }
        return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def sign_statement(statement: Statement, key: SigningKey) -> Envelope:
    """Return the statement in a signed envelope."""
    return sign_envelope(PAYLOAD_TYPE, statement.encode(), key)


def parse_statement(envelope: Envelope) -> Statement:
    """Read the statement in an envelope; raises EnvelopeError. Signatures are not looked at."""
    if envelope.payload_type != PAYLOAD_TYPE:
        raise EnvelopeError("statement", f"the payload is {envelope.payload_type[:80]!r}, not {PAYLOAD_TYPE}")
    value = load_json_object("statement", envelope.payload)
    if value.get("_type") != STATEMENT_TYPE:
        raise EnvelopeError("statement", f"_type is not {STATEMENT_TYPE}")
    predicate_type, predicate, subjects = (value.get(name) for name in ("predicateType", "predicate", "subject"))
    if not isinstance(predicate_type, str) or not predicate_type:
        raise EnvelopeError("statement", "predicateType is not text")
    if not isinstance(predicate, dict):
        raise EnvelopeError("statement", "predicate is not an object")
    if not isinstance(subjects, list) or not subjects:
        raise EnvelopeError("statement", "subject is not a list of at least one")
    return Statement(tuple(_parse_subject(one) for one in subjects), predicate_type, predicate)


def _parse_subject(value: object) -> Resource:
    if not isinstance(value, dict):
        raise EnvelopeError("statement", "a subject is not an object")
    name, digest, media_type, annotations = (value.get(key) for key in ("name", "digest", "mediaType", "annotations"))
    if not isinstance(digest, dict) or not digest or not all(isinstance(one, str) for one in digest.values()):
        raise EnvelopeError("statement", "a subject has no digest, or one that is not text")
    if not isinstance(name, str | None) or not isinstance(media_type, str | None):
        raise EnvelopeError("statement", "a subject's name or mediaType is not text")
    if not isinstance(annotations, dict | None):
        raise EnvelopeError("statement", "a subject's annotations are not an object")
    return Resource(name or "", digest, media_type or "", annotations or {})
