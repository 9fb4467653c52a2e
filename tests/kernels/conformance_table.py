"""The table of kernels/CONFORMANCE.md: one row for each function and device, merged by the program that checks them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import Final

TABLE_FILE: Final = Path(__file__).parents[2] / "kernels" / "CONFORMANCE.md"

HEADER: Final = """\
# Conformance: every f32 input of every function

Written by `python -m tests.kernels.conformance --device NAME --write`, which rewrites the rows of the device and the
functions it has checked and keeps the others.

Each function was evaluated by the device, through the same plan and launch as in a job, on f32 inputs of consecutive
bit patterns (4294967296 inputs are all of them, NaN and subnormals included) and on all 65536 bf16 and all 65536 f16
inputs. Every result was compared, all bits, with an oracle that shares no code with the kernels:

- f32: `tests/kernels/oracle_f32.c` evaluates the function with the C library's 80-bit long double and trusts its value
  to 2^-58, much less than the few ulp that are documented. Where no boundary of rounding lies that close, the rounded
  value is certain; the other inputs ("to MPFR") are settled by GNU MPFR.
- bf16, f16: GNU MPFR, correctly rounded to the type.

- pow and atan2 have 2^64 inputs: random, special, exact and hard pairs (`tests/kernels/pairs.py`) against MPFR.

The last columns say how hard the function is: the least relative distance of an exact value f(x) from a boundary of
rounding to f32 (a midpoint between two neighbours; exact ties don't count), as log2 and computed with 300 bits, and the
bits of the f32 input it occurs at. An evaluation with a smaller relative error than that, rounded once, is right.

"""


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table; every field is the text of its cell.

    Example: ``| exp | 4294967296 | 0 | 4 | 0 | 0 | numpy 2.4.6 | 2026-11-21 | -57.60 | 0xC0D4A2F1 |``
    """

    function: str
    inputs: str
    mismatches: str
    to_mpfr: str
    bf16_mismatches: str
    f16_mismatches: str
    device: str
    date: str
    worst_distance_log2: str
    at_input: str


TITLES: Final = (
    *("function", "inputs", "mismatches", "to MPFR", "bf16 mismatches", "f16 mismatches", "device", "date"),
    *("closest to a boundary (log2)", "at input"),
)
_COLUMNS: Final = len(fields(Row))
_TEXT_COLUMNS: Final = {0, 6, 7, 9}  # the others are numbers, set flush right


def merge_rows(old: Iterable[Row], new: Iterable[Row]) -> list[Row]:
    """Return the rows sorted by function and device; a new one replaces the old one of the same function and device."""
    by_key = {(row.function, row.device): row for row in (*old, *new)}
    return [by_key[key] for key in sorted(by_key)]


def format_table(rows: Iterable[Row]) -> str:
    """Return the whole file."""
    rules = ["---" if column in _TEXT_COLUMNS else "--:" for column in range(_COLUMNS)]
    return HEADER + "".join("| " + " | ".join(cells) + " |\n" for cells in (TITLES, rules, *map(astuple, rows)))


def parse_table(text: str) -> list[Row]:
    """Return the rows of a file that `format_table` wrote; raises ValueError if a line of the table is another."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    if not lines:
        return []
    cells = [[cell.strip() for cell in line.strip().strip("|").split("|")] for line in lines]
    if tuple(cells[0]) != TITLES or any(len(line) != _COLUMNS for line in cells):
        raise ValueError(f"not the table of {TABLE_FILE.name}")
    return [Row(*line) for line in cells[2:]]


def write_rows(rows: Iterable[Row], path: Path = TABLE_FILE) -> None:
    """Merge rows into the file."""
    old = parse_table(path.read_text(encoding="utf-8")) if path.exists() else []
    path.write_text(format_table(merge_rows(old, rows)), encoding="utf-8")
