"""A state folder of the tests' own, and the line that says how many faults store and ledger were put through.

The line is here and not in `cas/` because the process that pytest-xdist reports from loads no conftest but this one.
Of faults that are tried by number, every third runs; all of them with `--every-fault` (`make conformance`).
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator

import pytest

from samebits.ledger.heads import STATE_VARIABLE

# what is counted, by the beginning of a test's file and name
FAULTS = {
    "kills": r"test_faults_kill\.py::test_kill_",
    "disk": r"test_faults_disk\.py::",
    "database": r"test_(faults_database|store_damage)\.py::",
    "hostile remotes": r"test_remotes_hostile\.py::",
    "hostile files": r"test_(formats_\w+|safetensors)\.py::test_\w*(refuse|hostile)",
    "fuzz targets": r"test_\w*fuzz\w*\.py::",
    "kills of the ledger": r"test_faults_log_kill\.py::",
    "ledger disk": r"test_faults_log_disk\.py::",
    "kills of runs": r"test_faults_run\.py::test_kill_",
    "other faults of runs": r"test_faults_run\.py::test_(?!kill_)",
}


# tried by number: `test_kill_put[0]`, `test_kill_put[1]`, ...
_NUMBERED = re.compile(r"tests/(cas/test_faults_(kill|database)|ledger/test_faults_log_kill)\.py::\w+\[(\d+)\]$")
_EVERY = 3


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option."""
    parser.addoption("--every-fault", action="store_true", help=f"All numbered faults, not one in {_EVERY}.")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave numbered faults out, but for every third."""
    if config.getoption("--every-fault"):
        return
    found = ((item, _NUMBERED.search(item.nodeid)) for item in items)
    left_out = [item for item, number in found if number is not None and int(number[3]) % _EVERY]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        gone = set(left_out)
        items[:] = [item for item in items if item not in gone]


@pytest.fixture(scope="session", autouse=True)
def state_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep the heads that tests sign out of the user's state folder, in every process that they start too."""
    before = os.environ.get(STATE_VARIABLE)
    os.environ[STATE_VARIABLE] = str(tmp_path_factory.mktemp("state"))
    yield
    if before is None:
        del os.environ[STATE_VARIABLE]
    else:
        os.environ[STATE_VARIABLE] = before


def count_faults(reports: Iterable[pytest.TestReport]) -> str:
    """Return the line for the tests that passed, and how many processes LMDB ended; empty if none passed."""
    counts: Counter[str] = Counter()
    died: Counter[str] = Counter()
    for report in reports:
        for name, pattern in FAULTS.items():
            if re.search(rf"tests/(cas|ledger|exec)/{pattern}", report.nodeid):
                counts[name] += int(str(dict(report.user_properties).get("faults", 1)))  # that one test makes
        died.update(str(value) for key, value in report.user_properties if key == "died" and value)
    found = [f"{counts[name]} {name}" for name in FAULTS if counts[name]]
    if not found:
        return ""
    ended = ", ".join(f"{count} {name}" for name, count in sorted(died.items()))
    return f"faults: {', '.join(found)}" + (f" (LMDB ended a process on damaged pages: {ended})" if ended else "")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Write the line."""
    reports = [report for report in terminalreporter.stats.get("passed", []) if isinstance(report, pytest.TestReport)]
    line = count_faults(reports)
    if line:
        terminalreporter.write_line(line)
