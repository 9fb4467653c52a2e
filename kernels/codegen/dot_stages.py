"""What products of floats on a CPU have in common: their two sides, one work buffer, and the stages that prepare both.

A stage finds the factors of depths, or the steps and whole numbers of lines; the texts are those of dot_pack.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from samebits.kernels.codegen.dot_pack import Side, scales_span, scales_text
from samebits.kernels.codegen.folds import source_parameter
from samebits.kernels.codegen.program import Parameters, ProgramBuilder
from samebits.kernels.codegen.view import View

LIBRARY: Final = ("dot.h",)
_ALIGN: Final = 8  # f64 values of a cache line


@dataclass(frozen=True, slots=True)
class Plan:
    """A product of sides, and where their parts lie in the work buffer (offsets in f64 values)."""

    left: Side
    right: Side
    swapped: bool  # left is b, right is a
    out: View
    up: int
    down: int
    steps: tuple[int, int]  # left, right
    panels: tuple[int, int]
    size: int

    @property
    def batch(self) -> int:
        """Return the number of products."""
        return self.out.shape[0]

    @property
    def depth(self) -> int:
        """Return the number of terms of a sum."""
        return self.left.view.shape[2]

    @property
    def scaled(self) -> bool:
        """Say whether depths have factors."""
        return self.left.scaled


@dataclass(frozen=True, slots=True)
class Stage:
    """What must be done before the next begins: functions, the statements of item `item` of batch z, items a batch."""

    label: str
    functions: str
    body: str
    items: int


def make_sides(a: View, b: View, p: int, grid: str) -> tuple[Side, Side]:
    """Return the rows of a and the columns of b, in panels of one line. a: (B, M, K), b: (B, K, N)."""
    scaled = grid != "columns"
    rows = Side("a", a, 1, p, scaled, fixed=False)
    return rows, Side("b", b.transpose((0, 2, 1)), 1, p, scaled, fixed=grid == "rows")


def make_plan(left: Side, right: Side, out: View, *, swapped: bool) -> Plan:
    """Lay out the work buffer of a product."""
    batch, depth = out.shape[0], left.view.shape[2]
    sizes = [
        *([batch * depth, batch * depth] if left.scaled else [0, 0]),
        *(batch * side.padded for side in (left, right)),
        *(batch * side.padded * depth for side in (left, right)),
    ]
    starts = [0]
    for size in sizes:
        starts.append(-(-(starts[-1] + size) // _ALIGN) * _ALIGN)
    up, down, left_steps, right_steps, left_at, right_at, end = starts
    return Plan(left, right, swapped, out, up, down, (left_steps, right_steps), (left_at, right_at), end)


def preparing_stages(plan: Plan, b: View) -> list[Stage]:
    """Return the stages that fill the work buffer. b: (B, K, N)."""
    return [*([_scales_stage(plan, b)] if plan.scaled else []), _pack_stage(plan)]


def call_stage(builder: ProgramBuilder, stage: Stage, head: str, given: Parameters, batch: int) -> None:
    """Append a kernel that does one stage. given: buffers and their parameters."""
    body = f"    i64 z = ITEM / {stage.items}, item = ITEM % {stage.items};\n{stage.body}"
    before = f"{head}{stage.functions}\n"
    builder.call_body(stage.label, given, body, batch * stage.items, library=LIBRARY, before=before)


def _scales_stage(plan: Plan, b: View) -> Stage:
    span, depth = scales_span(b), plan.depth
    source = "b, " if source_parameter(b) else ""
    body = f"    NAME_scales({source}w + {plan.up} + z * {depth}, w + {plan.down} + z * {depth}, z, item * {span});\n"
    return Stage("dot_scales", scales_text(b), body, -(-depth // span))


def _pack_stage(plan: Plan) -> Stage:
    calls, items = [], []
    for side, steps, panels in zip((plan.left, plan.right), plan.steps, plan.panels, strict=True):
        source = f"{side.name}, " if source_parameter(side.view) else ""
        factor = plan.up if side.name == "a" else plan.down
        calls.append(
            f"NAME_pack_{side.name}({source}w + {factor} + z * {plan.depth}, w + {steps} + z * {side.padded},"
            f" w + {panels} + z * ((i64){side.padded} * {plan.depth}), z, ITEM_OF_SIDE * {side.span});"
        )
        items.append(-(-side.lines // side.span))
    first, second = calls[0].replace("ITEM_OF_SIDE", "item"), calls[1].replace("ITEM_OF_SIDE", f"(item - {items[0]})")
    body = f"    if (item < {items[0]}) {first}\n    else {second}\n"
    return Stage("dot_pack", plan.left.pack_text() + plan.right.pack_text(), body, sum(items))
