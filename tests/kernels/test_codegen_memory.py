"""The memory plan: buffers share bytes only if their lives do not overlap."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from samebits.kernels.codegen.memory import plan_memory
from samebits.kernels.codegen.program import KernelCall


@given(st.lists(st.lists(st.integers(0, 11), min_size=1, max_size=4, unique=True), max_size=14), st.data())
def test_plan_memory_never_overlaps_lives(calls: list[list[int]], data: st.DataObject) -> None:
    sizes = [data.draw(st.integers(1, 100)) for _ in range(12)]
    fixed = {0, 1, 2}
    steps = tuple(KernelCall("k", tuple(buffers), 1) for buffers in calls)
    planned, moved = plan_memory(sizes, steps, fixed)
    home: dict[int, int] = {}
    for before, after in zip(steps, moved, strict=True):
        for old, new in zip(before.buffers, after.buffers, strict=True):
            assert home.setdefault(old, new) == new
            assert planned[new] >= sizes[old]
    lives = {b: [i for i, s in enumerate(steps) if b in s.buffers] for b in home}
    for a in home:
        assert a not in fixed or (home[a] == a and planned[a] == sizes[a])
        for b in home:
            overlap = lives[a][0] <= lives[b][-1] and lives[b][0] <= lives[a][-1]
            assert a == b or home[a] != home[b] or (not overlap and not {a, b} & fixed)


def test_plan_memory_reuses_what_is_free() -> None:
    chain = tuple(KernelCall("k", (i, i + 1), 1) for i in range(8))
    planned, _ = plan_memory([100] * 9, chain, {0, 8})
    assert sum(planned) == 400  # two ends, and two buffers that take turns
