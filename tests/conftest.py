"""Stores, a state folder of the tests' own, and the line that says how many faults store and ledger were put through.

The line is here and not in `cas/` because the process that pytest-xdist reports from loads no conftest but this one.
Of faults that are tried by number every third runs, of disk errors those that pass and full disks that stay full, and
what compiles for minutes is left out; all of it runs with `--exhaustive` (`make conformance`).
"""

from __future__ import annotations

import os
import re
import signal
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from samebits.cas.store import Store
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
_LONG = re.compile(
    r"tests/(kernels/test_codegen_digits\.py::test_every_engine_has_the_bits_of_the_numpy_engine\[(gpu|cpu-.*)\]"
    r"|exec/test_recomputation\.py::test_the_(conformance_vectors|digits_job)_raises?_no_false_alarm\[gpu\]"
    r"|exec/test_rules_models\.py::test_opencl_gives_the_bits_of_numpy\[.*-gpu\]"
    r"|exec/test_kernel_device\.py::test_random_graphs_give_the_bits_of_numpy\[gpu\]"
    r"|exec/test_device_ops\.py::test_device_gives_the_bits_of_numpy\[.*-gpu\]"
    r"|exec/test_device_convolutions\.py::test_convolutions_(at_borders|of_views)_have_the_bits_of_numpy\[(.*-)?gpu\]"
    r"|exec/test_cuda_sources\.py::test_\w+_of_digits_on_matrix_units_give_the_bits_of_numpy\[high\]"
    r"|ledger/test_faults_log_disk\.py::test_call_that_fails\[.*-(5-True|28-False)\])$"
)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option."""
    parser.addoption(
        "--exhaustive",
        action="store_true",
        help=f"All numbered faults, not one in {_EVERY}, and the longest tests.",
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what only an exhaustive run tests."""
    if config.getoption("--exhaustive"):
        return
    left_out = [item for item in items if _is_exhaustive(item.nodeid)]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        gone = set(left_out)
        items[:] = [item for item in items if item not in gone]


def _is_exhaustive(test: str) -> bool:
    numbered = _NUMBERED.search(test)
    return _LONG.search(test) is not None or (numbered is not None and int(numbered[3]) % _EVERY != 0)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """A store: of who runs a job, where there is another."""
    with Store(tmp_path / "store") as opened:
        yield opened


@pytest.fixture
def other(tmp_path: Path) -> Iterator[Store]:
    """Another store: of who checks the job."""
    with Store(tmp_path / "other") as opened:
        yield opened


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


@pytest.fixture(scope="session", autouse=True)
def interruptible() -> None:
    """Let SIGINT end what tests start also where the tests run in the background: shells start that with it ignored."""
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


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
