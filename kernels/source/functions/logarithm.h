// log, log2, log1p.   Needs: prelude.h, exponential.h (LN2_HI, LN2_LO, LOG2_E, with_sign_of)
//
// x = 2^k m with sqrt(1/2) <= m < sqrt(2), so log x = k ln 2 + log m. With f = m - 1 and s = f / (2 + f),
// log m = 2 atanh s = f - (f^2/2 - s (f^2/2 + z P(z))), z = s^2: nothing cancels near 1.
// Coefficients: tests/kernels/make_coefficients_exponential.py. A line with bits32 repairs an input, see exponential.h.

#define SQRT_HALF_BITS 0x3FE6A09E667F3BCDul
#define MANTISSA_BITS 0x000FFFFFFFFFFFFFul

// Bits of x > 0 moved so that the exponent field is 1023 + k and the mantissa field counts from m = sqrt(1/2).
FN u64 log_split(f64 x) { return bits64(x) + (0x3FF0000000000000ul - SQRT_HALF_BITS); }

// k: the exponent field becomes the low bits of 2^52 + field.
FN f64 log_exponent(u64 split) { return from_bits64((split >> 52) | 0x4330000000000000ul) - 0x1.00000000003ffp52; }

FN f64 log_mantissa(u64 split) { return from_bits64((split & MANTISSA_BITS) + SQRT_HALF_BITS); }

// log(1 + f) - f + addend for sqrt(1/2) <= 1 + f <= sqrt(2), error below 2^-54 of f.
FN f64 log_tail(f64 f, f64 addend) {
    f64 s = f / (2.0 + f);
    f64 z = s * s;
    f64 p = fma64(z, 0x1.2b584e369c70fp-3, 0x1.39fe601be6228p-3);
    p = fma64(z, p, 0x1.7462b4ad665acp-3);
    p = fma64(z, p, 0x1.c71c62e578334p-3);
    p = fma64(z, p, 0x1.2492492df14f0p-2);
    p = fma64(z, p, 0x1.99999999952e2p-2);
    p = fma64(z, p, 0x1.5555555555558p-1);
    f64 half_square = 0.5 * f * f;
    return fma64(s, fma64(z, p, half_square), addend) - half_square;
}

// y for 0 < x < infinity; else -infinity at 0, infinity at infinity, NaN below 0 and for NaN.
FN f64 log_special(f32 x, f64 y) {
    f64 special = x == 0.0f ? -F64_INF : (bits32(x) == 0x7F800000u ? F64_INF : F64_NAN);
    return bits32(x) - 1u < 0x7F7FFFFFu ? y : special;
}

// log x: k ln 2 + log m, every x, error below 1.5 ulps.
FN f64 log_f64(f32 x) {
    u64 split = log_split((f64)x);
    f64 k = log_exponent(split);
    f64 f = log_mantissa(split) - 1.0;
    f64 y = fma64(k, LN2_HI, f + log_tail(f, k * LN2_LO));
    y = bits32(x) == 0x3C413D3Au ? -0x1.1c2b1efffffffp+2 : y;
    y = bits32(x) == 0x41178FEBu ? 0x1.1fcbcefffffffp+1 : y;
    y = bits32(x) == 0x4C5D65A5u ? 0x1.1e06950000001p+4 : y;
    y = bits32(x) == 0x65D890D3u ? 0x1.a9a3f10000001p+5 : y;
    y = bits32(x) == 0x6F31A8ECu ? 0x1.08b5110000001p+6 : y;
    return log_special(x, y);
}

// log2 x: k + log m / ln 2, every x, error below 2 ulps.
FN f64 log2_f64(f32 x) {
    u64 split = log_split((f64)x);
    f64 f = log_mantissa(split) - 1.0;
    f64 y = fma64(f + log_tail(f, 0.0), LOG2_E, log_exponent(split));
    return log_special(x, y);
}

// log(1 + x): 1 + x is exact or, if it is large, its error is negligible; f = x near 0. Every x, error below 1.5 ulps.
FN f64 log1p_f64(f32 x) {
    u64 split = log_split(1.0 + x);
    f64 k = log_exponent(split);
    f64 f = k == 0.0 ? (f64)x : log_mantissa(split) - 1.0;
    f64 y = with_sign_of(fma64(k, LN2_HI, f + log_tail(f, k * LN2_LO)), (f64)x);
    y = bits32(x) == 0x35400003u ? 0x1.7ffffd0000001p-21 : y;
    y = bits32(x) == 0xB53FFFFDu ? -0x1.800002fffffffp-21 : y;
    y = bits32(x) == 0x3710001Bu ? 0x1.1fffe50000001p-17 : y;
    y = bits32(x) == 0xB70FFFE5u ? -0x1.20001afffffffp-17 : y;
    y = bits32(x) == 0xBB0EC8C4u ? -0x1.1de1490000001p-9 : y;
    y = bits32(x) == 0x3EFD81ADu ? 0x1.9bddc2fffffffp-2 : y;
    y = bits32(x) == 0x41078FEBu ? 0x1.1fcbcefffffffp+1 : y;
    y = bits32(x) == 0x65D890D3u ? 0x1.a9a3f10000001p+5 : y;
    y = bits32(x) == 0x6F31A8ECu ? 0x1.08b5110000001p+6 : y;
    y = x == -1.0f ? -F64_INF : (bits32(x) == 0x7F800000u ? F64_INF : y);
    return x >= -1.0f ? y : F64_NAN;
}
