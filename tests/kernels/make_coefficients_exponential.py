"""Print the polynomials and constants of kernels/source/functions/{exponential,logarithm,power}.h as C.

Each polynomial interpolates its function at Chebyshev nodes, which is within a factor of about 3 of minimax. Run:
python -m tests.kernels.make_coefficients_exponential
"""

from __future__ import annotations

from mpmath import mp, mpf

from tests.kernels.polynomials import BITS, Polynomial, of_square, print_parts, print_polynomials


def _polynomials() -> list[Polynomial]:
    half = mp.log(2) / 2 * (1 + mpf(2) ** -20)  # a reduced argument may pass the middle by a rounding
    squared = half**2
    least = mpf(2) ** -30  # the functions below are quotients of zeros at 0
    s = (mp.sqrt(2) - 1) / (mp.sqrt(2) + 1)
    s_squared = (s * (1 + mpf(2) ** -20)) ** 2
    return [
        Polynomial("expm1(r) = r + r^2 P(r)", lambda r: (mp.expm1(r) - r) / r**2, -half, half, 10),
        Polynomial("2^f = 1 + f P(f)", lambda f: mp.expm1(f * mp.log(2)) / f, mpf(-0.5), mpf(0.5), 11),
        Polynomial("cosh(r) = 1 + z P(z), z = r^2", of_square(lambda r: (mp.cosh(r) - 1) / r**2), least, squared, 5),
        Polynomial(
            "sinh(r) = r + r z P(z), z = r^2", of_square(lambda r: (mp.sinh(r) / r - 1) / r**2), least, squared, 5
        ),
        Polynomial(
            "2 atanh(s) = 2s + s z P(z)", of_square(lambda s: (2 * mp.atanh(s) / s - 2) / s**2), least, s_squared, 7
        ),
    ]


def main() -> None:
    """Print each polynomial, lowest power first, and each constant as a sum of two f64."""
    mp.prec = BITS
    print_polynomials(_polynomials())
    for name, value in (("ln 2", mp.log(2)), ("log2 e", 1 / mp.log(2)), ("2 log2 e", 2 / mp.log(2))):
        print_parts(name, value, (53, 53))


if __name__ == "__main__":
    main()
