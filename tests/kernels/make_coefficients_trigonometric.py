"""Print the polynomials and constants of kernels/source/functions/{trigonometric,inverse_trigonometric}.h as C.

A polynomial interpolates its function at Chebyshev nodes, which is within a factor of about 3 of minimax. Run:
python -m tests.kernels.make_coefficients_trigonometric
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from mpmath import mp, mpf

BITS: Final = 500
_SAMPLES: Final = 400
_LEAST: Final = mpf(2) ** -40  # stands for 0 where a function is a quotient of zeros there

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


def _of_square(function: Callable[[Real], Real]) -> Callable[[Real], Real]:
    """Return the function of z = t^2 for a function that is even in t."""
    return lambda z: function(mp.sqrt(z))


def _growth(function: Callable[[Real], Real]) -> Callable[[Real], Real]:
    """Return P of function(t) = t + t z P(z), z = t^2."""
    return _of_square(lambda t: (function(t) / t - 1) / t**2)


def _polynomials() -> list[Polynomial]:
    slack = 1 + mpf(2) ** -12  # a reduced argument may pass the middle by a little
    half_turn, quarter_turn = (mp.pi / 2 * slack) ** 2, (mp.pi / 4 * slack) ** 2
    tangent = (mp.tan(mp.pi / 8) * slack) ** 2
    cosine = _of_square(lambda t: (mp.cos(t) - 1 + t**2 / 2) / t**4)
    return [
        Polynomial("sin(r) = r + r z P(z), z = r^2, |r| <= pi/2", _growth(mp.sin), _LEAST, half_turn, 10),
        Polynomial("sin(r) = r + r z P(z), z = r^2, |r| <= pi/4", _growth(mp.sin), _LEAST, quarter_turn, 7),
        Polynomial("cos(r) = 1 - z/2 + z^2 P(z), |r| <= pi/4", cosine, _LEAST, quarter_turn, 7),
        Polynomial("atan(t) = t + t z P(z), z = t^2, |t| <= tan(pi/8)", _growth(mp.atan), _LEAST, tangent, 11),
        Polynomial("asin(s) = s + s z P(z), z = s^2 <= 1/4", _growth(mp.asin), _LEAST, mpf(0.25), 13),
    ]


def _print_words_of_two_over_pi() -> None:
    bits = int(mp.floor(2 / mp.pi * mpf(2) ** 256))
    print("first 256 bits of 2/pi =", *(f"0x{bits >> shift & 0xFFFFFFFF:08x}" for shift in range(224, -1, -32)))


def main() -> None:
    """Print each polynomial and each constant."""
    mp.prec = BITS
    print_polynomials(_polynomials())
    print_parts("pi", mp.pi, (35, 53, 53))
    print_parts("pi/2", mp.pi / 2, (35, 35, 53))
    print_parts("pi/2", mp.pi / 2, (53, 53))
    print_parts("1/pi", 1 / mp.pi, (53,))
    print_parts("2/pi", 2 / mp.pi, (53,))
    _print_words_of_two_over_pi()
    for k in range(28):
        print_parts(f"1/{k}!", 1 / mp.factorial(k), (53, 53))


if __name__ == "__main__":
    main()
