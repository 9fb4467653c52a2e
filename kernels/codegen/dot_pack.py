"""One operand of a dot product on a CPU: C text that finds its exponents and writes it as whole numbers in panels.

A line is a row of a or a column of b, a panel some neighbouring lines: (depth, width), which a product reads from start
to end. Loops run along whichever axis of the source lies dense in memory, through pieces that stay in cache.
"""

from __future__ import annotations

from dataclasses import dataclass
from string import Template
from typing import Final

from samebits.kernels.codegen.ctypes_of import as_f32, element
from samebits.kernels.codegen.folds import source_parameter
from samebits.kernels.codegen.view import View

_DENSE_LINES: Final = 64  # lines of a piece where they lie side by side: whole cache lines of every type
_DENSE_DEPTH: Final = 16  # lines of a piece where each lies dense: a fair share for each core

_PACK: Final = Template("""
// lines l0 .. of $name in batch z: step = 2^(e-p) of each, NaN for one that is not finite; q = RN_int(x / step)
FN void NAME_pack_$name(${parameter}GLOBAL const f64 *RESTRICT factor, GLOBAL f64 *RESTRICT step,
                        GLOBAL f64 *RESTRICT q, i64 z, i64 l0) {
    i64 count = $lines - l0 < $span ? $lines - l0 : $span;
    i64 base = $offset + z * ($batch_stride) + l0 * ($line_stride);
    u32 m[$span];
    f64 scale[$span];
    for (i64 i = 0; i < $span; i++) m[i] = 0u;
$maxima
    for (i64 i = 0; i < $span; i++) {
        f64 one = $step_of(m[i], $p);
        scale[i] = steps_per_unit(one);
        if (l0 + i < $padded) step[l0 + i] = one;
    }
$panels
}
""")

_SCALES: Final = Template("""
// depths k0 .. of batch z: up = 2^f, down = 2^-f with f_k = e(max_j |b_kj|) over the finite values
FN void NAME_scales(${parameter}GLOBAL f64 *RESTRICT up, GLOBAL f64 *RESTRICT down, i64 z, i64 l0) {
    i64 count = $lines - l0 < $span ? $lines - l0 : $span;
    i64 base = $offset + z * ($batch_stride) + l0 * ($line_stride);
    u32 m[$span];
    for (i64 i = 0; i < $span; i++) m[i] = 0u;
$maxima
    for (i64 i = 0; i < count; i++) {
        i32 f = grid_exponent(m[i]);
        up[l0 + i] = pow2_f64(f);
        down[l0 + i] = pow2_f64(-f);
    }
}
""")

_MAXIMA_ACROSS: Final = Template("""\
    for (i64 k = 0; k < $depth; k++) {
        i64 at = base + k * ($depth_stride);
        for (i64 i = 0; i < count; i++) m[i] = larger(m[i], $rank);
    }""")

_MAXIMA_ALONG: Final = Template("""\
    for (i64 i = 0; i < count; i++) {
        i64 at = base + i * ($line_stride);
        u32 most = 0u;
        for (i64 k = 0; k < $depth; k++) most = larger(most, $rank);
        m[i] = most;
    }""")

_PANELS_ACROSS: Final = Template("""\
    f64 t[$span];
    for (i64 i = 0; i < $span; i++) t[i] = 0.0;
    for (i64 k = 0; k < $depth; k++) {
        i64 at = base + k * ($depth_stride);
        for (i64 i = 0; i < count; i++) t[i] = whole($x, $factor_k scale[i]);
        for (i64 j = 0; j < count; j += $width)
            for (i64 i = 0; i < $width; i++) q[(l0 + j) * $depth + k * $width + i] = t[j + i];
    }""")

_PANELS_ALONG: Final = Template("""\
    f64 t[$width * 64];
    for (i64 i = 0; i < $width * 64; i++) t[i] = 0.0;
    for (i64 j = 0; j < count; j += $width)
        for (i64 k0 = 0; k0 < $depth; k0 += 64) {
            i64 n = $depth - k0 < 64 ? $depth - k0 : 64;
            for (i64 i = 0; i < $width; i++) {
                if (j + i >= count) {
                    for (i64 k = 0; k < n; k++) t[i * 64 + k] = 0.0;
                    continue;
                }
                i64 at = base + (j + i) * ($line_stride) + k0 * ($depth_stride);
                for (i64 k = 0; k < n; k++) t[i * 64 + k] = whole($x, $factor_k0 scale[j + i]);
            }
            for (i64 k = 0; k < n; k++)
                for (i64 i = 0; i < $width; i++) q[(l0 + j) * $depth + (k0 + k) * $width + i] = t[i * 64 + k];
        }""")


@dataclass(frozen=True, slots=True)
class Side:
    """An operand as lines: its view (B, lines, K), and how its panels are made."""

    name: str  # a or b
    view: View
    width: int  # lines of a panel
    p: int
    scaled: bool  # each depth has a factor 2^f_k or 2^-f_k
    fixed: bool  # the step is 2^-p, whatever the values

    @property
    def lines(self) -> int:
        """Return the number of lines."""
        return self.view.shape[1]

    @property
    def padded(self) -> int:
        """Return the number of lines in whole panels."""
        return -(-self.lines // self.width) * self.width

    @property
    def span(self) -> int:
        """Return the lines of a piece of work, whole panels."""
        wanted = _DENSE_LINES if _lines_dense(self.view) else _DENSE_DEPTH
        return min(-(-wanted // self.width) * self.width, self.padded)

    def pack_text(self) -> str:
        """Return the function NAME_pack_a or NAME_pack_b."""
        rank = {(True, False): "scaled_rank({}, factor[k])"}.get((self.scaled, self.fixed), "magnitude_f32({})")
        step = "fixed_step_of" if self.fixed else "scaled_step_of" if self.scaled else "step_of"
        fields = _fields(self.view, self.span) | {
            "name": self.name,
            "width": self.width,
            "padded": self.padded,
            "p": self.p,
            "step_of": step,
            "factor_k": "factor[k] *" if self.scaled else "",
            "factor_k0": "factor[k0 + k] *" if self.scaled else "",
        }
        panels = (_PANELS_ACROSS if _lines_dense(self.view) else _PANELS_ALONG).substitute(fields)
        return _PACK.substitute(fields, maxima=_maxima(self.view, fields, rank), panels=panels)


def scales_span(b: View) -> int:
    """Return the depths of a piece of work of NAME_scales; b: (B, K, N)."""
    return min(_DENSE_LINES if _lines_dense(b) else _DENSE_DEPTH, b.shape[1])


def scales_text(b: View) -> str:
    """Return the function NAME_scales; b: (B, K, N)."""
    fields = _fields(b, scales_span(b))
    return _SCALES.substitute(fields, maxima=_maxima(b, fields, "finite_magnitude_f32({})"))


def _lines_dense(view: View) -> bool:
    """Say whether neighbouring lines lie nearer than neighbouring depths."""
    line, depth = abs(view.strides[1]), abs(view.strides[2])
    return view.shape[1] > 1 and line > 0 and (line < depth or depth == 0)


def _fields(view: View, span: int) -> dict[str, object]:
    dense = _lines_dense(view)
    stride = view.strides[1] if dense else view.strides[2]
    index = f"at + {'i' if dense else 'k'} * ({stride})" if stride != 1 else f"at + {'i' if dense else 'k'}"
    parameters = source_parameter(view)
    return {
        "parameter": f"{parameters[0][1]}, " if parameters else "",
        "lines": view.shape[1],
        "depth": view.shape[2],
        "span": span,
        "offset": view.offset,
        "batch_stride": view.strides[0],
        "line_stride": view.strides[1],
        "depth_stride": view.strides[2],
        "x": as_f32(view.dtype, element(view.source, view.dtype, "x", index)),
    }


def _maxima(view: View, fields: dict[str, object], rank: str) -> str:
    template = _MAXIMA_ACROSS if _lines_dense(view) else _MAXIMA_ALONG
    return template.substitute(fields, rank=rank.format(fields["x"]))
