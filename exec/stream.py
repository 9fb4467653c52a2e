"""The data stream: which rows make up batch t, as a pure function of seed and t.

Rule `in_order`: batch t takes the b rows that start at b * (t mod floor(n / b)); the seed is 0.

Rule `epoch_shuffle`: with n rows and batches of b, an epoch is floor(n / b) batches; what is left over is not used
in that epoch. Batch t belongs to epoch k = floor(t / floor(n / b)). The rows of an epoch are 0..n-1 sorted by
(w0, w1, w2, w3, row), where w = Philox4x32-10(counter = (row, 0, k mod 2^32, floor(k / 2^32)), key = (seed mod 2^32,
floor(seed / 2^32))) (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011). Batch t takes the b
rows that start at b * (t mod floor(n / b)).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from samebits.cas.encoding import Value
from samebits.exec.errors import JobError
from samebits.kernels.random import philox4x32

EPOCH_SHUFFLE: Final = "epoch_shuffle"
IN_ORDER: Final = "in_order"
MAX_ROWS: Final = 1 << 31
ORDER_SIZE_BYTES: Final = 80  # what a row costs while an epoch is shuffled: its counter, its words, its place


def count_rows(shapes: Mapping[str, tuple[int, ...]]) -> int:
    """Return how many rows data of these shapes, by name, have; raises JobError unless all have as many."""
    if not shapes:
        raise JobError("the job has no data")
    for name, shape in shapes.items():
        if not shape:
            raise JobError(f"data {name} is a scalar")
    rows = {name: shape[0] for name, shape in shapes.items()}
    fewest, most = min(rows, key=rows.__getitem__), max(rows, key=rows.__getitem__)
    if rows[fewest] != rows[most]:
        raise JobError(
            f"the job's data have different numbers of rows: {fewest} {rows[fewest]} and {most} {rows[most]}"
        )
    return rows[most]


@dataclass(frozen=True, slots=True)
class Stream:
    """The rule that gives the rows of each batch."""

    batch_size: int  # >= 1
    seed: int  # 0 .. 2^64-1
    rule: str = EPOCH_SHUFFLE

    def __post_init__(self) -> None:
        if self.rule not in (EPOCH_SHUFFLE, IN_ORDER):
            raise JobError(f"unknown stream rule {self.rule!r} (known: {EPOCH_SHUFFLE}, {IN_ORDER})")
        _check_range("batch_size", self.batch_size, 1, MAX_ROWS)
        _check_range("seed", self.seed, 0, (1 << 64) - 1 if self.rule == EPOCH_SHUFFLE else 0)

    def check_rows(self, rows: int) -> None:
        """Raise JobError if the data have too few rows for one batch, or too many to number."""
        if rows > MAX_ROWS:
            raise JobError(f"the data have {rows} rows; at most 2^31 are supported")
        if rows < self.batch_size:
            raise JobError(f"the data have {rows} rows, a batch wants {self.batch_size}")

    def batch(self, step: int, rows: int) -> NDArray[np.int64]:
        """Return the row numbers (batch_size,) of the batch of `step`, out of `rows` rows."""
        epoch, position = divmod(step, rows // self.batch_size)
        if self.rule == IN_ORDER:
            return np.arange(position * self.batch_size, (position + 1) * self.batch_size)
        order = _epoch_order(self.seed, epoch, rows)
        return order[position * self.batch_size : (position + 1) * self.batch_size]

    def to_body(self) -> dict[str, Value]:
        """Return the fields for a job node."""
        return {"rule": self.rule, "batch_size": self.batch_size, "seed": self.seed}

    @classmethod
    def from_body(cls, body: Value) -> Stream:
        """Read the fields of a job node; raises JobError."""
        match body:
            case {"rule": str() as rule, "batch_size": int() as batch_size, "seed": int() as seed, **rest} if not rest:
                return cls(batch_size, seed, rule)
            case _:
                raise JobError("a stream has the fields rule, batch_size and seed")


def _check_range(name: str, value: Any, lowest: int, highest: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not lowest <= value <= highest:
        raise JobError(f"{name} {value!r} is not an integer in {lowest} .. {highest}")


@lru_cache(maxsize=2)
def _epoch_order(seed: int, epoch: int, rows: int) -> NDArray[np.int64]:
    mask = 0xFFFFFFFF
    counter = np.zeros((rows, 4), np.uint32)
    counter[:, 0] = np.arange(rows, dtype=np.uint32)
    counter[:, 2], counter[:, 3] = epoch & mask, epoch >> 32
    words = philox4x32(counter, np.array([seed & mask, seed >> 32], np.uint32))
    order = np.lexsort((words[:, 3], words[:, 2], words[:, 1], words[:, 0]))
    order.flags.writeable = False
    return order.astype(np.int64, copy=False)
