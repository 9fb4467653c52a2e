"""Checkpoints: three lines, one form, signed by the log's own key."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from samebits.ledger.checkpoint import (
    Checkpoint,
    format_checkpoint,
    open_checkpoint,
    parse_checkpoint,
    sign_checkpoint,
)
from samebits.ledger.errors import NoteFormatError, SignatureError
from samebits.ledger.keys import SigningKey
from samebits.ledger.merkle import EMPTY_ROOT, leaf_hash
from samebits.ledger.note import sign_note

KEY = SigningKey("example.com/log", bytes(32))
ROOT = "bjQLnP+zepicpUTmu3gKLHiQHT+zNzh2hRGjBhevoB0="


def test_format_checkpoint_writes_three_lines() -> None:
    assert format_checkpoint(Checkpoint("example.com/log", 1, leaf_hash(b""))) == f"example.com/log\n1\n{ROOT}\n"


@settings(max_examples=200, deadline=None)
@given(st.integers(1, (1 << 63) - 1), st.binary(min_size=32, max_size=32))
def test_parse_checkpoint_reads_back_what_was_written(size: int, root: bytes) -> None:
    checkpoint = Checkpoint("example.com/log", size, root)
    assert parse_checkpoint(format_checkpoint(checkpoint)) == checkpoint
    assert open_checkpoint(sign_checkpoint(checkpoint, KEY).encode(), KEY.verifier) == checkpoint


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\n\n\n",
        f"o\n1\n{ROOT}",
        f"o\n1\n{ROOT}\n\n",
        f"o\n1\n{ROOT}\nextension\n",
        f"\n1\n{ROOT}\n",
        f"a b\n1\n{ROOT}\n",
        f"o\n01\n{ROOT}\n",
        f"o\n+1\n{ROOT}\n",
        f"o\n-1\n{ROOT}\n",
        f"o\n1 \n{ROOT}\n",
        f"o\n\u0661\n{ROOT}\n",
        f"o\n\n{ROOT}\n",
        f"o\n9223372036854775808\n{ROOT}\n",
        f"o\n0\n{ROOT}\n",
        "o\n1\n\n",
        "o\n1\nAAAA\n",
        f"o\n1\n{ROOT[:-1]}\n",
        f"o\n1\n{ROOT[:-2]}1=\n",  # bits beyond the last byte
        f"o\r\n1\n{ROOT}\n",
    ],
)
def test_parse_checkpoint_refuses_every_other_form(text: str) -> None:
    with pytest.raises(NoteFormatError):
        parse_checkpoint(text)


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=80))
def test_parse_checkpoint_raises_nothing_but_its_own_error(text: str) -> None:
    with pytest.raises(NoteFormatError):
        parse_checkpoint(text)


def test_parse_checkpoint_accepts_the_empty_tree() -> None:
    empty = Checkpoint("o", 0, EMPTY_ROOT)
    assert parse_checkpoint(format_checkpoint(empty)) == empty


def test_open_checkpoint_wants_the_log_to_be_the_signer() -> None:
    text = format_checkpoint(Checkpoint("another.example/log", 1, leaf_hash(b"")))
    with pytest.raises(NoteFormatError, match="is not the log"):
        open_checkpoint(sign_note(text, [KEY]).encode(), KEY.verifier)
    stranger = SigningKey("example.com/log", bytes([1]) * 32)
    note = sign_checkpoint(Checkpoint("example.com/log", 1, leaf_hash(b"")), stranger)
    with pytest.raises(SignatureError):
        open_checkpoint(note.encode(), KEY.verifier)


def test_sign_checkpoint_refuses_another_log() -> None:
    with pytest.raises(ValueError, match="cannot sign for log"):
        sign_checkpoint(Checkpoint("another.example/log", 1, leaf_hash(b"")), KEY)


def test_checkpoint_refuses_values_without_a_form() -> None:
    for origin, size, root in [("", 1, bytes(32)), ("a b", 1, bytes(32)), ("o", -1, bytes(32)), ("o", 1, bytes(31))]:
        with pytest.raises(ValueError, match=r"checkpoint|origin"):
            Checkpoint(origin, size, root)
