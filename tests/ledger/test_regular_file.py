"""No command waits for a pipe that stands in the place of one of the ledger's small files, or reads one without end."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.ledger.raw_logs import raw_log

from samebits.ledger.errors import LedgerError
from samebits.ledger.heads import HeadFile
from samebits.ledger.keyfile import load_key
from samebits.ledger.logkey import load_log_verifier
from samebits.ledger.regular_file import read_regular
from samebits.ledger.trust import read_trust_text
from samebits.ledger.witness_state import WitnessState, load_witness_key


@pytest.fixture(autouse=True)
def impatient() -> Iterator[None]:
    """End what hangs."""

    def give_up(_number: int, _frame: object) -> None:
        raise TimeoutError("it waits for the pipe")

    old = signal.signal(signal.SIGALRM, give_up)
    signal.alarm(5)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, old)


def open_head(folder: Path) -> None:
    """Open a log whose head is at `folder/state/heads/NAME`."""
    with raw_log(folder).storage.writing():
        pass


READERS: dict[str, Callable[[Path], object]] = {
    "log.pub": load_log_verifier,
    "some.key": lambda folder: load_key(folder / "some.key"),
    "trust": lambda folder: read_trust_text(folder / "trust"),
    "witness.key": load_witness_key,
    "ab/checkpoint": lambda folder: WitnessState(folder).read("ab"),
    "head": open_head,
    "log/checkpoint": open_head,
    "log/checkpoint.new": open_head,
}


@pytest.mark.parametrize("name", READERS)
def test_pipe_in_the_place_of_a_file_is_named(name: str, tmp_path: Path) -> None:
    log = raw_log(tmp_path)
    path = HeadFile(log.key.name, log.state_folder).path if name == "head" else tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    os.mkfifo(path, 0o600)
    with pytest.raises(LedgerError, match="not a regular file"):
        READERS[name](tmp_path)


def test_read_regular_stops_behind_the_limit(tmp_path: Path) -> None:
    path = tmp_path / "file"
    for size, read in ((0, 0), (9, 9), (10, 10), (11, 11), (1_000, 11)):
        path.write_bytes(bytes(size))
        path.chmod(0o640)
        data, mode = read_regular(path, 10)
        assert (len(data), mode & 0o777) == (read, 0o640)
    with pytest.raises(IsADirectoryError):
        read_regular(tmp_path, 10)
    with pytest.raises(OSError, match="not a regular file"):
        read_regular(Path("/dev/zero"), 10)
