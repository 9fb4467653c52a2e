"""tlog-proof files: round trips, and every file that is not in the one form refused."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.ledger.witness_places import Tree

from samebits.ledger.errors import NoteFormatError
from samebits.ledger.proof_file import MAX_EXTRA_SIZE_BYTES, TlogProof, format_proof, parse_proof

NOTE = Tree(3).note()
HASHES = (bytes(range(32)), bytes(32))
PROOF = TlogProof(1, HASHES, NOTE, b"extra data")
TEXT = format_proof(PROOF)


def test_format_proof_is_what_the_specification_shows() -> None:
    assert TEXT == (
        "c2sp.org/tlog-proof@v1\n"
        "extra ZXh0cmEgZGF0YQ==\n"
        "index 1\n"
        "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\n"
        "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n"
        "\n" + NOTE
    )
    assert format_proof(TlogProof(0, (), NOTE)) == f"c2sp.org/tlog-proof@v1\nindex 0\n\n{NOTE}"


@given(
    index=st.integers(0, (1 << 63) - 1),
    hashes=st.lists(st.binary(min_size=32, max_size=32), max_size=63),
    extra=st.binary(max_size=200),
)
def test_format_and_parse_are_inverse(index: int, hashes: list[bytes], extra: bytes) -> None:
    proof = TlogProof(index, tuple(hashes), NOTE, extra)
    assert parse_proof(format_proof(proof).encode()) == proof


@given(st.integers(0, len(TEXT.encode()) - 1), st.binary(max_size=3), st.integers(0, 3))
def test_parse_accepts_nothing_that_format_would_not_write(place: int, inserted: bytes, removed: int) -> None:
    data = TEXT.encode()
    changed = data[:place] + inserted + data[place + removed :]
    try:
        proof = parse_proof(changed)
    except NoteFormatError:
        return
    assert format_proof(proof).encode() == changed


def with_line(place: int, *lines: str) -> bytes:
    """Return the good file with one line replaced by others."""
    old = TEXT.split("\n")
    return "\n".join([*old[:place], *lines, *old[place + 1 :]]).encode()


BAD = [
    (b"", "its first line is not"),
    (NOTE.encode(), "its first line is not"),
    (with_line(0, "c2sp.org/tlog-proof@v2"), "its first line is not"),
    (TEXT.replace("\n", "\r\n").encode(), "its first line is not"),
    (with_line(1, "extra "), "the extra data is not base64, or empty"),
    (with_line(1, "extra !"), "the extra data is not base64, or empty"),
    (with_line(1, "extra ZXh0cmEgZGF0YQ"), "the extra data is not base64, or empty"),
    (with_line(1, "extra AA==", "extra AA=="), "want `index` and a number, not 'extra AA=='"),
    (with_line(1, "Extra AA=="), "want `index`"),
    (with_line(2), "want `index`"),
    (with_line(2, "index 01"), "want `index`"),
    (with_line(2, "index -1"), "want `index`"),
    (with_line(2, "index 1 "), "want `index`"),
    (with_line(2, "index"), "want `index`"),
    (with_line(2, "index \u0661"), "not ASCII"),
    (with_line(2, "index 9223372036854775808"), "want `index`"),
    (with_line(3, "AAAA"), "a line after the index is not base64 of 32 bytes"),
    (with_line(3, base64.b64encode(bytes(33)).decode()), "a line after the index"),
    (with_line(3, "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh9="), "a line after the index"),  # not canonical
    (with_line(3, *[base64.b64encode(bytes(32)).decode()] * 63), "more than 63 hashes"),
    (TEXT[: TEXT.index("\n\n") + 1].encode(), "no blank line before the checkpoint: is the file complete?"),
    (TEXT[: TEXT.rindex("\n\n") + 1].encode(), "malformed note"),
    (TEXT[:-1].encode(), "no newline after the signatures"),
    (TEXT.encode() + b"\n", "malformed note"),
    (TEXT.encode() + b"x" * 1_600_000, "longer than"),
    (with_line(1, "extra " + base64.b64encode(bytes(MAX_EXTRA_SIZE_BYTES + 1)).decode()), "more than 262144 bytes"),
]


@pytest.mark.parametrize(("data", "problem"), BAD)
def test_parse_proof_says_what_is_wrong(data: bytes, problem: str) -> None:
    with pytest.raises(NoteFormatError) as caught:
        parse_proof(data)
    assert problem in str(caught.value)


def test_a_proof_out_of_range_cannot_be_made() -> None:
    for wrong in ({"index": -1}, {"index": 1 << 63}, {"inclusion_proof": (b"x",)}, {"inclusion_proof": HASHES * 32}):
        with pytest.raises(ValueError, match=r"index|hash"):
            TlogProof(**{"index": 0, "inclusion_proof": (), "checkpoint": NOTE, **wrong})  # type: ignore[arg-type]
