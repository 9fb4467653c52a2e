"""conv_general_dilated as kernels: windows of whole numbers times filters; see kernels/convolution.py.

The input is made whole numbers once, cropped, dilated and among zeros. Its windows are a view in which elements occur
many times: products read it in place, so nothing holds all windows.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from string import Template
from typing import Final

from samebits.kernels.codegen.convolution_cpu import lower_product_cpu
from samebits.kernels.codegen.convolution_gpu import lower_product_gpu
from samebits.kernels.codegen.ctypes_of import as_f32, element
from samebits.kernels.codegen.dot import fill_zero
from samebits.kernels.codegen.folds import Fold, lower_fold, source_parameter
from samebits.kernels.codegen.lines import Lines
from samebits.kernels.codegen.program import CHUNK, ProgramBuilder
from samebits.kernels.codegen.view import View, collapse, contiguous_strides
from samebits.kernels.codegen.walk import Dims, offset_text
from samebits.kernels.convolution_shape import ConvShape
from samebits.kernels.dot import dot_precision

LIBRARY: Final = ("dot.h",)

_ZEROS: Final = Template("""\
// q: ($size,) i32 = 0
KERNEL void NAME(GLOBAL i32 *RESTRICT q) {
    if (ITEM < $size) q[ITEM] = 0;
}
""")

_QUANTISE_CPU: Final = Template("""\
// q: ($planes, $padded) i32 = RN_int(x / step of its sample and group), among zeros   $channels planes of a sample
KERNEL void NAME($parameters) {
    i64 end = (ITEM + 1) * $per < $planes ? (ITEM + 1) * $per : $planes;
    for (i64 plane = ITEM * $per; plane < end; plane++) {
        GLOBAL i32 *to = q + plane * $padded;
        $zeros
        f64 scale = steps_per_unit(step_of(ranks[plane / $channels], $p));
        i64 from = $offset + $plane_offset;
        for (i64 row = 0; row < $rows; row++) {
            i64 at = from + $row_offset, there = $low + $row_there;
            for (i64 i = 0; i < $width; i++) to[there + i * $step] = (i32)whole($x, scale);
        }
    }
}
""")

_QUANTISE_GPU: Final = Template("""\
// q: ($planes, $padded) i32 = RN_int(x / step of its sample and group), among zeros   $channels planes of a sample
KERNEL void NAME($parameters) {
    if (ITEM >= $items) return;
    i64 plane = ITEM / $each, row = ITEM % $each / $width, i = ITEM % $width;
    f64 scale = steps_per_unit(step_of(ranks[plane / $channels], $p));
    i64 at = $offset + $plane_offset + $row_offset, there = plane * $padded + $low + $row_there;
    q[there + i * $step] = (i32)whole($x, scale);
}
""")


@dataclass(frozen=True, slots=True)
class _Spread:
    """How the elements of a plane lie in the source and among zeros: rows of `width`, axes outermost first."""

    source: Dims
    target: Dims
    width: int
    source_step: int
    target_step: int

    @property
    def rows(self) -> int:
        """Return the number of rows of a plane."""
        return prod(size for size, _ in self.source)


def lower_convolution(
    builder: ProgramBuilder, lhs: View, filters: View, out: View, shape: ConvShape, precision: str
) -> None:
    """Append out = the convolution of lhs with the filters, rounded once.

    lhs: (N, C, *spatial), filters: (O, K), any strides; out: (N / batch groups, O, *out), contiguous, in a buffer; all
    of one float type.
    """
    if not isinstance(out.source, int):
        raise AssertionError("a convolution writes to a buffer")
    if out.size == 0:
        return
    if shape.depth == 0:
        fill_zero(builder, out)
        return
    p = dot_precision("highest" if precision == "highest" else "high", shape.depth)
    x = _in_groups(lhs, shape)
    ranks = builder.buffer(4 * shape.groups * shape.samples)
    largest = Fold("u32", "0u", "max", f"magnitude_f32({as_f32(x.dtype, 'VALUE')})")
    lower_fold(builder, largest, x, tuple(range(2, len(x.shape))), ranks, "u32")
    q = builder.buffer(4 * prod(x.shape[:3]) * prod(shape.padded))
    _quantise(builder, x, shape, ranks, q, p)
    windows = _windows(q, shape)
    grouped = filters.reshape((shape.groups, shape.filters, shape.depth))
    results = out.reshape((shape.samples, shape.groups, shape.filters, shape.positions))
    if grouped is None or results is None:
        raise AssertionError("an axis divides into two")
    lines = Lines(results.transpose((1, 0, 3, 2)), 2)
    lower = lower_product_gpu if builder.layout == "gpu" else lower_product_cpu
    lower(builder, windows, grouped, lines, ranks, p)


def _in_groups(lhs: View, shape: ConvShape) -> View:
    """Return lhs as (G, samples, channels, *spatial)."""
    spatial = lhs.shape[2:]
    outer = (shape.groups, shape.samples) if shape.by_batch else (shape.samples, shape.groups)
    split = lhs.reshape((*outer, shape.channels, *spatial))
    if split is None:
        raise AssertionError("an axis divides into two")
    return split if shape.by_batch else split.transpose((1, 0, *range(2, len(split.shape))))


def _windows(q: int, shape: ConvShape) -> Lines:
    """Return the windows of the input among zeros: (G, samples, *out, channels, *window)."""
    axes = len(shape.out)
    sizes = (shape.groups, shape.samples, shape.channels, *shape.padded)
    group, sample, channel, *spatial = contiguous_strides(sizes)
    across = (step * stride for step, stride in zip(shape.window_strides, spatial, strict=True))
    within = (step * stride for step, stride in zip(shape.rhs_dilation, spatial, strict=True))
    view = View(
        q,
        "i32",
        (shape.groups, shape.samples, *shape.out, shape.channels, *shape.window),
        (group, sample, *across, channel, *within),
    )
    return Lines(view, 1 + axes)


def _spread(x: View, shape: ConvShape) -> tuple[View, _Spread, int]:
    """Return x cropped, how its planes are spread, and where the first element of a plane stands."""
    limits = tuple(begin + count for begin, count in zip(shape.begin, shape.count, strict=True))
    x = x.slice((0, 0, 0, *shape.begin), (*x.shape[:3], *limits), (1,) * len(x.shape))
    strides = contiguous_strides(shape.padded)
    steps = tuple(stride * step for stride, step in zip(strides, shape.lhs_dilation, strict=True))
    low = sum(first * stride for first, stride in zip(shape.low, strides, strict=True))
    sizes, (source, target) = collapse(x.shape[3:], [x.strides[3:], steps])
    if not sizes:
        return x, _Spread((), (), 1, 1, 1), low
    rows, there = (tuple(zip(sizes[:-1], each[:-1], strict=True)) for each in (source, target))
    return x, _Spread(rows, there, sizes[-1], source[-1], target[-1]), low


def _quantise(builder: ProgramBuilder, x: View, shape: ConvShape, ranks: int, q: int, p: int) -> None:
    """Append the whole numbers of x (G, samples, channels, *spatial), to their places in q."""
    x, spread, low = _spread(x, shape)
    planes, padded, each = prod(x.shape[:3]), prod(shape.padded), spread.rows * spread.width
    around = padded > each
    parameters = [
        *source_parameter(x),
        (ranks, "GLOBAL const u32 *RESTRICT ranks"),
        (q, "GLOBAL i32 *RESTRICT q"),
    ]
    sizes, (steps,) = collapse(x.shape[:3], [x.strides[:3]])
    per = max(1, CHUNK // max(1, padded))
    fields = {
        "parameters": ", ".join(text for _, text in parameters),
        "planes": planes,
        "padded": padded,
        "channels": shape.channels,
        "per": per,
        "items": planes * each,
        "each": max(1, each),
        "zeros": f"for (i64 i = 0; i < {padded}; i++) to[i] = 0;" if around else "",
        "p": p,
        "offset": x.offset,
        "plane_offset": offset_text("plane", tuple(zip(sizes, steps, strict=True))),
        "row_offset": offset_text("row", spread.source),
        "row_there": offset_text("row", spread.target),
        "rows": spread.rows if x.size else 0,
        "width": max(1, spread.width),
        "low": low,
        "step": spread.target_step,
        "x": as_f32(x.dtype, element(x.source, x.dtype, "x", f"at + i * ({spread.source_step})")),
    }
    buffers = [number for number, _ in parameters]
    if builder.layout == "cpu":
        text = _QUANTISE_CPU.substitute(fields)
        builder.call("conv_quantise", text, buffers, -(-planes // per), library=LIBRARY)
        return
    if around:
        builder.call("conv_zeros", _ZEROS.substitute(size=planes * padded), [q], planes * padded)
    if x.size:
        builder.call("conv_quantise", _QUANTISE_GPU.substitute(fields), buffers, planes * each, library=LIBRARY)
