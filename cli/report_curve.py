"""A curve as inline SVG."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final, TypeAlias

Curve: TypeAlias = Sequence[tuple[int, float]]  # step, value; steps ascend

WIDTH: Final = 720
HEIGHT: Final = 160
_LEFT, _TOP, _BOTTOM = 90, 10, 25
_LOG_RATIO: Final = 100  # values that are this far apart, all of them above 0, are shown by their logarithms


def curve_svg(points: Curve) -> str:
    """Return the curve; values that are not finite leave gaps."""
    finite = [(step, value) for step, value in points if math.isfinite(value)]
    if not finite:
        return "<p>no finite value</p>"
    low, high = min(value for _, value in finite), max(value for _, value in finite)
    logarithmic = low > 0 and high / low > _LOG_RATIO
    first, last = points[0][0], points[-1][0]

    def place(step: int, value: float) -> tuple[float, float]:
        x = (step - first) / max(last - first, 1)
        y = _fraction(math.log(value), math.log(low), math.log(high)) if logarithmic else _fraction(value, low, high)
        return _LEFT + x * (WIDTH - _LEFT - 10), HEIGHT - _BOTTOM - y * (HEIGHT - _TOP - _BOTTOM)

    parts: list[str] = []
    pen = "M"
    for step, value in points:
        if not math.isfinite(value):
            pen = "M"
            continue
        x, y = place(step, value)
        parts.append(f"{pen}{x:.1f} {y:.1f}" + ("h0.1" if pen == "M" else ""))
        pen = "L"
    bottom = HEIGHT - _BOTTOM
    scale = " (logarithmic)" if logarithmic else ""
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img">'
        f'<line x1="{_LEFT}" y1="{bottom}" x2="{WIDTH - 10}" y2="{bottom}"/>'
        f'<line x1="{_LEFT}" y1="{_TOP}" x2="{_LEFT}" y2="{bottom}"/>'
        f'<text x="{_LEFT - 6}" y="{_TOP + 8}" text-anchor="end">{high:.4g}</text>'
        f'<text x="{_LEFT - 6}" y="{bottom}" text-anchor="end">{low:.4g}</text>'
        f'<text x="{_LEFT}" y="{HEIGHT - 8}">step {first}{scale}</text>'
        f'<text x="{WIDTH - 10}" y="{HEIGHT - 8}" text-anchor="end">{last}</text>'
        f'<path d="{"".join(parts)}"/></svg>'
    )


def _fraction(value: float, low: float, high: float) -> float:
    """Return where a value is between two others, also where their difference is beyond the largest number."""
    return 0.5 if high == low else (value / 2 - low / 2) / (high / 2 - low / 2)
