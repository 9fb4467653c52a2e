// exp, exp2, expm1, logistic, tanh, sinh, cosh.   Needs: prelude.h
//
// x = k ln 2 + r with a whole k and |r| <= ln(2)/2, so e^x = 2^k e^r; polynomials in r, exact scaling by 2^k. Adding
// ROUND_TO_WHOLE leaves k in the low bits of the sum, from which 2^k is made by a shift. Errors are in ulps of f64.
// Coefficients: tests/kernels/make_coefficients_exponential.py. A line with bits32 repairs an input whose exact result
// is so close to a rounding boundary that the f64 error would cross it; these are all there are (exhaustive check).

#define ROUND_TO_WHOLE 0x1.8p52
#define LN2_HI 0x1.62e42fefa39efp-1
#define LN2_LO 0x1.abc9e3b39803fp-56
#define LOG2_E 0x1.71547652b82fep+0

// low <= x <= high or NaN, as f64.
FN f64 clamp_to_f64(f32 x, f32 low, f32 high) {
    f32 c = x < low ? low : x;
    return c > high ? high : c;
}

// 2^k for the whole number that biased = k + ROUND_TO_WHOLE holds, |k| <= 1022.
FN f64 power_of_two(f64 biased) { return from_bits64((bits64(biased) << 52) + 0x3FF0000000000000ul); }

// 2^-k for the same.
FN f64 power_of_minus_two(f64 biased) { return from_bits64(0x3FF0000000000000ul - (bits64(biased) << 52)); }

// y with the sign of x, where both have it already, if neither is 0.
FN f64 with_sign_of(f64 y, f64 x) { return from_bits64(bits64(y) | (bits64(x) & 0x8000000000000000ul)); }

// k + ROUND_TO_WHOLE for the k nearest to x / ln 2.
FN f64 exp_biased_quotient(f64 x) { return fma64(x, LOG2_E, ROUND_TO_WHOLE); }

// x - k ln 2, error below 2^-55.
FN f64 exp_remainder(f64 x, f64 biased) {
    f64 k = biased - ROUND_TO_WHOLE;
    return fma64(k, -LN2_LO, fma64(k, -LN2_HI, x));
}

// e^r - 1 for |r| <= ln(2)/2: r + r^2 P(r), relative error below 2^-52.5.
FN f64 expm1_near_zero(f64 r) {
    f64 p = fma64(r, 0x1.af389eea54156p-26, 0x1.28917c9f3a495p-22);
    p = fma64(r, p, 0x1.71de0db2eb873p-19);
    p = fma64(r, p, 0x1.a019b914881bap-16);
    p = fma64(r, p, 0x1.a01a01a7c2f2cp-13);
    p = fma64(r, p, 0x1.6c16c17889f3cp-10);
    p = fma64(r, p, 0x1.11111111109b5p-7);
    p = fma64(r, p, 0x1.5555555553d68p-5);
    p = fma64(r, p, 0x1.5555555555556p-3);
    p = fma64(r, p, 0x1.0000000000001p-1);
    return fma64(r * r, p, r);
}

// 2^f - 1 for |f| <= 0.5: f P(f), relative error below 2^-52.
FN f64 exp2m1_near_zero(f64 f) {
    f64 p = fma64(f, 0x1.e9d3fe3952179p-32, 0x1.e6063f7217bc6p-28);
    p = fma64(f, p, 0x1.b524fae627834p-24);
    p = fma64(f, p, 0x1.62bfd47773353p-20);
    p = fma64(f, p, 0x1.ffcbfc670dcd4p-17);
    p = fma64(f, p, 0x1.430913096fd9fp-13);
    p = fma64(f, p, 0x1.5d87fe78a5276p-10);
    p = fma64(f, p, 0x1.3b2ab6fba1ddap-7);
    p = fma64(f, p, 0x1.c6b08d704a0c2p-5);
    p = fma64(f, p, 0x1.ebfbdff82c598p-3);
    p = fma64(f, p, 0x1.62e42fefa39efp-1);
    return f * p;
}

// e^x for |x| <= 700 or NaN, error below 1 ulp.
FN f64 exp_of_f64(f64 x) {
    f64 biased = exp_biased_quotient(x);
    f64 scale = power_of_two(biased);
    return fma64(scale, expm1_near_zero(exp_remainder(x, biased)), scale);
}

// e^x - 1 for |x| <= 700 or NaN but +0 for -0, error below 2 ulps.
FN f64 expm1_of_f64(f64 x) {
    f64 biased = exp_biased_quotient(x);
    f64 scale = power_of_two(biased);
    return fma64(scale, expm1_near_zero(exp_remainder(x, biased)), scale - 1.0);
}

// e^x: 2^k e^r, every x, error below 1 ulp; beyond the clamp every type rounds to 0 or infinity.
FN f64 exp_f64(f32 x) {
    return exp_of_f64(clamp_to_f64(x, -110.0f, 90.0f));
}

// 2^x: 2^k 2^f with x = k + f, every x, error below 1 ulp.
FN f64 exp2_f64(f32 x) {
    f64 a = clamp_to_f64(x, -155.0f, 130.0f);
    f64 biased = a + ROUND_TO_WHOLE;
    f64 scale = power_of_two(biased);
    f64 y = fma64(scale, exp2m1_near_zero(a - (biased - ROUND_TO_WHOLE)), scale);
    y = bits32(x) == 0x3B429D37u ? 0x1.0087090000001p+0 : y;
    y = bits32(x) == 0xBCF3A937u ? 0x1.f58d610000001p-1 : y;
    return y;
}

// e^x - 1: 2^k (e^r - 1) + (2^k - 1), every x, error below 2 ulps.
FN f64 expm1_f64(f32 x) {
    f64 a = clamp_to_f64(x, -110.0f, 90.0f);
    return with_sign_of(expm1_of_f64(a), a);
}

// 1 / (1 + e^-x), every x, error below 2 ulps.
FN f64 logistic_f64(f32 x) {
    f64 a = clamp_to_f64(x, -110.0f, 90.0f);
    f64 y = 1.0 / (1.0 + exp_of_f64(-a));
    // 1/2 + x/4 - x^3/48 + ...: where x/4 makes a tie, the cubic term decides, though f64 can't hold it. So x/4 is
    // made smaller by 2^-25 of itself, which passes no other midpoint.
    y = (bits32(x) & 0x7FFFFFFFu) < 0x38000000u ? fma64(a, 0x0.ffffff8p-2, 0.5) : y;
    y = bits32(x) == 0xBA928601u ? 0x1.ffb6bd0000001p-2 : y;
    return y;
}

// tanh x: e / (e + 2) with e = e^2x - 1, every x, error below 3 ulps; 1 - 2^-57 beyond the clamp.
FN f64 tanh_f64(f32 x) {
    f64 a = clamp_to_f64(x, -20.0f, 20.0f);
    f64 e = expm1_of_f64(a + a);
    return with_sign_of(e / (e + 2.0), a);
}

// cosh(r) - 1 for |r| <= ln(2)/2 from z = r^2: z P(z), relative error below 2^-52.
FN f64 coshm1_near_zero(f64 z) {
    f64 p = fma64(z, 0x1.28917c9f50be5p-22, 0x1.a019b91488035p-16);
    p = fma64(z, p, 0x1.6c16c17889f3dp-10);
    p = fma64(z, p, 0x1.5555555553d68p-5);
    return z * fma64(z, p, 0x1.0000000000001p-1);
}

// sinh(r) for |r| <= ln(2)/2 and z = r^2: r + r z P(z), relative error below 2^-52.5.
FN f64 sinh_near_zero(f64 r, f64 z) {
    f64 p = fma64(z, 0x1.af389eea6fb75p-26, 0x1.71de0db2eb785p-19);
    p = fma64(z, p, 0x1.a01a01a7c2f2cp-13);
    p = fma64(z, p, 0x1.11111111109b5p-7);
    p = fma64(z, p, 0x1.5555555555556p-3);
    return fma64(r * z, p, r);
}

// sinh x: sinh(k ln 2) cosh r + cosh(k ln 2) sinh r, every x, error below 2 ulps.
FN f64 sinh_f64(f32 x) {
    f64 a = clamp_to_f64(x, -95.0f, 95.0f);
    f64 biased = exp_biased_quotient(a);
    f64 r = exp_remainder(a, biased);
    f64 up = 0.5 * power_of_two(biased);
    f64 down = 0.5 * power_of_minus_two(biased);
    f64 y = (up - down) + fma64(up - down, coshm1_near_zero(r * r), (up + down) * sinh_near_zero(r, r * r));
    y = with_sign_of(y, a);
    y = bits32(x) == 0x3A1285FFu ? 0x1.250bfefffffffp-11 : y;
    y = bits32(x) == 0xBA1285FFu ? -0x1.250bfefffffffp-11 : y;
    return y;
}

// cosh x: cosh(k ln 2) cosh r + sinh(k ln 2) sinh r, every x, error below 2 ulps.
FN f64 cosh_f64(f32 x) {
    f64 a = clamp_to_f64(x, -95.0f, 95.0f);
    f64 biased = exp_biased_quotient(a);
    f64 r = exp_remainder(a, biased);
    f64 up = 0.5 * power_of_two(biased);
    f64 down = 0.5 * power_of_minus_two(biased);
    f64 y = (up + down) + fma64(up + down, coshm1_near_zero(r * r), (up - down) * sinh_near_zero(r, r * r));
    return y;
}
