"""Signed notes: Go's known note, round trips, and every malformed one refused."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from samebits.ledger.errors import LedgerError, NoteFormatError, SignatureError
from samebits.ledger.keys import SigningKey, VerifierKey
from samebits.ledger.note import format_signature, open_note, parse_note, sign_note

# The example of Go's sumdb/note documentation.
NEUMANN = VerifierKey.parse("PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW")
NEUMANN_NOTE = (
    "If you think cryptography is the answer to your problem,\n"
    "then you don't know what your problem is.\n"
    "\n"
    "\u2014 PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n"
)
KEY = SigningKey("a.example", bytes(32))
OTHER = SigningKey("b.example", bytes([1]) * 32)
LINE = "\u2014 a.example " + base64.b64encode(KEY.key_id + KEY.sign(b"text\n")).decode() + "\n"


def test_open_note_accepts_the_known_note_of_go() -> None:
    note = open_note(NEUMANN_NOTE.encode(), [NEUMANN])
    assert note.text == NEUMANN_NOTE.partition("\n\n")[0] + "\n"
    assert [signature.name for signature in note.verified] == ["PeterNeumann"]


def test_open_note_refuses_every_flipped_byte_of_the_known_note() -> None:
    for place in range(len(NEUMANN_NOTE.encode())):
        changed = bytearray(NEUMANN_NOTE.encode())
        changed[place] ^= 1
        with pytest.raises(LedgerError):
            open_note(bytes(changed), [NEUMANN])


def test_open_note_splits_at_the_last_blank_line() -> None:
    text = "one\n\ntwo\n\n\u2014 not a signature but text\n\n\n"
    assert open_note(sign_note(text, [KEY]).encode(), [KEY.verifier]).text == text


def test_open_note_sets_signatures_by_unknown_keys_aside() -> None:
    note = open_note(sign_note("text\n", [KEY, OTHER]).encode(), [OTHER.verifier])
    assert [signature.name for signature in note.verified] == ["b.example"]
    assert [signature.name for signature in note.unknown] == ["a.example"]
    same_name = SigningKey("a.example", bytes([2]) * 32)
    assert open_note(sign_note("text\n", [same_name, KEY]).encode(), [KEY.verifier]).unknown[0].name == "a.example"


def test_open_note_wants_a_known_signature() -> None:
    with pytest.raises(SignatureError, match=r"no signature by b\.example"):
        open_note(sign_note("text\n", [KEY]).encode(), [OTHER.verifier])
    with pytest.raises(SignatureError, match="no signature by any key"):
        open_note(sign_note("text\n", [KEY]).encode(), [])


def test_open_note_rejects_the_whole_note_for_one_bad_known_signature() -> None:
    bad = format_signature(KEY.name, KEY.key_id + KEY.sign(b"another text\n"))
    note = sign_note("text\n", [OTHER]) + bad
    open_note(note.encode(), [OTHER.verifier])
    with pytest.raises(SignatureError, match=r"by a\.example does not verify"):
        open_note(note.encode(), [OTHER.verifier, KEY.verifier])


def test_open_note_takes_100_signatures_and_no_more() -> None:
    others = [SigningKey(f"k{i}", i.to_bytes(32, "big")) for i in range(100)]
    assert len(open_note(sign_note("text\n", others[:16]).encode(), [others[15].verifier]).unknown) == 15
    full = sign_note("text\n", others)
    assert len(open_note(full.encode(), [others[99].verifier]).unknown) == 99
    with pytest.raises(NoteFormatError, match="more than 100"):
        open_note((full + LINE).encode(), [KEY.verifier])


@pytest.mark.parametrize(
    "note",
    [
        b"",
        b"text\n",
        b"text\n\n",
        b"text\n" + LINE.encode(),  # no blank line
        ("text\n\n" + LINE).encode()[:-1],  # no newline at the end
        ("text\n\n" + LINE + "\n").encode(),  # the last blank line has nothing after it
        ("text\r\n\n" + LINE).encode(),
        ("te\txt\n\n" + LINE).encode(),
        b"te\xffxt\n\n" + LINE.encode(),
        ("text\n\n" + LINE.replace("\u2014", "-")).encode(),
        ("text\n\n" + LINE.replace("\u2014 ", "\u2014")).encode(),
        ("text\n\n" + LINE.replace("a.example", "a+example")).encode(),
        ("text\n\n" + LINE.replace("a.example", "")).encode(),
        ("text\n\n" + LINE.replace("a.example", "a\u00a0example")).encode(),
        ("text\n\n" + LINE.replace("=\n", "\n")).encode(),
        ("text\n\n" + LINE.replace("\n", " \n")).encode(),
        b"text\n\n\xe2\x80\x94 a.example AAAAAA==\n",  # a key ID and nothing else
        b"text\n\n\xe2\x80\x94 a.example\n",
        b"x" * 1_000_001,
    ],
)
def test_parse_note_refuses_what_is_malformed(note: bytes) -> None:
    with pytest.raises(NoteFormatError):
        parse_note(note)


def test_sign_note_refuses_texts_that_could_not_be_read_back() -> None:
    for text in ("no newline", "a\tb\n", "a\ud800\n", ""):
        with pytest.raises(ValueError, match="cannot be signed"):
            sign_note(text, [KEY])
    with pytest.raises(ValueError, match="1 to 100"):
        sign_note("text\n", [])


@settings(max_examples=200, deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs", "Cc"])), st.integers(0, 3))
def test_open_note_gives_back_any_text(text: str, blank_lines: int) -> None:
    text += "\n" * blank_lines + "\n"
    assert open_note(sign_note(text, [KEY]).encode(), [KEY.verifier]).text == text


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200))
def test_open_note_raises_nothing_but_its_own_errors(data: bytes) -> None:
    for note in (data, b"text\n\n" + data, b"text\n\n\xe2\x80\x94 a.example " + data + b"\n"):
        with pytest.raises(LedgerError):
            open_note(note, [KEY.verifier])
