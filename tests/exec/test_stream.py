"""The data stream: a pure function of seed and step."""

from __future__ import annotations

import numpy as np
import pytest

from samebits.exec.errors import JobError
from samebits.exec.stream import Stream


@pytest.mark.parametrize(("rows", "batch_size"), [(10, 3), (64, 64), (7, 1), (1437, 64)])
def test_batch_uses_each_row_at_most_once_per_epoch(rows: int, batch_size: int) -> None:
    stream = Stream(batch_size, seed=5)
    per_epoch = rows // batch_size
    for epoch in range(3):
        drawn = np.concatenate([stream.batch(epoch * per_epoch + i, rows) for i in range(per_epoch)])
        assert len(set(drawn.tolist())) == per_epoch * batch_size
        assert drawn.min() >= 0
        assert drawn.max() < rows


def test_batch_is_a_function_of_seed_and_step_alone() -> None:
    later = Stream(8, 3).batch(41, 100)
    for step in range(60):
        Stream(8, 3).batch(step, 100)
    assert Stream(8, 3).batch(41, 100).tolist() == later.tolist()
    assert Stream(8, 4).batch(41, 100).tolist() != later.tolist()


def test_batch_shuffles_each_epoch_anew() -> None:
    first, second = Stream(50, 0).batch(0, 50), Stream(50, 0).batch(1, 50)
    assert sorted(first.tolist()) == sorted(second.tolist())
    assert first.tolist() != second.tolist()


def test_batch_follows_the_stated_algorithm() -> None:
    """Rows sorted by Philox words, as Random123's own C code gives them for seed 2^40 + 7, epoch 0, rows 0..2."""

    def philox(counter: list[int], key: list[int]) -> list[int]:
        for _ in range(10):
            product0, product1 = 0xD2511F53 * counter[0], 0xCD9E8D57 * counter[2]
            counter = [
                (product1 >> 32) ^ counter[1] ^ key[0],
                product1 & 0xFFFFFFFF,
                (product0 >> 32) ^ counter[3] ^ key[1],
                product0 & 0xFFFFFFFF,
            ]
            key = [(key[0] + 0x9E3779B9) & 0xFFFFFFFF, (key[1] + 0xBB67AE85) & 0xFFFFFFFF]
        return counter

    seed, rows = (1 << 40) + 7, 20
    for epoch in (0, 1):
        order = sorted(range(rows), key=lambda row: (*philox([row, 0, epoch, 0], [seed & 0xFFFFFFFF, seed >> 32]), row))
        assert Stream(rows, seed).batch(epoch, rows).tolist() == order


@pytest.mark.parametrize(("batch_size", "seed"), [(0, 0), (-1, 0), (1, -1), (1, 1 << 64), (True, 0), (1.5, 0)])
def test_stream_refuses_values_out_of_range(batch_size: int, seed: int) -> None:
    with pytest.raises(JobError):
        Stream(batch_size, seed)


def test_stream_refuses_unknown_rules_and_fields() -> None:
    with pytest.raises(JobError, match="unknown stream rule"):
        Stream(1, 0, "sorted")
    with pytest.raises(JobError, match="fields"):
        Stream.from_body({"rule": "epoch_shuffle", "batch_size": 1})
    stream = Stream(3, 1 << 63)
    assert Stream.from_body(stream.to_body()) == stream


def test_check_rows_refuses_data_smaller_than_a_batch() -> None:
    with pytest.raises(JobError, match="have 3 rows"):
        Stream(4, 0).check_rows(3)
