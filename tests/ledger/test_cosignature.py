"""Cosignatures: one made by other people's program, round trips, and what is refused."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from samebits.ledger.cosignature import (
    MAX_TIME_S,
    WitnessSigningKey,
    WitnessVerifierKey,
    cosignature_time,
    find_cosignature,
)
from samebits.ledger.errors import NoteFormatError, SignatureError
from samebits.ledger.keys import SigningKey, VerifierKey
from samebits.ledger.note import open_note, parse_note

# FiloSottile/sunlight, cmd/skylight/testdata/witness: witness.v0.json and the checkpoint that it serves
SUNLIGHT_KEY = "witness.example.org+b8a2cf20+BFLN3yikSfFkVAJtrnh/CiY3Zozkoy7clp+P7XB28qUN"
SUNLIGHT_NOTE = (
    "rome2026h1.example.org\n"
    "300\n"
    "lCkHUpkmVBEms2r2T1K6Og69+wUuuN3MIEW1/ezu2v0=\n"
    "\n"
    "\u2014 rome2026h1.example.org kVB1JgAAAZtxtEwABAMARzBFAiEAi+mTa2xjL1IdWpH82OeciGsGvwRAP+f1WkfKaSZCfFEC"
    "IHoNPZ/Q3y6UNzvKOO9cuLr6V16vPNfhwhle9f6r5H/Z\n"
    "\u2014 witness.example.org uKLPIAAAAABpVGeAhm2bOvKc3LaB9PFN1ruG19Y5yqslmcAAbhftnn1Zznmo0LXFZq4LGvqKqLX8jWlw"
    "LKasxEGTLIqAVusneCBmBw==\n"
)
KEY = WitnessSigningKey("witness.example/w1", bytes(range(32)))
TEXT = "example.com/log\n1\nbjQLnP+zepicpUTmu3gKLHiQHT+zNzh2hRGjBhevoB0=\n"


def signature_of(line: str) -> bytes:
    return base64.b64decode(line.split(" ")[2])[4:]


def test_find_cosignature_accepts_the_one_in_sunlights_test_data() -> None:
    key = WitnessVerifierKey.parse(SUNLIGHT_KEY)
    text, signatures = parse_note(SUNLIGHT_NOTE.encode())
    found = find_cosignature(key, text, signatures)
    assert found is not None
    assert found.time_s == 0x69546780  # 2025-12-31
    assert found.line == SUNLIGHT_NOTE.splitlines(keepends=True)[-1]
    assert open_note(SUNLIGHT_NOTE.encode(), [key]).verified[0].name == "witness.example.org"
    assert key.vkey == SUNLIGHT_KEY


def test_find_cosignature_refuses_every_changed_line_and_every_flipped_bit_of_the_signature() -> None:
    key = WitnessVerifierKey.parse(SUNLIGHT_KEY)
    text, signatures = parse_note(SUNLIGHT_NOTE.encode())
    for line in text.splitlines():
        with pytest.raises(SignatureError):
            find_cosignature(key, text.replace(line, line[:-1] + "A"), signatures)
    for place in range(72):
        changed = bytearray(signatures[1].signature)
        changed[place] ^= 1
        with pytest.raises(SignatureError):
            key.verify(bytes(changed), text.encode())


@given(seed=st.binary(min_size=32, max_size=32), time_s=st.integers(0, MAX_TIME_S))
def test_cosign_and_verify_are_inverse(seed: bytes, time_s: int) -> None:
    key = WitnessSigningKey("witness.example/w1", seed)
    line = key.cosign(TEXT, time_s)
    found = find_cosignature(key.verifier, TEXT, parse_note(f"{TEXT}\n{line}".encode())[1])
    assert found is not None
    assert (found.time_s, found.line) == (time_s, line)
    assert WitnessSigningKey.parse(key.format()) == key
    assert WitnessVerifierKey.parse(key.verifier.vkey) == key.verifier


def test_a_cosignature_is_bound_to_its_time_and_text() -> None:
    signature = signature_of(KEY.cosign(TEXT, 1000))
    KEY.verifier.verify(signature, TEXT.encode())
    later = (1001).to_bytes(8, "big") + signature[8:]
    for changed, text in ((later, TEXT), (signature, TEXT.replace("\n1\n", "\n2\n")), (signature, TEXT + "more\n")):
        with pytest.raises(SignatureError):
            KEY.verifier.verify(changed, text.encode())


@pytest.mark.parametrize("size", [0, 8, 64, 71, 73, 136])
def test_cosignature_time_refuses_other_sizes(size: int) -> None:
    with pytest.raises(SignatureError, match=f"{size} bytes are not a cosignature"):
        cosignature_time(bytes(size))


def test_times_beyond_2_63_are_refused() -> None:
    with pytest.raises(SignatureError):
        cosignature_time(b"\x80" + bytes(71))
    for time_s in (-1, MAX_TIME_S + 1):
        with pytest.raises(ValueError, match="a time is from 0"):
            KEY.cosign(TEXT, time_s)


def test_keys_of_logs_and_of_witnesses_are_not_taken_for_each_other() -> None:
    log = SigningKey("witness.example/w1", bytes(range(32)))
    with pytest.raises(NoteFormatError, match=r"key type 1 is not supported \(4 is an Ed25519 cosignature\)"):
        WitnessVerifierKey.parse(log.vkey)
    with pytest.raises(NoteFormatError, match=r"key type 4 is not supported \(1 is Ed25519\)"):
        VerifierKey.parse(KEY.verifier.vkey)
    with pytest.raises(NoteFormatError, match="key type 1"):
        WitnessSigningKey.parse(log.format())
    assert log.key_id != KEY.verifier.key_id
    assert KEY.format().split("+")[4][0] == "B"  # 04
    assert repr(KEY) == "WitnessSigningKey(name='witness.example/w1')"


def test_the_latest_of_two_cosignatures_counts() -> None:
    lines = KEY.cosign(TEXT, 2000) + KEY.cosign(TEXT, 1000)
    found = find_cosignature(KEY.verifier, TEXT, parse_note(f"{TEXT}\n{lines}".encode())[1])
    assert found is not None
    assert found.time_s == 2000
