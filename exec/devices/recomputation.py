"""Which launches are computed twice, and how probable it is that a fault is missed all the same."""

from __future__ import annotations

import math
import os
import random
from dataclasses import dataclass
from typing import Final

from samebits.exec.errors import RunError

DEFAULT_FAULT_RATE: Final = 1e-4  # wrong launches per launch


@dataclass(frozen=True, slots=True)
class RecomputedLaunches:
    """How many launches were computed twice. No fault was found, or there would be an error instead."""

    fraction: float  # with which each launch was chosen
    launches: int  # in all
    recomputed: int

    def missed_fault_probability(self, fault_rate: float) -> float:
        """Return how probable it was that a launch would go wrong and none of those be found."""
        return missed_fault_probability(fault_rate, self.fraction, self.launches)


class Recomputation:
    """Chooses each launch with the same probability, independently of all others, and counts."""

    def __init__(self, fraction: float, seed: int | None = None) -> None:
        """Make a chooser. fraction: 0 < fraction <= 1; seed: of the choice, None: one that nobody knows."""
        self._fraction = fraction
        self._random = random.Random(os.urandom(32) if seed is None else seed)  # noqa: S311  no secret, no adversary
        self._launches = self._recomputed = 0

    def chooses(self) -> bool:
        """Count a launch and say whether it is to be computed twice."""
        chosen = self._random.random() < self._fraction
        self._launches += 1
        self._recomputed += chosen
        return chosen

    def counts(self) -> RecomputedLaunches:
        """Return the counts so far."""
        return RecomputedLaunches(self._fraction, self._launches, self._recomputed)


def make_recomputation(fraction: float) -> Recomputation | None:
    """Return what chooses a fraction of the launches, None for none of them; raises RunError."""
    check_fraction("paranoid", fraction)
    return Recomputation(fraction) if fraction else None


def check_fraction(name: str, value: float) -> None:
    """Raise RunError unless a number is between 0 and 1."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise RunError(f"{name} {value!r} is not a number between 0 and 1")


def missed_fault_probability(fault_rate: float, fraction: float, launches: int) -> float:
    """Return the probability that at least one of so many launches goes wrong, and none that does is computed twice.

    Each goes wrong with probability r = `fault_rate` and is computed twice with probability f = `fraction`, all
    independently; two results of a wrong launch are taken to differ. (1 - r f)^n - (1 - r)^n, without cancellation.
    """
    check_fraction("the fault rate", fault_rate)
    check_fraction("the fraction", fraction)
    unseen = fault_rate * (1 - fraction) / (1 - fault_rate * fraction) if fraction < 1 else 0.0
    if launches == 0 or unseen == 0:
        return 0.0
    none_found = math.exp(launches * math.log1p(-fault_rate * fraction))
    # (1 - r) / (1 - r f) = 1 - unseen
    return none_found * (-math.expm1(launches * math.log1p(-unseen)) if unseen < 1 else 1.0)
