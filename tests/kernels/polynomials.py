"""Polynomials that replace functions on an interval: fitted at the Chebyshev nodes, printed as hexadecimal floats."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from mpmath import mp, mpf

BITS: Final = 500
_SAMPLES: Final = 400

Real = Any  # mpmath has no types


@dataclass(frozen=True, slots=True)
class Polynomial:
    """A function on [low, high] and the number of terms of the polynomial that replaces it."""

    name: str
    function: Callable[[Real], Real]
    low: Real
    high: Real
    terms: int


def coefficients_of(polynomial: Polynomial) -> list[float]:
    """Return the coefficients, constant first, of the polynomial equal to the function at the Chebyshev nodes."""
    middle, radius = (polynomial.high + polynomial.low) / 2, (polynomial.high - polynomial.low) / 2
    terms = polynomial.terms
    nodes = [middle + radius * mp.cos(mp.pi * (2 * i + 1) / (2 * terms)) for i in range(terms)]
    powers = mp.matrix(terms, terms)
    for i, node in enumerate(nodes):
        for j in range(terms):
            powers[i, j] = node**j
    exact = mp.lu_solve(powers, mp.matrix([polynomial.function(node) for node in nodes]))
    return [float(c) for c in exact]


def largest_error(polynomial: Polynomial, coefficients: list[float]) -> Real:
    """Return the largest |P - function| at evenly spaced points."""
    step = (polynomial.high - polynomial.low) / _SAMPLES
    points = [polynomial.low + step * (i + mpf(0.5)) for i in range(_SAMPLES)]
    values = [mp.polyval([mpf(c) for c in reversed(coefficients)], t) for t in points]
    return max(abs(value - polynomial.function(t)) for value, t in zip(values, points, strict=True))


def print_polynomials(polynomials: list[Polynomial]) -> None:
    """Print each polynomial, constant term first, with log2 of its largest error."""
    for polynomial in polynomials:
        coefficients = coefficients_of(polynomial)
        error = mp.log(largest_error(polynomial, coefficients), 2)
        print(f"// {polynomial.name}: |P - function| < 2^{float(error):.1f}")
        for power, coefficient in enumerate(coefficients):
            print(f"//   {power:2}: {coefficient.hex()}")


def print_parts(name: str, value: Real, widths: tuple[int, ...]) -> None:
    """Print a constant as a sum of f64 with so many bits each."""
    parts = []
    for width in widths:
        if value == 0:
            break
        scale = mpf(2) ** (width - 1 - mp.floor(mp.log(abs(value), 2)))
        part = mp.nint(value * scale) / scale
        parts.append(float(part).hex())
        value -= part
    print(f"{name} = {' + '.join(parts)}")


def of_square(function: Callable[[Real], Real]) -> Callable[[Real], Real]:
    """Return the function of z = t^2 for a function that is even in t."""
    return lambda z: function(mp.sqrt(z))
