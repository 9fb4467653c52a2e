"""What a process remembers of signatures: never a bad one, and no more than it is allowed to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from samebits.ledger import checked as checked_module
from samebits.ledger.checked import CheckedSignatures
from samebits.ledger.entry import Entry, check_entry_signature, entry_address
from samebits.ledger.errors import ChainError
from samebits.ledger.log import Log


def test_a_log_that_is_appended_to_for_long_remembers_a_bounded_number_of_entries(
    log: Log, make_entries: Callable[..., list[Entry]]
) -> None:
    log._checked = CheckedSignatures(4)
    entries = make_entries(log.origin, 20)
    for entry in entries:
        log.append([entry])
    assert len(log._checked) == 4
    assert log.chain(entry_address(entries[0])).next_step == 20


def test_a_signature_is_checked_once_and_again_when_it_was_forgotten(
    make_run: Callable[..., Entry], monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[Entry] = []

    def check(entry: Entry) -> None:
        done.append(entry)
        check_entry_signature(entry)

    monkeypatch.setattr(checked_module, "check_entry_signature", check)
    checked, entries = CheckedSignatures(2), [make_run("log.example", nonce) for nonce in range(3)]
    for place in (0, 1, 0, 1, 2, 0):
        checked.check(place, entry_address(entries[place]), entries[place])
    assert done == [entries[place] for place in (0, 1, 2, 0)]
    forged = replace(entries[0], signature=bytes([1]) * 64)
    for _ in range(2):
        with pytest.raises(ChainError, match=r"entry 7 .* does not verify"):
            checked.check(7, entry_address(forged), forged)
