"""The log with several processes: they append at once, and may be killed at any moment."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from samebits.ledger.entry import entry_address
from samebits.ledger.errors import StorageError
from samebits.ledger.index import LogIndex
from samebits.ledger.index_file import META, IndexCover, IndexFile
from samebits.ledger.links import link_entry
from samebits.ledger.log import Log
from samebits.ledger.search_rows import add_search_rows

WORKER = Path(__file__).parent / "append_worker.py"


def start(directory: Path, nonce: int, most: int, *lag: int) -> subprocess.Popen[str]:
    command = [sys.executable, str(WORKER), str(directory), str(nonce), str(most), *map(str, lag)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_append_from_two_processes_at_once_keeps_both_runs(tmp_path: Path) -> None:
    workers = [start(tmp_path / "log", nonce, 60) for nonce in (1, 2)]
    for worker in workers:
        output, _ = worker.communicate(timeout=60)
        assert worker.returncode == 0
        assert output.split()[-1] == "60"
    with Log.open(tmp_path / "log", read_only=True) as log:
        assert log.size == 2 * 61
        assert [chain.next_step for chain in log.runs()] == [60, 60]
        origins = [chain.body.nonce[-1] for chain in log.runs()]
        assert sorted(origins) == [1, 2]
        log.audit().check()


@pytest.mark.parametrize("most_delay_s", [0.03, 0.2])
def test_append_survives_kill_at_any_moment(tmp_path: Path, most_delay_s: float) -> None:
    """No acknowledged entry is lost, the log stays whole, and the next process goes on."""
    moments, acknowledged = random.Random(most_delay_s), 0
    kills, most = (15, 50) if most_delay_s > 0.1 else (6, -1)
    for attempt in range(10 * kills):
        if attempt >= kills and acknowledged > most:  # a busy machine gets less done between two kills
            break
        worker = start(tmp_path / "log", 1, 10**6)
        assert worker.stdout is not None
        assert worker.stdout.readline() == "ready\n"
        time.sleep(moments.uniform(0, most_delay_s))
        worker.kill()
        lines = worker.stdout.read().split("\n")[:-1]
        worker.wait()
        worker.stdout.close()
        acknowledged = max([acknowledged, *map(int, lines)])
        try:
            log = Log.open(tmp_path / "log", read_only=attempt % 2 == 0)
        except StorageError:  # killed while it made the log, which the next writer completes
            assert attempt % 2 == 0
            assert not acknowledged
            continue
        with log:
            log.audit().check()
            steps = [chain.next_step for chain in log.runs()]
            assert sum(steps) >= acknowledged
            assert log.size == (1 + sum(steps) if steps else 0)
    assert acknowledged > most


def test_index_file_survives_kill_at_any_moment(tmp_path: Path) -> None:
    """Its rows are those that the entries it covers give, wherever it was written last."""
    moments, covered = random.Random(7), 0
    for attempt in range(120):
        if attempt >= 12 and covered > 20:  # a busy machine gets less done between two kills
            break
        worker = start(tmp_path / "log", 1, 10**6, 1)
        assert worker.stdout is not None
        assert worker.stdout.readline() == "ready\n"
        time.sleep(moments.uniform(0.1, 0.4))
        worker.kill()
        worker.wait()
        worker.stdout.close()
        file = IndexFile.open(tmp_path / "log", create=True)
        assert file is not None
        with file.reading() as view:
            found = dict(view.scan(b""))
        file.close()
        cover = IndexCover.decode(found.pop(META)) if found else None
        index = LogIndex("" if cover is None else cover.origin)
        if cover is not None:
            with Log.open(tmp_path / "log", read_only=True) as log:
                for place, entry in enumerate(log.entries(0, cover.tree.tree_size)):
                    link = link_entry(entry_address(entry), entry)
                    index.add(place, link)
                    add_search_rows(index.rows, place, link, entry)
            covered = cover.tree.tree_size
        assert found == index.rows.own
    assert covered > 20
