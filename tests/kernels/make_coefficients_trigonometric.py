"""Print the polynomials and constants of kernels/source/functions/{trigonometric,inverse_trigonometric}.h as C.

A polynomial interpolates its function at Chebyshev nodes, which is within a factor of about 3 of minimax. Run:
python -m tests.kernels.make_coefficients_trigonometric
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from mpmath import mp, mpf

from tests.kernels.polynomials import BITS, Polynomial, Real, of_square, print_parts, print_polynomials

_LEAST: Final = mpf(2) ** -40  # stands for 0 where a function is a quotient of zeros there


def _growth(function: Callable[[Real], Real]) -> Callable[[Real], Real]:
    """Return P of function(t) = t + t z P(z), z = t^2."""
    return of_square(lambda t: (function(t) / t - 1) / t**2)


def _polynomials() -> list[Polynomial]:
    slack = 1 + mpf(2) ** -12  # a reduced argument may pass the middle by a little
    half_turn, quarter_turn = (mp.pi / 2 * slack) ** 2, (mp.pi / 4 * slack) ** 2
    tangent = (mp.tan(mp.pi / 8) * slack) ** 2
    cosine = of_square(lambda t: (mp.cos(t) - 1 + t**2 / 2) / t**4)
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
