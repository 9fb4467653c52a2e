"""The inner loop of products on a CPU: a panel of lines times another, in vector registers, and sums that never round.

A panel holds neighbouring lines as whole numbers in f64, (depth, width). A whole number below 2^53 is exact in f64, so
neither order nor contraction of a partial sum can change a bit. Partial sums over DEPTH terms stay below that; where
the whole sum may not, it is kept in two parts.
"""

from __future__ import annotations

from string import Template
from typing import Final

from samebits.kernels.exact_matmul import safe_depth

# Terms of a partial sum (512: exact at any p, see exact_matmul.safe_depth), lines of a tile. GFLOP/s a core, on 2 cores
# that other work shared, of a product of 1024^3 (2048^3): 512 x 96 x 64 42 (39), 256 x 96 x 64 39 (38), 256 x 48 x 64
# 38 (31), 512 x 48 x 64 40 (36), 512 x 96 x 128 41 (39); torch.mm in f32 66 (72).
DEPTH: Final = 512
LEFT_TILE: Final = 96
RIGHT_TILE: Final = 64
# lines of the left side -> width of its panels and of the right side's: 8 to 12 sums of 4 lanes hide FMA's latency
_WIDTHS: Final = {1: (1, 32), 2: (2, 16), 3: (3, 16), 4: (4, 8), 5: (5, 8)}

_PANELS: Final = Template("""
// c = left panel times right panel over n depths
FN void NAME_panels(GLOBAL const f64 *RESTRICT l, $right const f64 *RESTRICT r, i64 n, f64 *RESTRICT c) {
#pragma OPENCL FP_CONTRACT ON
    typedef double4 unaligned4 __attribute__((aligned(8)));  // vload4 would be a call, around which registers spill
    $sums
    #pragma unroll 4
    for (i64 k = 0; k < n; k++) {
        $loads
        $multiply
        l += $left_width;
        r += $right_width;
    }
    $stores
}
""")


def panel_widths(left_lines: int) -> tuple[int, int]:
    """Return the lines of a panel of the left side, which may be narrow, and of the right side."""
    return _WIDTHS.get(left_lines, (6, 8))


def panels_text(left: int, right: int, right_memory: str = "GLOBAL") -> str:
    """Return the function NAME_panels, with one vector of 4 sums for each line of the left panel.

    right_memory: where panels of the right side are; empty: in the work-item's own memory.
    """
    vectors = range(right // 4)
    pairs = [(i, v) for i in range(left) for v in vectors]
    return _PANELS.substitute(
        right=right_memory,
        left_width=left,
        right_width=right,
        sums=" ".join(f"double4 c{i}_{v} = 0.0;" for i, v in pairs),
        loads=" ".join(f"double4 r{v} = *({right_memory} const unaligned4 *)(r + {4 * v});" for v in vectors),
        multiply="\n        ".join(
            " ".join([f"double4 l{i} = l[{i}];", *(f"c{i}_{v} += l{i} * r{v};" for v in vectors)]) for i in range(left)
        ),
        stores=" ".join(f"*(unaligned4 *)(c + {i * right + 4 * v}) = c{i}_{v};" for i, v in pairs),
    )


def addition(depth: int, p: int, tile: tuple[int, int], widths: tuple[int, int]) -> dict[str, str]:
    """Return how partial sums c of a pair of panels are added: not at all, in f64, or in two parts.

    tile, widths: lines of a tile and of a panel, left and right. `kept` declares the sums of a tile, `add` adds c to
    those of the panels at l and r, and `total` leaves the whole sums in c, rounded to odd.
    """
    if depth <= DEPTH:
        return {"kept": "", "add": "", "total": ""}
    size = tile[0] * tile[1]
    at = f"i64 at = (r - r0) * {tile[0]} + (l - l0) * {widths[1]};"  # panel by panel
    each = f"for (i64 i = 0; i < {widths[0] * widths[1]}; i++)"
    if depth <= safe_depth(p):
        add = f"{at}\n                {each} c[i] += sums[at + i];\n                {each} sums[at + i] = c[i];"
        kept = f"f64 sums[{size}];\n    for (i64 i = 0; i < {size}; i++) sums[i] = 0.0;"
        return {"kept": kept, "add": add, "total": ""}
    kept = f"f64 high[{size}], low[{size}];\n    for (i64 i = 0; i < {size}; i++) high[i] = low[i] = 0.0;"
    add = f"""{at}
                {each} {{
                    f64 part = high_part(c[i]);
                    high[at + i] += part;
                    low[at + i] += c[i] - part;
                }}"""
    return {"kept": kept, "add": add, "total": f"{each} c[i] = odd_total(high[at + i], low[at + i]);"}
