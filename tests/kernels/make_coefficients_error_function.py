"""Print the polynomials and constants of kernels/source/functions/error_function.h as C.

Run: python -m tests.kernels.make_coefficients_error_function
"""

from __future__ import annotations

from typing import Final

from mpmath import mp, mpf

from tests.kernels.polynomials import BITS, Polynomial, Real, print_parts, print_polynomials

_ERFC_MIDDLE: Final = mpf(3)
_ERF_MIDDLE: Final = mpf(7.75)  # half of (63/16)^2, rounded
_ERF_END: Final = mpf(0.96875)  # u at x = 63/16, roughly


def _erf_slope(u: Real) -> Real:
    """Return (erf(x) / x - 2/sqrt(pi)) / x^2 for u = x^2 / 8 - 31/32."""
    z = 8 * u + _ERF_MIDDLE
    x = mp.sqrt(z)
    return (mp.erf(x) / x - 2 / mp.sqrt(mp.pi)) / z


def _erfc_place(x: Real) -> Real:
    return (x - _ERFC_MIDDLE) / (x + _ERFC_MIDDLE)


def _erfcx(u: Real) -> Real:
    """Return exp(x^2) erfc(x) for u = (x - 3) / (x + 3)."""
    x = _ERFC_MIDDLE * (1 + u) / (1 - u)
    return mp.exp(x**2) * mp.erfc(x)


def _exp_growth(r: Real) -> Real:
    return (mp.expm1(r) - r) / r**2 if r else mpf(0.5)


def main() -> None:
    """Print each polynomial, constant term first, and each constant."""
    mp.prec = BITS
    half_ln2 = mp.log(2) / 2 * (1 + mpf(2) ** -20)
    polynomials = [
        Polynomial("(erf(x)/x - 2/sqrt(pi)) / x^2, u = x^2/8 - 31/32", _erf_slope, -_ERF_END, _ERF_END, 26),
        Polynomial("exp(x^2) erfc(x), u = (x - 3)/(x + 3)", _erfcx, mpf(-1), _erfc_place(mpf(10.25)), 22),
        Polynomial("exp(r) = 1 + r + r^2 P(r)", _exp_growth, -half_ln2, half_ln2, 10),
    ]
    print_polynomials(polynomials)
    print_parts("2/sqrt(pi)", 2 / mp.sqrt(mp.pi), (53, 53))
    print_parts("ln 2", mp.log(2), (40, 53))
    print_parts("log2 e", 1 / mp.log(2), (53,))


if __name__ == "__main__":
    main()
