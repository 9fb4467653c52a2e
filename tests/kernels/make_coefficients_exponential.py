"""Print the polynomials and constants of kernels/source/functions/{exponential,logarithm,power}.h as C.

Each polynomial interpolates its function at Chebyshev nodes, which is within a factor of about 3 of minimax. Run:
python -m tests.kernels.make_coefficients_exponential
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from mpmath import mp, mpf

_BITS: Final = 400
_DEPTH: Final = 8  # the error is measured at 2^8 points, 0 not among them

Real = Any  # mpmath has no types


@dataclass(frozen=True, slots=True)
class Polynomial:
    """A function on [low, high] to be replaced by the polynomial of so many terms."""

    name: str
    function: Callable[[Real], Real]
    low: Real
    high: Real
    terms: int


def _even(function: Callable[[Real], Real]) -> Callable[[Real], Real]:
    """Return the function of z = t^2 for a function that is even in t."""
    return lambda z: function(mp.sqrt(z))


def _polynomials() -> list[Polynomial]:
    half = mp.log(2) / 2 * (1 + mpf(2) ** -20)  # a reduced argument may pass the middle by a rounding
    squared = half**2
    least = mpf(2) ** -30  # the functions below are quotients of zeros at 0
    s = (mp.sqrt(2) - 1) / (mp.sqrt(2) + 1)
    s_squared = (s * (1 + mpf(2) ** -20)) ** 2
    return [
        Polynomial("expm1(r) = r + r^2 P(r)", lambda r: (mp.expm1(r) - r) / r**2, -half, half, 10),
        Polynomial("2^f = 1 + f P(f)", lambda f: mp.expm1(f * mp.log(2)) / f, mpf(-0.5), mpf(0.5), 11),
        Polynomial("cosh(r) = 1 + z P(z), z = r^2", _even(lambda r: (mp.cosh(r) - 1) / r**2), least, squared, 5),
        Polynomial("sinh(r) = r + r z P(z), z = r^2", _even(lambda r: (mp.sinh(r) / r - 1) / r**2), least, squared, 5),
        Polynomial(
            "2 atanh(s) = 2s + s z P(z)", _even(lambda s: (2 * mp.atanh(s) / s - 2) / s**2), least, s_squared, 7
        ),
    ]


def _coefficients(polynomial: Polynomial) -> list[Real]:
    middle, radius = (polynomial.high + polynomial.low) / 2, (polynomial.high - polynomial.low) / 2
    n = polynomial.terms
    nodes = [middle + radius * mp.cos(mp.pi * (2 * i + 1) / (2 * n)) for i in range(n)]
    powers = mp.matrix(n, n)
    for i, node in enumerate(nodes):
        for j in range(n):
            powers[i, j] = node**j
    return list(mp.lu_solve(powers, mp.matrix([polynomial.function(node) for node in nodes])))


def _largest_error(polynomial: Polynomial, coefficients: list[Real]) -> Real:
    """Return the largest |P - function| with rounded coefficients."""
    count = 2**_DEPTH
    step = (polynomial.high - polynomial.low) / count
    points = [polynomial.low + step * (i + mpf(0.5)) for i in range(count)]
    rounded = [mpf(float(c)) for c in reversed(coefficients)]
    return max(abs(mp.polyval(rounded, t) - polynomial.function(t)) for t in points)


def _pair(name: str, value: Real) -> str:
    high = float(value)
    return f"{name} = {high.hex()} + {float(value - mpf(high)).hex()}"


def main() -> None:
    """Print each polynomial, lowest power first, and each constant as a sum of two f64."""
    mp.prec = _BITS
    for polynomial in _polynomials():
        coefficients = _coefficients(polynomial)
        error = mp.log(_largest_error(polynomial, coefficients), 2)
        print(f"// {polynomial.name}: |P - function| < 2^{float(error):.1f}")
        for power, coefficient in enumerate(coefficients):
            print(f"//   {power:2}: {float(coefficient).hex()}")
    print(_pair("ln 2", mp.log(2)))
    print(_pair("log2 e", 1 / mp.log(2)))
    print(_pair("2 log2 e", 2 / mp.log(2)))


if __name__ == "__main__":
    main()
