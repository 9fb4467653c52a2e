"""How many segments to draw, which ones, and what a draw misses: exact, and the same for everybody."""

from __future__ import annotations

from collections import Counter
from fractions import Fraction
from itertools import combinations
from math import comb

import pytest
from blake3 import blake3

from samebits.cas import Digest
from samebits.exec.errors import RunError
from samebits.exec.verification import sampling
from samebits.exec.verification.sampling import (
    altered_segments,
    draw_segments,
    hash_nonce,
    miss_probability,
    smallest_sample,
)
from samebits.exec.verification.selection import SampleRequest, parse_fraction, parse_step_range

RUN, HEAD = Digest(bytes(range(32))), Digest(bytes(range(32, 64)))
NONCE = bytes(range(64, 96))
CHECKPOINT = "samebits.local/log/0123456789abcdef\n1\nbjQLnP+zepicpUTmu3gKLHiQHT+zNzh2hRGjBhevoB0=\n"
NONCE_HASH = "0bb2922d128e0a6beaba8ab4a5db38cbb25e5977c5f9493e65149e742e5ffecf"
DRAWN = (25, 45, 129, 140, 197, 216, 270, 273, 297, 303)
DRAWN_BY_BEACON = (3, 27, 41, 56, 132, 146, 192, 207, 260, 286)


def test_miss_probability_counts_the_samples_that_hit_nothing() -> None:
    for total in range(1, 8):
        for altered in range(total + 1):
            for size in range(total + 1):
                samples = list(combinations(range(total), size))
                missing = sum(all(one >= altered for one in sample) for sample in samples)
                assert miss_probability(total, altered, size) == Fraction(missing, len(samples))


@pytest.mark.parametrize("arguments", [(5, 6, 1), (5, 1, 6), (5, -1, 1), (5, 1, -1)])
def test_miss_probability_refuses_numbers_outside(arguments: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match=r"want 0 \.\. 5"):
        miss_probability(*arguments)


@pytest.mark.parametrize("total", [1, 2, 20, 59, 400])
@pytest.mark.parametrize("confidence", [Fraction(1, 2), Fraction(95, 100), Fraction(99, 100), Fraction(1, 1000)])
def test_smallest_sample_is_the_least_that_is_enough(total: int, confidence: Fraction) -> None:
    for fraud in (Fraction(1, 1000), Fraction(1, 20), Fraction(1, 2), Fraction(1)):
        altered = altered_segments(total, fraud)
        size = smallest_sample(total, altered, confidence)
        product = Fraction(1)
        for one in range(size):  # the chance to miss, draw by draw
            product *= Fraction(max(0, total - altered - one), total - one)
        assert product == miss_probability(total, altered, size) <= 1 - confidence
        assert size == 1 or miss_probability(total, altered, size - 1) > 1 - confidence


def test_smallest_sample_of_many_segments_is_exact() -> None:
    assert smallest_sample(1_000_000, 50_000, Fraction(99, 100)) == 90
    assert smallest_sample(1_000_000, 1, Fraction(99, 100)) == 990_000
    assert miss_probability(10**6, 50_000, 90) == Fraction(comb(950_000, 90), comb(10**6, 90))
    assert [altered_segments(400, parse_fraction(text)) for text in ("0.05", "5%", "0.0001", "1")] == [20, 20, 1, 400]


def test_draw_segments_gives_the_published_vector() -> None:
    """Values by the documentation alone, see `test_draw_segments_is_what_is_documented`; they may never change."""
    assert hash_nonce(RUN, NONCE).hex() == NONCE_HASH
    drawn = draw_segments(RUN, HEAD, 400, 10, nonce=NONCE, beacon=b"", checkpoint=CHECKPOINT)
    assert drawn == DRAWN
    assert draw_segments(RUN, HEAD, 400, 10, nonce=b"", beacon=b"\1\2", checkpoint=CHECKPOINT) == DRAWN_BY_BEACON


def test_draw_segments_is_what_is_documented() -> None:
    """The rule, written down a second time, with a list that is really shuffled."""
    for total, size, nonce, beacon in ((400, 10, NONCE, b""), (7, 7, NONCE, b"x" * 64), (3000, 2500, b"", b"\0")):
        text = CHECKPOINT.encode() if nonce else b""
        material = RUN.raw + HEAD.raw + total.to_bytes(8, "big") + size.to_bytes(8, "big")
        material += bytes([len(nonce)]) + nonce + bytes([len(beacon)]) + beacon + len(text).to_bytes(4, "big") + text
        hasher = blake3(material, derive_key_context="samebits 2026-11-22 draw of segments v1")
        words = iter(memoryview(hasher.digest(length=1 << 16)).cast("Q"))
        numbers = list(range(total))
        for place in range(size):
            bound = total - place
            word = next(word for word in words if word < 2**64 // bound * bound)
            other = place + word % bound
            numbers[place], numbers[other] = numbers[other], numbers[place]
        expected = tuple(sorted(numbers[:size]))
        assert draw_segments(RUN, HEAD, total, size, nonce=nonce, beacon=beacon, checkpoint=CHECKPOINT) == expected


def test_draw_segments_draws_each_segment_as_often() -> None:
    counts = Counter(
        number
        for seed in range(3000)
        for number in draw_segments(RUN, HEAD, 10, 3, nonce=seed.to_bytes(32, "big"), beacon=b"", checkpoint=CHECKPOINT)
    )
    assert sorted(counts) == list(range(10))
    assert all(780 < count < 1020 for count in counts.values())  # 900 expected, deviation 25


def test_every_part_of_the_seed_matters() -> None:
    def draw(**changes: object) -> tuple[int, ...]:
        given = {"run": RUN, "head": HEAD, "total": 400, "size": 10, "nonce": NONCE, "beacon": b"", **changes}
        return draw_segments(**{"checkpoint": CHECKPOINT, **given})  # type: ignore[arg-type]

    changed = [
        draw(run=HEAD),
        draw(head=RUN),
        draw(total=401),
        draw(size=11),
        draw(nonce=bytes(32)),
        draw(beacon=b"\0"),
        draw(checkpoint=CHECKPOINT.replace("\n1\n", "\n2\n")),
    ]
    assert len({draw(), *changed}) == 8
    public = {"nonce": b"", "beacon": b"public"}
    assert draw(**public) == draw(**public, checkpoint="another that the prover has made since")
    with pytest.raises(RunError, match="a sample of 401 of 400"):
        draw(size=401)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "either a size or a confidence"),
        ({"size": 0}, "want 1 or more"),
        ({"size": 3, "confidence": Fraction(1, 2)}, "either a size or a confidence"),
        ({"confidence": Fraction(1)}, "above 0 and below 1"),
        ({"size": 3, "fraud": Fraction(0)}, "above 0 and up to 1"),
        ({"size": 3, "beacon": bytes(65)}, "want 1 to 64"),
    ],
)
def test_a_sample_request_that_makes_no_sense_is_refused(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(RunError, match=message):
        SampleRequest(**arguments)  # type: ignore[arg-type]


def test_fractions_and_ranges_are_read_exactly_or_refused() -> None:
    assert [parse_fraction(text) for text in ("0.99", ".5", "2%", "12.5%", "1.")] == [
        Fraction(99, 100), Fraction(1, 2), Fraction(1, 50), Fraction(1, 8), Fraction(1),
    ]  # fmt: skip
    for text in ("", "x", "-1", "1e3", "0,5", "nan", "%", "0.5 %", "1/2", "٥"):
        with pytest.raises(RunError, match="is no fraction"):
            parse_fraction(text)
    assert [(one.first, one.stop) for one in map(parse_step_range, ("3:5", ":5", "3:", ":"))] == [
        (3, 5), (None, 5), (3, None), (None, None),
    ]  # fmt: skip
    for text in ("", "3", "a:b", "1:2:3", "-1:2", " 1:2", "٣:5"):
        with pytest.raises(RunError, match="is no range"):
            parse_step_range(text)
    with pytest.raises(RunError, match="up to 10000; replay everything"):
        SampleRequest(10_001).count(20_000)


def test_words_that_would_favour_some_numbers_are_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """2^64 = 3 * 6148914691236517205 + 1, so of the last multiple of 3 only one word is there."""
    stream = sampling._Stream(b"")
    words = iter([2**64 - 1, 2**64 - 1, 2**64 - 2, 7])
    monkeypatch.setattr(stream, "_word", lambda: next(words))
    assert (stream.below(3), stream.below(2)) == (2, 1)
