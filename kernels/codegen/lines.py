"""Lines of a product whose elements no single stride describes: C text of where an element of a line lies."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from samebits.kernels.codegen.view import View, collapse
from samebits.kernels.codegen.walk import Dims, offset_text


@dataclass(frozen=True, slots=True)
class Lines:
    """A view (batch, *lines, *depths), read as (batch, line, k) with both in C order; strides may overlap.

    Example: the windows of an image are lines of a view in which an element occurs once for each window that has it.
    """

    view: View
    line_axes: int = 1

    @property
    def batch(self) -> int:
        """Return the number of products."""
        return self.view.shape[0]

    @property
    def count(self) -> int:
        """Return the number of lines of a batch."""
        return prod(self.view.shape[1 : 1 + self.line_axes])

    @property
    def depth(self) -> int:
        """Return the number of elements of a line."""
        return prod(self.view.shape[1 + self.line_axes :])

    @property
    def line_dims(self) -> Dims:
        """Return size and stride of the axes that number the lines, merged where they are one run."""
        return self._dims(1, 1 + self.line_axes)

    @property
    def depth_dims(self) -> Dims:
        """Return the same of the axes along a line."""
        return self._dims(1 + self.line_axes, len(self.view.shape))

    @property
    def lines_dense(self) -> bool:
        """Say whether neighbouring lines lie nearer, or in longer runs, than neighbouring depths."""
        (lines, line_step), (depths, depth_step) = (
            (dims or ((1, 0),))[-1] for dims in (self.line_dims, self.depth_dims)
        )
        if lines == 1 or not line_step:
            return False
        return abs(line_step) < abs(depth_step) or (line_step == depth_step and lines > depths)

    def start(self, z: str, line: str) -> str:
        """Return the C expression of the index of a line's first element; z, line: of i64, names or in brackets."""
        batch = self.view.strides[0] if self.batch > 1 else 0
        return f"{self.view.offset} + {z} * ({batch}) + {offset_text(line, self.line_dims)}"

    def reach(self, k: str) -> str:
        """Return the C expression of how far element k lies from the first one."""
        return offset_text(k, self.depth_dims)

    def index(self, z: str, line: str, k: str) -> str:
        """Return the C expression of the index of an element."""
        return f"{self.start(z, line)} + {self.reach(k)}"

    def _dims(self, start: int, stop: int) -> Dims:
        sizes, (steps,) = collapse(self.view.shape[start:stop], [self.view.strides[start:stop]])
        return tuple(zip(sizes, steps, strict=True))
