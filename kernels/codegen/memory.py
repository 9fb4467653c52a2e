"""The memory plan: temporary buffers whose lives do not overlap share their bytes."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

from samebits.kernels.codegen.program import Step


def plan_memory(
    sizes: Sequence[int], steps: Sequence[Step], fixed: Collection[int]
) -> tuple[tuple[int, ...], tuple[Step, ...]]:
    """Return the sizes and steps with temporaries put together; buffers in `fixed` keep their number and their bytes.

    A buffer lives from the first step that names it to the last. Temporaries are placed in the order of their first
    step, each in the smallest free one that holds it, else in the largest free one, which grows. Numbers of buffers
    that are gone have size 0.
    """
    first: dict[int, int] = {}
    last: dict[int, int] = {}
    for position, step in enumerate(steps):
        for buffer in step.buffers:
            if buffer not in fixed:
                first.setdefault(buffer, position)
                last[buffer] = position
    planned = [size if number in fixed else 0 for number, size in enumerate(sizes)]
    home: dict[int, int] = {}
    free: list[int] = []
    busy: dict[int, list[int]] = {}  # last step -> slots that are free after it
    position = 0
    for buffer in first:  # in the order of the first step
        while position < first[buffer]:
            free += busy.pop(position, [])
            position += 1
        slot = _choose(free, planned, sizes[buffer])
        if slot is None:
            slot = buffer
        else:
            free.remove(slot)
        planned[slot] = max(planned[slot], sizes[buffer])
        home[buffer] = slot
        busy.setdefault(last[buffer], []).append(slot)
    moved = tuple(replace(step, buffers=tuple(home.get(b, b) for b in step.buffers)) for step in steps)
    return tuple(planned), moved


def _choose(free: Sequence[int], planned: Sequence[int], wanted: int) -> int | None:
    fitting = [slot for slot in free if planned[slot] >= wanted]
    if fitting:
        return min(fitting, key=lambda slot: (planned[slot], slot))
    return max(free, key=lambda slot: (planned[slot], slot)) if free else None
