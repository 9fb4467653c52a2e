"""The tables of READMEs that follow from code: every operation, every ATen rule. `python -m tests.tables --write`."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import ModuleType

from samebits.exec.capture import rules
from samebits.exec.capture.lowering import REFUSED, RULES
from samebits.kernels.attributes import REQUIRED
from samebits.kernels.optable import OPS, Op

ROOT = Path(__file__).resolve().parents[1]


def operations_table() -> str:
    """Return a row for each operation of the op table, in its order."""
    rows = ["| group | operation | operands | attributes |", "|---|---|---|---|"]
    rows += [f"| {op.group} | `{op.name}` | {_arity(op)} | {_attributes(op)} |" for op in OPS.values()]
    return "\n".join(rows)


def _arity(op: Op) -> str:
    return "1 or more" if op.arity is None else str(op.arity)


def _attributes(op: Op) -> str:
    return ", ".join(
        f"`{attribute.name}`" if attribute.default is REQUIRED else f"`{attribute.name}` = {attribute.default}"
        for attribute in op.attributes
    )


def rules_table() -> str:
    """Return a row for each file of lowering rules: what it is about, and its ATen ops."""
    rows = ["| file | what | ops |", "|---|---|---|"]
    rows += [f"| `{_name(file)}.py` | {_subject(file)} | {_ops(file)} |" for file in rules.FILES]
    refused = (f"{name.removeprefix('aten.')}: {way_around}" for name, way_around in sorted(REFUSED.items()))
    rows.append(f"| | refused, with what to do instead | {'; '.join(refused)} |")
    return "\n".join(rows)


def _name(file: ModuleType) -> str:
    return file.__name__.rpartition(".")[2]


def _subject(file: ModuleType) -> str:
    return (file.__doc__ or "").partition("\n")[0].removeprefix("Lowering rules: ").rstrip(".")


def _ops(file: ModuleType) -> str:
    own = sorted(name for name, rule in RULES.items() if rule.__module__ == file.__name__)
    return " ".join(name.removeprefix("aten.") for name in own)


TABLES = {"kernels/README.md": ("operations", operations_table), "exec/README.md": ("ATen rules", rules_table)}


def with_table(text: str, name: str, table: str) -> str:
    """Return a README with the table between its marks; raises ValueError if the marks are missing."""
    first, last = (f"<!-- {mark}: made by python -m tests.tables --write -->" for mark in (name, f"end of {name}"))
    found, count = re.subn(
        f"{re.escape(first)}.*?{re.escape(last)}", lambda _: f"{first}\n{table}\n{last}", text, flags=re.DOTALL
    )
    if count != 1:
        raise ValueError(f"the marks of the table of {name} are missing or repeated")
    return found


def main() -> None:
    """Print the tables, or write them into the READMEs."""
    for path, (name, table) in TABLES.items():
        if "--write" in sys.argv:
            text = (ROOT / path).read_text()
            (ROOT / path).write_text(with_table(text, name, table()))
        else:
            print(table())


if __name__ == "__main__":
    main()
