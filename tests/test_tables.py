"""READMEs: tables that follow from code are up to date."""

from __future__ import annotations

import pytest

pytest.importorskip("torch")
from tests.tables import ROOT, TABLES, with_table


@pytest.mark.parametrize("path", TABLES)
def test_table_of_readme_is_that_of_the_code(path: str) -> None:
    name, table = TABLES[path]
    text = (ROOT / path).read_text()
    assert with_table(text, name, table()) == text, "run python -m tests.tables --write"
