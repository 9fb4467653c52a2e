"""The chain of a run: every rule has an entry that breaks it, and a message that says so."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from samebits.cas.digest import hash_blob
from samebits.ledger.bodies import RunBody
from samebits.ledger.chain import check_chain, read_chain
from samebits.ledger.entry import Entry, entry_address
from samebits.ledger.errors import ChainError, RunNotFoundError
from samebits.ledger.keys import SigningKey

ORIGIN = "samebits.local/log/0123456789abcdef"
Make = Callable[..., Entry]
MakeMany = Callable[..., list[Entry]]


def test_read_chain_tells_where_the_run_stands(make_entries: MakeMany, make_verdict: Make) -> None:
    entries = make_entries(ORIGIN, 3)
    run, last = entry_address(entries[0]), entry_address(entries[-1])
    empty = read_chain(entries[:1], run)
    assert (empty.head, empty.next_step, empty.state, empty.is_complete) == (run, 0, None, False)
    chain = read_chain([*entries, make_verdict(ORIGIN, run, last, 1, 3)], run)
    assert (chain.head, chain.next_step, chain.state) == (last, 3, hash_blob(b"state 3"))
    assert (chain.job, chain.author, chain.origin) == (hash_blob(b"job"), entries[0].author, ORIGIN)
    assert [segment.body.first_step for segment in chain.segments] == [0, 1, 2]
    assert [segment.index for segment in chain.segments] == [1, 2, 3]
    assert [verdict.body.stop_step for verdict in chain.verdicts] == [3]
    check_chain(chain)


def test_read_chain_passes_over_other_runs(make_entries: MakeMany, make_verdict: Make) -> None:
    one, two = make_entries(ORIGIN, 2, nonce=1), make_entries(ORIGIN, 3, nonce=2)
    foreign = make_verdict(ORIGIN, hash_blob(b"run"), hash_blob(b"segment"), 0, 1)
    mixed = [two[0], one[0], two[1], foreign, one[1], one[2], two[2], two[3]]
    assert len(read_chain(mixed, entry_address(one[0])).segments) == 2
    assert len(read_chain(mixed, entry_address(two[0])).segments) == 3


def test_read_chain_ends_complete(make_run: Make, make_segment: Make) -> None:
    run = make_run(ORIGIN, steps=7)
    first = make_segment(run, run, stop_step=4)
    second = make_segment(run, first, 4, stop_step=7, state_in=hash_blob(b"state 1"))
    assert read_chain([run, first, second], entry_address(run)).is_complete


def test_read_chain_wants_the_run(make_entries: MakeMany) -> None:
    entries = make_entries(ORIGIN, 2)
    with pytest.raises(RunNotFoundError, match="is not in this log"):
        read_chain(entries, hash_blob(b"another run"))
    with pytest.raises(RunNotFoundError):
        read_chain(entries, entry_address(entries[1]))
    with pytest.raises(ChainError, match=r"^entry 0 .*before its run"):
        read_chain(entries[1:], entry_address(entries[0]))


def refused(entries: list[Entry], index: int, problem: str) -> None:
    """The entry at `index` is the one that read_chain names, by index and address, with this problem."""
    address = entry_address(entries[index])
    with pytest.raises(ChainError, match=rf"^entry {index} \({str(address)[:16]}\): .*{problem}"):
        read_chain(entries, entry_address(entries[0]))


def test_read_chain_refuses_a_strangers_segment(
    make_entries: MakeMany, make_segment: Make, stranger: SigningKey
) -> None:
    entries = make_entries(ORIGIN, 1)
    refused([*entries, make_segment(entries[0], entries[1], 1, key=stranger)], 2, "signed by .* but only")


def test_read_chain_refuses_a_bad_signature(make_entries: MakeMany) -> None:
    entries = make_entries(ORIGIN, 2)
    refused([*entries[:2], replace(entries[2], signature=bytes(64))], 2, "does not verify")
    forged = replace(entries[0], signature=bytes(64))
    with pytest.raises(ChainError, match=r"^entry 0 .*does not verify"):
        read_chain([forged], entry_address(forged))


def test_read_chain_refuses_another_origin(make_entries: MakeMany, make_segment: Make, make_verdict: Make) -> None:
    entries = make_entries(ORIGIN, 1)
    refused([*entries, make_segment(entries[0], entries[1], 1, origin="elsewhere")], 2, "made for log elsewhere")
    verdict = make_verdict("elsewhere", entry_address(entries[0]), entry_address(entries[1]), 0, 1)
    refused([*entries, verdict], 2, "made for log elsewhere")


def test_read_chain_names_a_fork(make_entries: MakeMany, make_segment: Make) -> None:
    entries = make_entries(ORIGIN, 3)
    fork = make_segment(entries[0], entries[1], 1, device="opencl")
    refused([*entries, fork], 4, r"a fork: entry 2 \(.*\) already follows")
    at_run = make_segment(entries[0], entries[0], 0, device="opencl")
    refused([*entries, at_run], 4, r"a fork: entry 1 \(.*\) already follows")


def test_read_chain_refuses_a_repetition(make_entries: MakeMany, make_verdict: Make) -> None:
    entries = make_entries(ORIGIN, 2)
    refused([*entries, entries[1]], 3, "repeats entry 1")
    refused([*entries, entries[0]], 3, "repeats entry 0")
    verdict = make_verdict(ORIGIN, entry_address(entries[0]), entry_address(entries[2]), 0, 2)
    refused([*entries, verdict, verdict], 4, "repeats entry 3")


def test_read_chain_refuses_a_gap_in_the_links(make_entries: MakeMany, make_segment: Make) -> None:
    entries = make_entries(ORIGIN, 3)
    refused([*entries[:2], entries[3]], 2, "which is not in this run")
    other = make_entries(ORIGIN, 1, nonce=5)
    refused([*entries, make_segment(entries[0], other[1], 3)], 4, "which is not in this run")


@pytest.mark.parametrize(("first", "stop"), [(0, 1), (0, 2), (2, 3), (5, 6)])
def test_read_chain_refuses_steps_that_do_not_follow(
    first: int, stop: int, make_entries: MakeMany, make_segment: Make
) -> None:
    entries = make_entries(ORIGIN, 1)
    segment = make_segment(entries[0], entries[1], first, stop_step=stop)
    refused([*entries, segment], 2, f"starts at step {first}, but the run stands at step 1")


def test_read_chain_refuses_a_start_after_step_0(make_run: Make, make_segment: Make) -> None:
    run = make_run(ORIGIN)
    refused([run, make_segment(run, run, 1)], 1, "starts at step 1, but the run stands at step 0")


def test_read_chain_refuses_steps_beyond_the_run(make_run: Make, make_segment: Make) -> None:
    run = make_run(ORIGIN, steps=7)
    refused([run, make_segment(run, run, stop_step=8)], 1, "stops at step 8, but the run has 7 steps")


def test_read_chain_refuses_a_state_out_of_nowhere(make_entries: MakeMany, make_segment: Make) -> None:
    entries = make_entries(ORIGIN, 1)
    segment = make_segment(entries[0], entries[1], 1, state_in=hash_blob(b"made up"))
    refused([*entries, segment], 2, "starts from state .* but step 1 was reached with")


@pytest.mark.parametrize(("stop", "accepted"), [(1, False), (2, True), (3, False)])
def test_read_chain_wants_a_verdict_to_end_in_the_segment_it_names(
    stop: int, accepted: bool, make_entries: MakeMany, make_verdict: Make
) -> None:
    entries = make_entries(ORIGIN, 3)
    verdict = make_verdict(ORIGIN, entry_address(entries[0]), entry_address(entries[2]), 0, stop)
    if accepted:
        assert len(read_chain([*entries, verdict], entry_address(entries[0])).verdicts) == 1
    else:
        refused([*entries, verdict], 4, f"stops at step {stop}, outside the last segment it checked")


def test_read_chain_refuses_a_verdict_on_a_segment_it_does_not_have(make_entries: MakeMany, make_verdict: Make) -> None:
    entries = make_entries(ORIGIN, 1)
    run = entry_address(entries[0])
    refused([*entries, make_verdict(ORIGIN, run, run, 0, 1)], 2, "which is not in this run")


def test_check_chain_refuses_a_chain_put_together_otherwise(make_entries: MakeMany, make_verdict: Make) -> None:
    entries = make_entries(ORIGIN, 3)
    run = entry_address(entries[0])
    chain = read_chain([*entries, make_verdict(ORIGIN, run, entry_address(entries[3]), 0, 3)], run)
    segments = chain.segments
    assert isinstance(chain.run.body, RunBody)
    for changed in [
        replace(chain, run_address=hash_blob(b"x")),
        replace(chain, run=entries[1]),
        replace(chain, body=replace(chain.run.body, steps=4)),
        replace(chain, segments=segments[1:]),
        replace(chain, segments=(segments[0], segments[2])),
        replace(chain, segments=segments[:2]),
        replace(chain, segments=(replace(segments[0], address=run), *segments[1:])),
        replace(chain, segments=(replace(segments[0], body=segments[1].body), *segments[1:])),
        replace(chain, segments=(*segments, segments[2])),
        replace(chain, run=replace(chain.run, signature=bytes(64))),
    ]:
        with pytest.raises(ChainError):
            check_chain(changed)
