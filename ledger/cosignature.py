"""Cosignatures: what a witness signs to say that it saw a checkpoint, and when.

A signature line of the checkpoint's note. The signature is the time (8 bytes, big endian, POSIX seconds) and an Ed25519
signature over two lines and the note's text::

    cosignature/v1
    time 1679315147
    example.com/behind-the-sofa
    20852163
    CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=

It says that at this time, by the witness's clock, this was the largest tree of the log that it had seen, and that every
tree it cosigned before is a prefix of it. A key's text has type 04 in the place of 01.

Source: https://c2sp.org/tlog-cosignature (v1.0.0, Ed25519)
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from samebits.ledger.ed25519 import SIGNATURE_SIZE_BYTES
from samebits.ledger.errors import SignatureError
from samebits.ledger.keys import (
    COSIGNATURE,
    SigningKey,
    VerifierKey,
    check_key_id,
    compute_key_id,
    format_key,
    format_private_key,
    parse_key,
    parse_private_key,
)
from samebits.ledger.note import NoteSignature, format_signature

MAX_TIME_S: Final = (1 << 63) - 1
_TIME_SIZE_BYTES: Final = 8


@dataclass(frozen=True, slots=True)
class WitnessVerifierKey:
    """The public key of a witness and the name it goes by. Checks signatures of notes, as `VerifierKey` does."""

    name: str
    public: bytes  # 32 bytes, Ed25519

    def __post_init__(self) -> None:
        VerifierKey(self.name, self.public)  # checks both

    @property
    def key_id(self) -> bytes:
        """The 4 bytes that, with the name, say which key made a signature."""
        return compute_key_id(self.name, COSIGNATURE, self.public)

    @property
    def vkey(self) -> str:
        """The text form of the key."""
        return format_key(self.name, self.key_id, COSIGNATURE, self.public)

    @classmethod
    def parse(cls, vkey: str) -> WitnessVerifierKey:
        """Read the text form; raises NoteFormatError for anything else, another key type included."""
        name, key_id, public = parse_key("witness key", vkey, COSIGNATURE)
        key = cls(name, public)
        check_key_id("witness key", key_id, key.key_id)
        return key

    def verify(self, signature: bytes, data: bytes) -> None:
        """Check a cosignature (time and signature) over the text of a checkpoint; raises SignatureError."""
        message = _signed_message(data, cosignature_time(signature))
        VerifierKey(self.name, self.public).verify(signature[_TIME_SIZE_BYTES:], message)


@dataclass(frozen=True, slots=True)
class WitnessSigningKey:
    """The private key of a witness. Its repr does not show the seed."""

    name: str
    seed: bytes = field(repr=False)  # 32 bytes
    _signing: SigningKey = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_signing", SigningKey(self.name, self.seed))

    @classmethod
    def generate(cls, name: str) -> WitnessSigningKey:
        """Return a new key from the system's random bytes."""
        return cls(name, SigningKey.generate(name).seed)

    @property
    def verifier(self) -> WitnessVerifierKey:
        """The public half, with the name."""
        return WitnessVerifierKey(self.name, self._signing.public)

    def format(self) -> str:
        """Return the text form of the private key: PRIVATE+KEY+name+key ID+base64 of 04 || seed."""
        return format_private_key(self.name, self.verifier.key_id, COSIGNATURE, self.seed)

    @classmethod
    def parse(cls, text: str) -> WitnessSigningKey:
        """Read the text form; raises NoteFormatError (which never shows the text)."""
        name, key_id, seed = parse_private_key(text, COSIGNATURE)
        key = cls(name, seed)
        check_key_id("private key", key_id, key.verifier.key_id)
        return key

    def cosign(self, text: str, time_s: int) -> str:
        """Return the signature line over the text of a checkpoint, at a time in POSIX seconds.

        The text is not checked: `Witness` does that before it signs.
        """
        if not 0 <= time_s <= MAX_TIME_S:
            raise ValueError("a time is from 0 to 2^63-1 seconds")
        signature = self._signing.sign(_signed_message(text.encode(), time_s))
        time = time_s.to_bytes(_TIME_SIZE_BYTES, "big")
        return format_signature(self.name, self.verifier.key_id + time + signature)


@dataclass(frozen=True, slots=True)
class Cosignature:
    """A cosignature that verifies."""

    key: WitnessVerifierKey
    time_s: int  # POSIX seconds, by the witness's clock
    line: str  # of the note, with its newline


def cosignature_time(signature: bytes) -> int:
    """Return the time in POSIX seconds that a cosignature names; raises SignatureError for one that cannot be one."""
    time_s = int.from_bytes(signature[:_TIME_SIZE_BYTES], "big")
    if len(signature) != _TIME_SIZE_BYTES + SIGNATURE_SIZE_BYTES or time_s > MAX_TIME_S:
        raise SignatureError(f"{len(signature)} bytes are not a cosignature: a time before 2^63 and 64 bytes")
    return time_s


def find_cosignature(key: WitnessVerifierKey, text: str, signatures: Iterable[NoteSignature]) -> Cosignature | None:
    """Return the latest cosignature of a text by this key, None if there is none; raises SignatureError for a bad one.

    A witness may have signed more than once.
    """
    latest: Cosignature | None = None
    for found in signatures:
        if (found.name, found.key_id) != (key.name, key.key_id):
            continue
        try:
            key.verify(found.signature, text.encode())
        except SignatureError:
            raise SignatureError(f"the cosignature by {key.name} does not verify") from None
        time_s = cosignature_time(found.signature)
        if latest is None or time_s > latest.time_s:
            latest = Cosignature(key, time_s, format_signature(key.name, key.key_id + found.signature))
    return latest


def _signed_message(text: bytes, time_s: int) -> bytes:
    return b"cosignature/v1\ntime %d\n" % time_s + text
