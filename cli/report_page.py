"""A verdict as one HTML file that needs nothing else: no script, nothing fetched, every text from outside escaped."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Mapping
from html import escape
from typing import Final

from samebits.cli.output import printable
from samebits.cli.report_curve import Curve, curve_svg
from samebits.cli.verdict_text import begins_text, counts_text, drawn_text, part_text, signed_text, summary
from samebits.exec.verification.verdict import Verdict

MAX_BOXES: Final = 5000
MAX_CURVES: Final = 40
_COLOURS: Final = (
    ("same", "computed again, every commit is the same"),
    ("different", "a commit is different"),
    ("failed", "could not be computed"),
    ("skipped", "not begun: one before it is different"),
    ("left", "not drawn, or not asked for"),
)
_STYLE: Final = """
body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#1d2433;background:#fff}
h1{font-size:1.35rem;padding:.7rem 1rem;border-radius:.5rem;color:#fff;overflow-wrap:anywhere}
h2{font-size:1.05rem;margin:2rem 0 .5rem}
h3{font-size:.95rem;margin:1rem 0 .2rem;font-weight:600;overflow-wrap:anywhere}
h1.same{background:#1a7f4b}h1.different{background:#b3261e}h1.failed{background:#8a5300}
table{border-collapse:collapse;width:100%}
td,th{text-align:left;vertical-align:top;padding:.25rem .8rem .25rem 0;border-bottom:1px solid #e4e7ee}
td{overflow-wrap:anywhere}th{white-space:nowrap;font-weight:600}
code,pre{font:13px/1.5 ui-monospace,monospace;overflow-wrap:anywhere;white-space:pre-wrap}
pre{background:#f3f5f9;padding:.7rem 1rem;border-radius:.4rem}
.boxes{display:flex;flex-wrap:wrap;gap:3px}
.boxes span,.key span{display:inline-block;width:14px;height:14px;border-radius:3px}
.key{list-style:none;padding:0;display:flex;flex-wrap:wrap;gap:.2rem 1.2rem;font-size:13px}
.key span{margin-right:.4rem;vertical-align:-2px}
span.same{background:#1a7f4b}span.different{background:#d3332a}span.failed{background:#e29a2d}
span.skipped{background:#8f98ab}span.left{background:#dfe3ea}
.verified{color:#1a7f4b}.failed-part{color:#b3261e}.skipped-part{color:#5d6779}
svg{width:100%;height:auto}svg text{font:11px ui-monospace,monospace;fill:#5d6779}
svg path{fill:none;stroke:#2f5fd0;stroke-width:1.5}svg line{stroke:#dfe3ea}
"""


def render_page(verdict: Verdict, curves: Mapping[str, Curve], author: str, log: str, command: str) -> str:
    """Return the page. `author` and `log` are the names that the user knows them by; `command` repeats the check."""
    title = f"run {str(verdict.run)[:16]}: {verdict.verdict}" + ("" if verdict.drawn is None else ", sampled")
    policy = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
    return "\n".join(
        [
            "<!DOCTYPE html>",
            '<html lang="en"><head><meta charset="utf-8">',
            '<meta http-equiv="Content-Security-Policy" '
            f"content=\"default-src 'none'; style-src 'sha256-{policy}'; base-uri 'none'; form-action 'none'\">",
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{title}</title>",
            f"<style>{_STYLE}</style></head><body>",
            f'<h1 class="{verdict.verdict}">{_text(summary(verdict))}</h1>',
            *_parts(verdict),
            *_chance(verdict),
            *_segments(verdict),
            *_curves(curves),
            *_names(verdict, author, log),
            f"<h2>Repeat it</h2><pre>{_text(command)}</pre>",
            "</body></html>",
            "",
        ]
    )


def _parts(verdict: Verdict) -> list[str]:
    rows = []
    for name, part in verdict.parts.items():
        style = {"verified": "verified", "failed": "failed-part", "skipped": "skipped-part"}[part.status]
        rows.append(f'<tr><th>{name}</th><td class="{style}">{_text(part_text(part))}</td></tr>')
        rows += [f"<tr><td></td><td>{_text(problem)}</td></tr>" for problem in part.problems[1:20]]
    return ["<h2>What was checked</h2><table>", *rows, "</table>"]


def _chance(verdict: Verdict) -> list[str]:
    if verdict.drawn is None:
        return []
    return [f"<h2>What a sample can say</h2><p>{_text(drawn_text(verdict.drawn))}.</p>"]


def _segments(verdict: Verdict) -> list[str]:
    claimed = verdict.claimed
    if not claimed:
        return []
    results = {one.number: one for one in verdict.segments}
    boxes = []
    shown = range(len(claimed)) if len(claimed) <= MAX_BOXES else sorted(results)[:MAX_BOXES]
    for number in shown:
        claim, result = claimed[number], results.get(number)
        said = f"segment {number}, steps {claim.first_step}:{claim.stop_step}"
        if result is None:
            boxes.append(f'<span class="left" title="{_text(said)}"></span>')
            continue
        if result.first_different_step is not None:
            said += f": step {result.first_different_step} differs"
        said += f" ({result.reason})" if result.reason else ""
        said += f", {result.seconds:.2f} s on {result.device} by {result.worker}" if result.worker else ""
        boxes.append(f'<span class="{result.result}" title="{_text(said)}"></span>')
    hidden = len(claimed) - len(boxes)
    return [
        f"<h2>Segments: {_text(counts_text(verdict))}, of {len(claimed)}</h2>",
        f'<div class="boxes">{"".join(boxes)}</div>',
        f"<p>{hidden} more are not shown.</p>" if hidden else "",
        '<ul class="key">',
        *(f'<li><span class="{style}"></span>{text}</li>' for style, text in _COLOURS),
        "</ul>",
    ]


def _curves(curves: Mapping[str, Curve]) -> list[str]:
    if not curves:
        return []
    drawn = []
    for name, points in list(curves.items())[:MAX_CURVES]:
        drawn += [f"<h3>{_text(name)}</h3>", curve_svg(points)]
    more = len(curves) - MAX_CURVES
    note = f"<p>{more} more metrics are not shown.</p>" if more > 0 else ""
    return ["<h2>Metrics, as the run's commits claim them</h2>", *drawn, note]


def _names(verdict: Verdict, author: str, log: str) -> list[str]:
    rows: list[tuple[str, object]] = [
        ("run", verdict.run),
        ("run by", author),
        ("log", log),
        ("job", verdict.job),
        ("begins", begins_text(verdict) or "at step 0"),
        ("final state", verdict.final_state),
        ("last entry", verdict.run_entry),
        ("this verdict", signed_text(verdict)),
        ("device, as the runner claims", _listed(segment.device for segment in verdict.claimed)),
        ("device of this check", _listed(one.device for one in verdict.segments)),
        ("processes of this check", _listed(one.worker for one in verdict.segments)),
        ("time", f"{verdict.seconds:.1f} s"),
    ]
    shown = [f"<tr><th>{name}</th><td><code>{_text(str(value))}</code></td></tr>" for name, value in rows if value]
    return ["<h2>Names</h2><table>", *shown, "</table>"]


def _listed(values: Iterable[str]) -> str:
    """Return each name once, the first 20 of them; an empty one is none."""
    names = list(dict.fromkeys(filter(None, values)))
    return ", ".join(names[:20]) + (f" and {len(names) - 20} more" if len(names) > 20 else "")


def _text(text: str) -> str:
    return escape(printable(text))
