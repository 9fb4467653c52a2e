"""Philox4x32-10 and Threefry2x32-20 against the known answers of Random123."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from samebits.kernels.random import philox4x32, threefry2x32

VECTORS = Path(__file__).parent.parent / "vectors" / "random123" / "kat_vectors"
GENERATORS: dict[tuple[str, str], tuple[int, Callable[[Any, Any], Any]]] = {
    ("philox4x32", "10"): (4, philox4x32),
    ("threefry2x32", "20"): (2, threefry2x32),
}


def known_answers(name: str, rounds: str) -> list[tuple[list[int], list[int], list[int]]]:
    """Return counter, key and result of each line for one generator."""
    width = GENERATORS[name, rounds][0]
    found = []
    for line in VECTORS.read_text().splitlines():
        words = line.split()
        if words[:2] == [name, rounds]:
            numbers = [int(word, 16) for word in words[2:]]
            assert len(numbers) == 2 * width + 2
            found.append((numbers[:width], numbers[width : width + 2], numbers[width + 2 :]))
    return found


@pytest.mark.parametrize(("name", "rounds"), GENERATORS)
def test_generator_gives_the_known_answers(name: str, rounds: str) -> None:
    generator = GENERATORS[name, rounds][1]
    answers = known_answers(name, rounds)
    assert len(answers) == 3
    for counter, key, wanted in answers:
        assert generator(np.array(counter, np.uint32), np.array(key, np.uint32)).tolist() == wanted
    counters, keys = (np.array([answer[i] for answer in answers], np.uint32) for i in range(2))
    assert generator(counters, keys).tolist() == [answer[2] for answer in answers]


@pytest.mark.parametrize(("width", "generator"), GENERATORS.values())
def test_generator_broadcasts_the_key(width: int, generator: Any) -> None:
    counter = np.random.default_rng(1).integers(0, 2**32, (3, 2, width), dtype=np.uint32)
    key = np.array([7, 2**32 - 1], np.uint32)
    got = generator(counter, key)
    assert got.shape == counter.shape
    assert got.dtype == np.uint32
    for i in range(3):
        for j in range(2):
            assert generator(counter[i, j], key).tolist() == got[i, j].tolist()
    assert generator(np.zeros((0, width), np.uint32), key).shape == (0, width)


@pytest.mark.parametrize(("width", "generator"), GENERATORS.values())
def test_generator_refuses_other_words(width: int, generator: Any) -> None:
    counter, key = np.zeros((2, width), np.uint32), np.zeros(2, np.uint32)
    for bad in (counter.astype(np.uint64), counter.astype(np.int32)):
        with pytest.raises(TypeError):
            generator(bad, key)
    with pytest.raises(TypeError):
        generator(counter, key.astype(np.int64))
    for bad_counter, bad_key in ((counter[:, 1:], key), (counter, key[:1]), (counter, np.zeros((), np.uint32))):
        with pytest.raises(ValueError, match="shapes"):
            generator(bad_counter, bad_key)
