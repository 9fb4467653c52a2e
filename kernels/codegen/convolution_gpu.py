"""The product of windows and filters on a GPU: that of dot_general, with windows read where they are."""

from __future__ import annotations

from typing import Final

from samebits.kernels.codegen.ctypes_of import as_f32
from samebits.kernels.codegen.dot_gpu import lower_tiled_product, quantise_lines
from samebits.kernels.codegen.dot_tensor import digits_bytes, lower_digit_product, suits_tensor_cores
from samebits.kernels.codegen.folds import Fold, lower_fold
from samebits.kernels.codegen.lines import Lines
from samebits.kernels.codegen.program import ProgramBuilder
from samebits.kernels.codegen.view import View

MAX_DIGITS_BYTES: Final = 1 << 30  # of the windows, which matrix units want laid out


def lower_product_gpu(builder: ProgramBuilder, windows: Lines, filters: View, out: Lines, ranks: int, p: int) -> None:
    """Append out = RN(filters times windows).

    windows: i32, (G, (samples, *out), (channels, *window)); filters: (G, O, K) floats; out: (G, (samples, positions),
    O); ranks: the buffer of the samples' ranks, (G, samples).
    """
    batch, rows, depth = filters.shape
    samples, positions = out.view.shape[1:3]
    filter_ranks = builder.buffer(4 * batch * rows)
    largest = Fold("u32", "0u", "max", f"magnitude_f32({as_f32(filters.dtype, 'VALUE')})")
    lower_fold(builder, largest, filters, (2,), filter_ranks, "u32")
    left = Lines(quantise_lines(builder, filters, filter_ranks, 0, p, "step_of", ""))
    given = [(filter_ranks, "GLOBAL const u32 *RESTRICT filter_ranks"), (ranks, "GLOBAL const u32 *RESTRICT ranks")]
    first = f"step_of(filter_ranks[z * {rows} + row], {p})"
    second = f"step_of(ranks[z * {samples} + column / {positions}], {p})"
    finish = f"round_{out.view.dtype}(odd_i64({{}}) * {first} * {second})"
    suits = suits_tensor_cores(rows, windows.count, depth) and digits_bytes(windows, p) <= MAX_DIGITS_BYTES
    if builder.tensor_cores and suits:
        lower_digit_product(builder, left, windows, out, p, finish.format("total"), given)
        return
    fields = {"term": "i32", "sum": "i64", "finish": finish.format("s[i][j]")}
    lower_tiled_product(builder, left, windows, out, fields, given)
