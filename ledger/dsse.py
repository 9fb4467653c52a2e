"""DSSE envelopes: bytes of a stated type, signed by Ed25519 keys, as one JSON value.

Example, shortened: ``{"payload":"eyJf...","payloadType":"application/vnd.in-toto+json",
"signatures":[{"keyid":"6d5d...","sig":"EPsR..."}]}``. The signature is over the PAE, of type and payload:
``DSSEv1 29 http://example.com/HelloWorld 11 hello world``.
Source: https://github.com/secure-systems-lab/dsse (protocol.md and envelope.md, v1.0.0)
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Final

from samebits.ledger.errors import EnvelopeError, SignatureError
from samebits.ledger.keys import SigningKey, VerifierKey

MAX_ENVELOPE_SIZE_BYTES: Final = 64 << 20
MAX_SIGNATURES: Final = 100
MAX_DEPTH: Final = 64  # of JSON


@dataclass(frozen=True, slots=True)
class EnvelopeSignature:
    """One signature. The key ID is a hint that nothing vouches for."""

    key_id: str
    signature: bytes


@dataclass(frozen=True, slots=True)
class Envelope:
    """An envelope as it was read: nothing in it is to be believed before `verify_envelope`."""

    payload_type: str
    payload: bytes
    signatures: tuple[EnvelopeSignature, ...]

    def format(self) -> str:
        """Return the JSON of the envelope in one line."""
        signatures = [{"keyid": one.key_id, "sig": _encode(one.signature)} for one in self.signatures]
        value = {"payload": _encode(self.payload), "payloadType": self.payload_type, "signatures": signatures}
        return json.dumps(value, separators=(",", ":")) + "\n"


def encode_pae(payload_type: str, payload: bytes) -> bytes:
    """Return the bytes that are signed (DSSE's pre-authentication encoding)."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def sign_envelope(payload_type: str, payload: bytes, key: SigningKey) -> Envelope:
    """Return an envelope with one signature."""
    signature = key.sign(encode_pae(payload_type, payload))
    return Envelope(payload_type, payload, (EnvelopeSignature(envelope_key_id(key.public), signature),))


def envelope_key_id(public: bytes) -> str:
    """Return the key ID that securesystemslib gives the key: SHA-256 of its metadata in canonical JSON, as hex."""
    value = {"keytype": "ed25519", "keyval": {"public": public.hex()}, "scheme": "ed25519"}
    return sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def verify_envelope(envelope: Envelope, keys: Iterable[VerifierKey]) -> VerifierKey:
    """Return the first of the keys that signed the envelope; raises SignatureError if none did.

    Every key is tried on every signature: key IDs decide nothing.
    """
    message = encode_pae(envelope.payload_type, envelope.payload)
    tried = list(keys)
    for key in tried:
        for one in envelope.signatures:
            try:
                key.verify(one.signature, message)
            except SignatureError:
                continue
            return key
    names = ", ".join(dict.fromkeys(key.name for key in tried)) or "any key"
    raise SignatureError(f"the envelope has no valid signature by {names}")


def parse_envelope(data: bytes) -> Envelope:
    """Read the JSON of an envelope, both forms of base64; raises EnvelopeError. Fields beyond the known are ignored."""
    value = load_json_object("envelope", data)
    payload_type, signatures = value.get("payloadType"), value.get("signatures")
    if not isinstance(payload_type, str):
        raise EnvelopeError("envelope", "payloadType is not text")
    if not isinstance(signatures, list) or not 1 <= len(signatures) <= MAX_SIGNATURES:
        raise EnvelopeError("envelope", f"signatures is not a list of 1 to {MAX_SIGNATURES}")
    try:
        payload_type.encode()
    except UnicodeEncodeError:
        raise EnvelopeError("envelope", "payloadType is not valid Unicode") from None
    payload = _decode("payload", value.get("payload"))
    return Envelope(payload_type, payload, tuple(_parse_signature(one) for one in signatures))


def load_json_object(what: str, data: bytes) -> dict[str, Any]:
    """Read JSON whose value is an object, by one reading only: no name stands twice in an object, no NaN.

    Raises EnvelopeError, also for one longer than 64 MiB or nested deeper than 64.
    """
    if len(data) > MAX_ENVELOPE_SIZE_BYTES:
        raise EnvelopeError(what, f"longer than {MAX_ENVELOPE_SIZE_BYTES} bytes")
    try:
        value = json.loads(data.decode(), object_pairs_hook=_unique, parse_constant=_refuse_constant)
        _check_depth(value)
    except (ValueError, RecursionError) as error:
        raise EnvelopeError(what, f"not JSON: {str(error)[:200]}") from None
    if not isinstance(value, dict):
        raise EnvelopeError(what, "not a JSON object")
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise ValueError("a name stands twice in an object")
    return value


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


def _check_depth(value: object) -> None:
    level = [value]
    for _ in range(MAX_DEPTH):
        inner = [one for one in level if isinstance(one, dict | list)]
        level = [item for one in inner for item in (one.values() if isinstance(one, dict) else one)]
        if not level:
            return
    raise ValueError(f"nested deeper than {MAX_DEPTH}")


def _parse_signature(value: object) -> EnvelopeSignature:
    if not isinstance(value, dict) or not isinstance(key_id := value.get("keyid", ""), str):
        raise EnvelopeError("envelope", "a signature is not an object with a keyid that is text")
    return EnvelopeSignature(key_id, _decode("sig", value.get("sig")))


def _encode(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def _decode(name: str, text: object) -> bytes:
    """Read standard or URL-safe base64, either in its canonical form with padding."""
    if not isinstance(text, str):
        raise EnvelopeError("envelope", f"{name} is not text")
    try:
        data = base64.b64decode(text.replace("-", "+").replace("_", "/").encode("ascii"), validate=True)
    except (UnicodeEncodeError, binascii.Error):
        raise EnvelopeError("envelope", f"{name} is not base64") from None
    if text not in (_encode(data), base64.urlsafe_b64encode(data).decode("ascii")):
        raise EnvelopeError("envelope", f"{name} is not base64 in its canonical form")
    return data
