"""Search and lineage: what is found is what the entries say, and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from samebits.cas.digest import Digest, hash_blob
from samebits.ledger import sessions as sessions_module
from samebits.ledger.bodies import RunBody, SegmentBody
from samebits.ledger.entry import Entry, entry_address, sign_entry
from samebits.ledger.errors import AmbiguousPrefixError, ArtifactNotFoundError, LedgerError
from samebits.ledger.keys import SigningKey
from samebits.ledger.log import Log
from samebits.ledger.search import Query

Make = Callable[..., Entry]
BASE, TUNED, KERNEL = hash_blob(b"base weights"), hash_blob(b"tuned weights"), hash_blob(b"kernel")
JOBS = [hash_blob(b"pretrain"), hash_blob(b"tune")]


def add_run(
    log: Log, key: SigningKey, job: Digest, states: list[Digest], time: int | None = None, nonce: int = 0
) -> list[Entry]:
    """Append a run whose segments have 10 steps each and go through these states."""
    body = RunBody(job, nonce.to_bytes(16, "big"), 10 * (len(states) - 1), 1, 10)
    entries = [sign_entry(log.origin, None, body, key, time=time)]
    run = entry_address(entries[0])
    for place in range(len(states) - 1):
        segment = SegmentBody(
            run, 10 * place, 10 * place + 10, states[place], states[place + 1], hash_blob(b"c%d" % place + run.raw),
            bytes(32), "numpy", (KERNEL,),
        )  # fmt: skip
        prev = entry_address(entries[-1])
        entries.append(sign_entry(log.origin, prev, segment, key, time=None if time is None else time + place + 1))
    log.append(entries)
    return entries


def state(name: str) -> Digest:
    return hash_blob(name.encode())


@pytest.fixture(params=["in memory", "in the file"])
def two_runs(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    author: SigningKey,
    stranger: SigningKey,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[tuple[Log, list[Entry], list[Entry]]]:
    """A run that makes weights (entries 0 to 2), and one by somebody else that starts from them (3 and 4)."""
    if request.param == "in the file":
        monkeypatch.setattr(sessions_module, "_INDEX_LAG", 1)
    with Log.open(tmp_path / "log") as log:
        first = add_run(log, author, JOBS[0], [state("zero"), state("half"), BASE], 1000)
        yield log, first, add_run(log, stranger, JOBS[1], [BASE, TUNED], 2000)


def indexes(log: Log, **query: object) -> list[int]:
    return [found.index for found in log.search(Query(**query))]  # type: ignore[arg-type]


def test_search_finds_by_each_field(
    two_runs: tuple[Log, list[Entry], list[Entry]], author: SigningKey, stranger: SigningKey, make_verdict: Make
) -> None:
    log, first, second = two_runs
    run = entry_address(first[0])
    log.append([make_verdict(log.origin, run, entry_address(first[2]), 0, 20)])  # entry 5, version 1
    assert indexes(log, job=JOBS[0]) == [0, 1, 2, 5]
    assert indexes(log, job=JOBS[1]) == [3, 4]
    assert indexes(log, run=run) == [0, 1, 2, 5]
    assert indexes(log, author=author.public) == [0, 1, 2]
    assert indexes(log, author=stranger.public) == [3, 4, 5]
    assert indexes(log, artifact=BASE) == [2, 4]
    assert indexes(log, artifact=KERNEL) == [1, 2, 4]
    assert indexes(log, artifact=JOBS[1]) == [3]
    assert indexes(log, since=1001) == [1, 2, 3, 4]
    assert indexes(log, until=1002) == [0, 1]
    assert indexes(log, since=1002, until=2001) == [2, 3]
    assert indexes(log, artifact=BASE, author=stranger.public) == [4]
    assert indexes(log, job=JOBS[0], run=entry_address(second[0])) == []
    assert indexes(log, artifact=state("nothing"), since=0) == []
    assert [found.roles for found in log.search(Query(artifact=BASE))] == [("state_out",), ("state_in",)]
    assert [found.entry for found in log.search(Query(artifact=BASE))] == [first[2], second[1]]
    with pytest.raises(ValueError, match="anything to look for"):
        log.search(Query())


@pytest.mark.parametrize("time", [-1, 2**63, 2**70])
def test_query_refuses_times_that_no_entry_can_have(time: int, log: Log) -> None:
    for name in ("since", "until"):
        with pytest.raises(ValueError, match="a time is from 0"):
            Query(**{name: time})  # type: ignore[arg-type]
    assert log.search(Query(since=2**63 - 1, until=2**63 - 1)) == []


def test_search_sees_all_roles_of_an_artifact(log: Log, author: SigningKey) -> None:
    add_run(log, author, JOBS[0], [BASE, BASE])
    assert [found.roles for found in log.search(Query(artifact=BASE))] == [("state_in", "state_out")]
    assert set(log.artifacts()) == {JOBS[0], BASE, KERNEL, hash_blob(b"c0" + entry_address(log.entry(0)).raw)}


def test_find_address_wants_a_beginning_that_only_one_has(
    two_runs: tuple[Log, list[Entry], list[Entry]], author: SigningKey
) -> None:
    log, first, _ = two_runs
    run = str(entry_address(first[0]))
    for length in (4, 5, 16, 63, 64):
        assert log.find_address(run[:length]) == entry_address(first[0])
    assert log.find_address(str(BASE)[:9]) == BASE
    assert log.find_address(author.public.hex()[:7], ("author",)) == Digest(author.public)
    assert log.find_address("0" * 63) is None
    assert log.find_address("0" * 64) == Digest(bytes(32))
    for text in ("abc", "xyz1", "ABCD", "a" * 65, ""):
        with pytest.raises(LedgerError, match="is not an address"):
            log.find_address(text)


def test_find_address_refuses_an_ambiguous_beginning(log: Log, author: SigningKey) -> None:
    close = [Digest(b"\xab\xcd\xef" + bytes([last]) + bytes(28)) for last in (0x12, 0x13, 0x20)]
    add_run(log, author, JOBS[0], close)
    with pytest.raises(AmbiguousPrefixError, match=r"abcdef1 is the beginning of more than one address: abcdef12.*13"):
        log.find_address("abcdef1")
    assert log.find_address("abcdef2") == close[2]
    assert log.find_address("abcdef13") == close[1]


def test_lineage_walks_across_runs_to_the_root(two_runs: tuple[Log, list[Entry], list[Entry]]) -> None:
    log, first, second = two_runs
    lineage = log.lineage(TUNED)
    (tuned,) = lineage.made_by
    assert (tuned.run, tuned.job, tuned.stop_step) == (entry_address(second[0]), JOBS[1], 10)
    assert (tuned.state_in, tuned.state_out, tuned.kernels, tuned.time) == (BASE, TUNED, (KERNEL,), 2001)
    (base,) = lineage.makers(tuned)
    assert (base.run, base.segments) == (entry_address(first[0]), tuple(map(entry_address, first[1:])))
    assert base.state_in == state("zero")
    assert lineage.makers(base) == ()
    assert log.lineage(entry_address(second[1])).made_by == log.lineage(entry_address(second[0])).made_by == (tuned,)
    (half,) = log.lineage(state("half")).made_by
    assert (half.stop_step, half.segments) == (10, (entry_address(first[1]),))


def test_lineage_of_what_no_run_made_names_its_users(two_runs: tuple[Log, list[Entry], list[Entry]]) -> None:
    log, _, _ = two_runs
    for address, users in [(state("zero"), (1,)), (JOBS[0], (0,)), (KERNEL, (1, 2, 4))]:
        lineage = log.lineage(address)
        assert (lineage.made_by, lineage.used_by) == ((), users)
    with pytest.raises(ArtifactNotFoundError, match="neither an entry of this log nor anything"):
        log.lineage(hash_blob(b"unknown"))


def test_lineage_of_a_verdict_is_that_of_what_it_checked(
    two_runs: tuple[Log, list[Entry], list[Entry]], make_verdict: Make
) -> None:
    log, first, _ = two_runs
    verdict = make_verdict(log.origin, entry_address(first[0]), entry_address(first[1]), 0, 10)
    foreign = make_verdict(log.origin, hash_blob(b"elsewhere"), hash_blob(b"there"), 0, 10)
    log.append([verdict, foreign])
    assert log.lineage(entry_address(verdict)).made_by == log.lineage(state("half")).made_by
    assert log.lineage(entry_address(foreign)).made_by == ()


def test_lineage_shows_forks(two_runs: tuple[Log, list[Entry], list[Entry]], author: SigningKey) -> None:
    log, first, second = two_runs
    same = add_run(log, author, JOBS[1], [BASE, TUNED])
    other = add_run(log, author, JOBS[1], [BASE, state("differs")], nonce=1)
    longer = add_run(log, author, JOBS[1], [state("zero"), state("x"), state("y")], nonce=2)
    assert [part.run for part in log.lineage(TUNED).made_by] == [entry_address(second[0]), entry_address(same[0])]
    lineage = log.lineage(TUNED)
    part = lineage.made_by[0]
    assert [(run.run, run.next_step, run.state) for run in lineage.other_runs(part)] == [
        (entry_address(same[0]), 10, TUNED),
        (entry_address(other[0]), 10, state("differs")),
        (entry_address(longer[0]), 20, state("y")),
    ]
    assert set(lineage.branches(part)) == {entry_address(same[0]), entry_address(other[0])}
    (base,) = lineage.makers(part)
    assert lineage.branches(base) == (entry_address(longer[0]),)


def test_lineage_ends_where_states_go_round(log: Log, author: SigningKey) -> None:
    """A makes Y of X, then B makes X of Y: what made A's X is not B, which came later."""
    x, y = state("x"), state("y")
    one = add_run(log, author, JOBS[0], [x, y])
    two = add_run(log, author, JOBS[1], [y, x])
    lineage = log.lineage(x)
    (made,) = lineage.made_by
    assert made.run == entry_address(two[0])
    (before,) = lineage.makers(made)
    assert before.run == entry_address(one[0])
    assert lineage.makers(before) == ()


def test_lineage_of_many_runs_in_a_row_needs_no_recursion(log: Log, author: SigningKey) -> None:
    states, entries = [state(f"s{place}") for place in range(1101)], []
    for place in range(1100):
        run = sign_entry(log.origin, None, RunBody(JOBS[0], place.to_bytes(16, "big"), 1, 1, 1), author)
        address = entry_address(run)
        body = SegmentBody(address, 0, 1, states[place], states[place + 1], states[0], bytes(32), "numpy", ())
        entries += [run, sign_entry(log.origin, address, body, author)]
    log.append(entries)
    lineage = log.lineage(states[-1])
    assert set(lineage.states) == set(states[:-1])
    assert len(lineage.other_runs(lineage.made_by[0])) == 1099


def test_makers_and_forks_are_the_first_so_many(
    two_runs: tuple[Log, list[Entry], list[Entry]], author: SigningKey
) -> None:
    log, first, second = two_runs
    made = [add_run(log, author, JOBS[0], [state("zero"), BASE], nonce=nonce + 1) for nonce in range(3)]
    last = add_run(log, author, JOBS[1], [BASE, TUNED], nonce=5)
    late = add_run(log, author, JOBS[0], [state("zero"), BASE], nonce=9)
    lineage = log.lineage(TUNED)
    early, part = lineage.made_by
    runs = [entry_address(run[0]) for run in (first, *made, late)]
    assert [maker.run for maker in lineage.makers(early)] == runs[:1]
    assert [maker.run for maker in lineage.makers(part)] == runs[:4]
    assert [maker.run for maker in lineage.makers(part, 2)] == runs[:2]
    assert [run.run for run in lineage.other_runs(lineage.makers(part)[0], 2)] == runs[1:3]
    assert lineage.branches(part, 1) == (entry_address(second[0]),)
    assert part.run == entry_address(last[0])
