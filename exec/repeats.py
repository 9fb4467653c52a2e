"""Find what repeats in a sequence of operations: runs that are equal but for the values they work on.

A window is a run of consecutive items. Windows match if their items are equal one by one and their values correspond
one to one: parameterized matching (B. Baker, "Parameterized pattern matching: algorithms and applications", 1996).
An occurrence of a value counts as its distance to the one before, or as new where that one lies before the window;
a rolling hash of these finds the equal windows of a length, and each is then compared item by item.
"""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final, TypeAlias

import numpy as np

_Ints: TypeAlias = "np.ndarray[Any, np.dtype[np.int64]]"
_Words: TypeAlias = "np.ndarray[Any, np.dtype[np.uint64]]"

# About what each costs in a compressed file, in bytes.
ITEM_COST: Final = 3  # an operation, without its operands
CALL_COST: Final = 12  # a call, without its operands
KIND_COST: Final = 60  # a subgraph, mostly its address
NAME_COST: Final = 4  # an input or output of a subgraph

_LENGTH_RATIO: Final = 1.2  # of the lengths that are tried
_PER_LENGTH: Final = 6  # candidates kept of each length
_GROWN: Final = 16  # candidates whose grown length is tried as well
_GROWN_TOGETHER: Final = 4  # windows that decide it
_BASE: Final = 0x9E3779B97F4A7C15  # of the rolling hash, modulo 2^64; odd, so it has an inverse


@dataclass(frozen=True, slots=True)
class Item:
    """An operation on values. Items with one token take and give the same numbers of values, of the same types."""

    token: int
    operands: tuple[int, ...]
    results: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Repeat:
    """Windows that match and do not overlap."""

    starts: tuple[int, ...]  # in order, two or more
    length: int
    outputs: tuple[tuple[int, int], ...]  # (item of the window, result of the item) that one of them is asked for
    saving: int  # bytes, about


@dataclass(frozen=True, slots=True)
class _Candidate:
    saving: int  # estimated
    length: int
    starts: tuple[int, ...]  # may overlap


def find_repeats(items: Sequence[Item], free: Container[int] = ()) -> list[Repeat]:
    """Return repeats that save space if each is stored once and called, the best first; none overlap.

    Every value is the result of at most one item, which stands before its uses. A value that is asked for outside must
    be an operand of an item whose token occurs once. Values that are `free` are there everywhere: a window has them
    without an input.
    """
    windows = Windows(items, free)
    candidates = windows.candidates(_lengths(len(items)))
    best = sorted(candidates, key=_rank)[:_GROWN]
    grown = {length for candidate in best for length in windows.natural_lengths(candidate)}
    candidates += windows.candidates(sorted(grown - set(_lengths(len(items)))))
    repeats: list[Repeat] = []
    taken = bytearray(len(items))
    for candidate in sorted(candidates, key=_rank):  # what saves little now may be part of more the next time
        if repeats and 4 * candidate.saving < repeats[0].saving:
            break
        repeat = windows.check(candidate, taken)
        if repeat is None or repeat.saving <= 0 or 2 * repeat.saving < candidate.saving:
            continue
        for start in repeat.starts:
            taken[start : start + repeat.length] = b"\1" * repeat.length
        repeats.append(repeat)
    return repeats


def _rank(candidate: _Candidate) -> tuple[int, int, tuple[int, ...]]:
    return -candidate.saving, candidate.length, candidate.starts


def _lengths(count: int) -> list[int]:
    lengths, length = [], 2
    while length <= count // 2:
        lengths.append(length)
        length = max(length + 1, int(length * _LENGTH_RATIO))
    return lengths


def _saving(copies: Any, weight: Any, inputs: Any, outputs: Any) -> Any:
    """Return what storing a window once saves: integers or arrays of them."""
    return (copies - 1) * weight - copies * (CALL_COST + inputs) - KIND_COST - NAME_COST * (inputs + outputs)


class Windows:
    """The windows of a sequence of items: where values are defined and used, with the hashes of all that."""

    def __init__(self, items: Sequence[Item], free: Container[int] = ()) -> None:
        self._items, self._free = items, free
        self._weights = np.cumsum([0, *(ITEM_COST + len(item.operands) for item in items)])
        first, uses, definitions = _list_events(items)
        self._last_use = {value: last for value, (_, last) in definitions.items()}
        defined = np.array(list(definitions.values()), np.int64).reshape(-1, 2)
        self._defined, self._used_last = defined[:, 0], defined[:, 1]
        powers, self._inverses = _powers(_BASE, first[-1] + 1), _powers(pow(_BASE, -1, 1 << 64), first[-1] + 1)
        self._first = np.array(first[:-1], np.int64)
        table = np.array(uses, np.int64).reshape(-1, 4)
        event, item, before, distance = table.T
        terms = powers[event] * _scramble(distance)
        tokens = _scramble(np.array([item.token for item in items], np.int64) + (1 << 40)) * powers[self._first]
        self._sums = np.zeros(len(items) + 1, np.uint64)
        np.add.at(self._sums, item + 1, terms)
        self._sums[1:] += tokens
        self._sums = np.cumsum(self._sums, dtype=np.uint64)
        self._item, self._before = item, before
        self._counted = np.array([value not in free for item in items for value in item.operands], np.bool_)
        self._change = powers[event] * _scramble(np.zeros(1, np.int64)) - terms  # of the hash where a use is new
        self._ended = np.zeros(len(items) + 1, np.uint64)
        np.add.at(self._ended, self._item + 1, self._change)
        self._ended_count = np.bincount(self._item[self._counted] + 1, minlength=len(items) + 1)

    def candidates(self, lengths: Sequence[int]) -> list[_Candidate]:
        """Return the groups of equal windows that seem to save most, a few of each length."""
        found: list[_Candidate] = []
        for length in lengths:
            hashes, weight, inputs, outputs = self.measure(length)
            order = np.argsort(hashes, kind="stable")
            ordered = hashes[order]
            edges = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1], [True]]))
            begin, end = edges[:-1], edges[1:]
            repeated = end - begin > 1
            if not repeated.any():
                break  # nor does anything longer repeat
            begin, end = begin[repeated], end[repeated]
            first, last = order[begin], order[end - 1]
            copies = np.minimum(end - begin, 1 + (last - first) // length)
            saving = _saving(copies, weight[first], inputs[first], outputs[first])
            for group in np.lexsort((first, -saving))[:_PER_LENGTH]:
                if saving[group] > 0:
                    starts = tuple(order[begin[group] : end[group]].tolist())
                    found.append(_Candidate(int(saving[group]), length, starts))
        return found

    def measure(self, length: int) -> tuple[_Words, _Ints, _Ints, _Ints]:
        """Return hash, weight, and numbers of inputs and outputs of the windows of a length, by where they start.

        Windows that match have equal hashes; others hardly ever.
        """
        count = len(self._items)
        windows = count - length + 1
        low = np.maximum(np.maximum(self._before, self._item - length) + 1, 0)  # where a use starts to be new
        change = np.zeros(count + 1, np.uint64)
        np.add.at(change, low, self._change)
        hashes = self._sums[length:] - self._sums[:windows] + np.cumsum(change - self._ended)[:windows]
        hashes *= self._inverses[self._first[:windows]]
        inputs = np.cumsum(np.bincount(low[self._counted], minlength=count + 1) - self._ended_count)[:windows]
        low = np.maximum(self._defined - length + 1, 0)
        end = np.minimum(self._defined, self._used_last - length) + 1
        low, end = low[end > low], end[end > low]
        outputs = np.cumsum(np.bincount(low, minlength=count + 1) - np.bincount(end, minlength=count + 1))[:windows]
        return hashes, self._weights[length:] - self._weights[:windows], inputs, outputs

    def natural_lengths(self, candidate: _Candidate) -> set[int]:
        """Return the length to which a candidate's first windows grow together."""
        free = bytearray(len(self._items))
        starts = _apart(candidate, free)[:_GROWN_TOGETHER]
        return {self._grow(starts, candidate.length, free)[1]} if len(starts) > 1 else set()

    def check(self, candidate: _Candidate, taken: bytearray) -> Repeat | None:
        """Return the repeat of a candidate's windows that are not taken and truly match, grown if that is better."""
        starts = _apart(candidate, taken)
        if len(starts) < 2:
            return None
        matching = [starts[0], *(start for start in starts[1:] if self.matches(starts[0], start, candidate.length))]
        if len(matching) < 2:
            return None
        plain = self._repeat(matching, candidate.length)
        grown = self._repeat(*self._grow(matching, candidate.length, taken))
        return grown if grown.saving > plain.saving else plain

    def matches(self, one: int, other: int, length: int) -> bool:
        """Compare two windows, by where they start, item by item and value by value."""
        return _Pairing().extend(self._items[one : one + length], self._items[other : other + length])

    def _grow(self, starts: list[int], length: int, taken: bytearray) -> tuple[list[int], int]:
        """Return windows that match, made longer at both ends while all match and none overlap."""
        items, pairings = self._items, [_Pairing() for _ in starts[1:]]
        for pairing, start in zip(pairings, starts[1:], strict=True):
            pairing.extend(items[starts[0] : starts[0] + length], items[start : start + length])

        def fits(places: list[int]) -> bool:
            if places[0] < 0 or places[-1] >= len(items) or any(taken[place] for place in places):
                return False
            model = items[places[0] : places[0] + 1]
            return all(p.extend(model, items[at : at + 1]) for p, at in zip(pairings, places[1:], strict=True))

        def room() -> bool:
            return all(one + length < other for one, other in pairwise(starts))

        while room() and fits([start + length for start in starts]):
            length += 1
        while room() and fits([start - 1 for start in starts]):
            starts, length = [start - 1 for start in starts], length + 1
        return starts, length

    def _repeat(self, starts: list[int], length: int) -> Repeat:
        outputs = set()
        for start in starts:
            for offset, item in enumerate(self._items[start : start + length]):
                for slot, value in enumerate(item.results):
                    if self._last_use[value] >= start + length:
                        outputs.add((offset, slot))
        outside = outside_values(self._items[starts[0] : starts[0] + length])
        inputs = sum(value not in self._free for value in outside)
        weight = int(self._weights[starts[0] + length] - self._weights[starts[0]])
        saving = _saving(len(starts), weight, inputs, len(outputs))
        return Repeat(tuple(starts), length, tuple(sorted(outputs)), int(saving))


class _Pairing:
    """The values of one window and of another, each paired with its counterpart."""

    def __init__(self) -> None:
        self._there: dict[int, int] = {}
        self._back: dict[int, int] = {}

    def extend(self, items: Sequence[Item], others: Sequence[Item]) -> bool:
        """Pair the values of items that come before or after the others so far; False if they do not match."""
        for item, other in zip(items, others, strict=True):
            if item.token != other.token:
                return False
            for one, two in zip(item.operands + item.results, other.operands + other.results, strict=True):
                if self._there.setdefault(one, two) != two or self._back.setdefault(two, one) != one:
                    return False
        return True


def outside_values(window: Sequence[Item]) -> list[int]:
    """Return the values that a window uses and does not define, in the order of their first use."""
    inside = {value for item in window for value in item.results}
    return list(dict.fromkeys(value for item in window for value in item.operands if value not in inside))


def _apart(candidate: _Candidate, taken: bytearray) -> list[int]:
    """Return the windows of a candidate that are not taken and do not overlap, the first ones first."""
    starts: list[int] = []
    for start in candidate.starts:
        apart = not starts or start >= starts[-1] + candidate.length
        if apart and taken.find(1, start, start + candidate.length) < 0:
            starts.append(start)
    return starts


def _list_events(items: Sequence[Item]) -> tuple[list[int], list[list[int]], dict[int, list[int]]]:
    """Number every item and occurrence of a value.

    Returns the number of each item and of the end; of each use its number, its item, the item of the occurrence
    before it (or -1) and the distance to that in numbers (or 0); and of each value where it is defined and last used.
    """
    first, uses, definitions = [0], [], dict[int, list[int]]()
    latest: dict[int, tuple[int, int]] = {}
    for place, item in enumerate(items):
        event = first[-1]
        for value in item.operands:
            event += 1
            before, number = latest.get(value, (-1, event))
            uses.append([event, place, before, event - number])
            latest[value] = (place, event)
            if value in definitions:
                definitions[value][1] = place
        for value in item.results:
            event += 1
            definitions[value] = [place, place]
            latest[value] = (place, event)
        first.append(event + 1)
    return first, uses, definitions


def _powers(base: int, count: int) -> _Words:
    factors = np.full(count, base, np.uint64)
    factors[0] = 1
    return np.cumprod(factors, dtype=np.uint64)


def _scramble(numbers: _Ints) -> _Words:
    """Spread numbers over 64 bits (the finalizer of SplitMix64; Steele, Lea and Flood, OOPSLA 2014)."""
    z = numbers.astype(np.uint64) + np.uint64(_BASE)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))
