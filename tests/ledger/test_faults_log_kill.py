"""Processes that append to one log, two at once, are killed at 200 moments: nothing acknowledged is ever lost."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path

import pytest
from tests.cas.zygote import KILLED, Zygote, zygote
from tests.ledger.raw_logs import check_files

from samebits.ledger.checkpoint import open_checkpoint
from samebits.ledger.entry import encode_entry
from samebits.ledger.errors import StorageError
from samebits.ledger.log import Log

ROUNDS, LOGS_EVERY = 100, 10  # two kills in each round, a new log every so many


@pytest.fixture(scope="module")
def workers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Zygote]:
    with zygote("ledger.log_kill_workers", tmp_path_factory.mktemp("zygote") / "log") as started:
        yield started


def published(directory: Path) -> int:
    """Return the size of the log as anybody reads it, after checking that its entries are all there."""
    try:
        with Log.open(directory, read_only=True) as log:
            log.audit().check()
            return log.size
    except StorageError as error:  # killed while it made the log, which the next writer completes
        assert "there is no log here" in str(error)
        return 0


@pytest.mark.parametrize("number", range(ROUNDS // LOGS_EVERY))
def test_kill_while_two_append(
    number: int, workers: Zygote, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    record_property("faults", 2 * LOGS_EVERY)
    source = random.Random(number)
    directory, state = tmp_path / "log", tmp_path / "state"
    acknowledged: dict[tuple[int, int], str] = {}
    most = 0
    for _ in range(LOGS_EVERY):
        jobs = [("append_all", [str(directory), str(state), source.randrange(1 << 30)]) for _ in range(2)]
        for outcome in workers.kill(jobs, [source.uniform(0, 0.12), source.uniform(0.02, 0.3)]):
            assert outcome.status == KILLED, (outcome, workers.log.read_text()[-3000:])
            for first, after, said in outcome.said("did"):
                assert (int(first), int(after)) not in acknowledged
                acknowledged[int(first), int(after)] = said
        before = published(directory)
        with Log.open(directory, state_folder=state) as log:
            assert log.size >= before
            log.audit().check()
            checkpoint = open_checkpoint(log.checkpoint().encode(), log.verifier)
            check_files(directory, checkpoint)
            entries = [encode_entry(entry) for entry in log.entries()]
        for (start, stop), said in acknowledged.items():
            assert sha256(b"".join(entries[start:stop])).hexdigest() == said
        assert len(entries) >= max((stop for _, stop in acknowledged), default=0) >= most
        most = max((stop for _, stop in acknowledged), default=0)
    assert most > 0  # on a slow disk a round of kills leaves little time to append
