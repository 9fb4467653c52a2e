// sin, cos, tan. Needs prelude.h alone.
// Coefficients and constants: tests/kernels/make_coefficients_trigonometric.py.
//
// Up to 2^16 (NAME_f64) x is reduced by Cody and Waite's method: pi has three parts, the first so short that x less n
// times it is exact. Beyond (NAME_rare) by Payne and Hanek's: integers times the bits of 2/pi. A remainder is a
// difference r - excess, where the excess is below 2^-53 and so small that its square does not count.

#define ROUND_BY 0x1.8p52  // t + ROUND_BY has RN(t) in its low bits

// sin(r - excess) for |r| <= pi/2 (1 + 2^-12). excess = +0 keeps the sign of r = -0. Error < 2 ulp.
FN f64 sine_half_turn(f64 r, f64 excess) {
    f64 z = r * r;
    f64 p = -0x1.68cf3bf46498ap-66;
    p = fma64(p, z, 0x1.2f326b1c9a8aap-57);
    p = fma64(p, z, -0x1.952c33833a467p-49);
    p = fma64(p, z, 0x1.ae7f3dfce6e6cp-41);
    p = fma64(p, z, -0x1.6124613a06609p-33);
    p = fma64(p, z, 0x1.ae64567f53a47p-26);
    p = fma64(p, z, -0x1.71de3a556c72cp-19);
    p = fma64(p, z, 0x1.a01a01a01a01ap-13);
    p = fma64(p, z, -0x1.1111111111111p-7);
    p = fma64(p, z, 0x1.5555555555555p-3);
    return r - fma64(r * z, p, excess);
}

// sin(r - excess) for |r| <= pi/4 (1 + 2^-12). Error < 1 ulp.
FN f64 sine_quarter_turn(f64 r, f64 excess) {
    f64 z = r * r;
    f64 p = 0x1.ab17677efca3bp-41;
    p = fma64(p, z, -0x1.61217e535b245p-33);
    p = fma64(p, z, 0x1.ae645411dcf7cp-26);
    p = fma64(p, z, -0x1.71de3a54600fdp-19);
    p = fma64(p, z, 0x1.a01a01a019934p-13);
    p = fma64(p, z, -0x1.1111111111110p-7);
    p = fma64(p, z, 0x1.5555555555555p-3);
    return r - fma64(r * z, p, excess);
}

// cos(r - excess) for |r| <= pi/4 (1 + 2^-12). Error < 1 ulp.
FN f64 cosine_quarter_turn(f64 r, f64 excess) {
    f64 z = r * r;
    f64 p = 0x1.ab77fa76befa7p-45;
    p = fma64(p, z, -0x1.9394b96907e8bp-37);
    p = fma64(p, z, 0x1.1eed8deb304a5p-29);
    p = fma64(p, z, -0x1.27e4fb77129adp-22);
    p = fma64(p, z, 0x1.a01a01a019d08p-16);
    p = fma64(p, z, -0x1.6c16c16c16c16p-10);
    p = fma64(p, z, 0x1.5555555555555p-5);
    f64 square = fma64(z * z, p, r * excess);
    f64 one = fma64(z, -0.5, 1.0);
    return one + (fma64(z, -0.5, 1.0 - one) + square);
}

// x - n pi (n an integer or a half, |n| < 2^15) and its sign: sin of it, times -1 where the low bit of count is set.
FN f64 sine_of_rest(f64 x, f64 n, u64 count) {
    f64 r = fma64(-n, 0x1.68c234c4c6629p-38, fma64(-n, 0x1.921fb5444p+1, x));
    f64 y = sine_half_turn(r, fma64(n, -0x1.1fc8f8cbb5bf7p-92, 0.0));
    return from_bits64(bits64(y) ^ count << 63);
}

FN i32 sin_rare(f32 x) { return (bits32(x) & 0x7FFFFFFFu) > 0x47800000u; }
FN i32 cos_rare(f32 x) { return sin_rare(x); }
FN i32 tan_rare(f32 x) { return sin_rare(x); }

// sin(x) = (-1)^n sin(x - n pi), |x| <= 2^16. Error < 2 ulp of f64; no f32 input is rounded wrongly.
FN f64 sin_f64(f32 x) {
    f64 k = fma64(x, 0x1.45f306dc9c883p-2, ROUND_BY);
    f64 y = sine_of_rest(x, k - ROUND_BY, bits64(k));
    // sin(9830.3984375) = 0x1.63f4bafffffff.a5p-2: just below the middle of two f32, which y has hit
    u64 past = (bits32(x) & 0x7FFFFFFFu) == 0x46199998u;
    return from_bits64(bits64(y) - past);
}

// cos(x) = (-1)^n sin(x - (n - 1/2) pi), |x| <= 2^16. Error < 2 ulp of f64; no f32 input is rounded wrongly.
FN f64 cos_f64(f32 x) {
    f64 k = fma64(x, 0x1.45f306dc9c883p-2, 0.5) + ROUND_BY;
    return sine_of_rest(x, (k - ROUND_BY) - 0.5, bits64(k));
}

// tan(x + q pi/2) from the remainder r - excess, |r| <= pi/4: a tangent for even q, else minus a cotangent.
FN f64 tangent_quarter_turn(f64 r, f64 excess, u64 q) {
    f64 s = sine_quarter_turn(r, excess);
    f64 c = cosine_quarter_turn(r, excess);
    i32 odd = (i32)(q & 1);
    return (odd ? c : s) / (odd ? -s : c);
}

// tan(x) from x - n pi/2, |x| <= 2^16. Error < 2 ulp of f64; no f32 input is rounded wrongly.
// n times the second part of pi/2 is exact, too, so the rounding of r is known and goes into the excess.
FN f64 tan_f64(f32 x) {
    f64 k = fma64(x, 0x1.45f306dc9c883p-1, ROUND_BY);
    f64 n = k - ROUND_BY;
    f64 r1 = fma64(-n, 0x1.921fb5444p+0, x);
    f64 r = fma64(-n, 0x1.68c234c4cp-39, r1);
    f64 excess = fma64(n, 0x1.98a2e03707345p-77, fma64(n, 0x1.68c234c4cp-39, r - r1));
    return tangent_quarter_turn(r, excess, bits64(k));
}

// 32 zero bits, then the first 256 bits of 2/pi
TABLE u32 two_over_pi[9] = {
    0x00000000u, 0xA2F9836Eu, 0x4E441529u, 0xFC2757D1u, 0xF534DDC0u,
    0xDB629599u, 0x3C439041u, 0xFE5163ABu, 0xDEBBC561u,
};

// For a finite |x| >= 2^16: return q mod 4 and set rest[0] - rest[1] = |x| - q pi/2, within 2^-66 of it relative to it.
// Source: M. Payne, R. Hanek, "Radian reduction for trigonometric functions", ACM SIGNUM Newsletter 18 (1983).
FN u32 quarter_turns(f32 x, f64 *rest) {
    u32 exponent = (bits32(x) >> 23 & 0xFFu) - 150 + 30;  // |x| = m 2^(exponent - 30); earlier bits add multiples of 4
    u64 m = (bits32(x) & 0x7FFFFFu) | 0x800000u;
    u32 at = exponent >> 5;
    u32 shift = exponent & 31u;
    u64 words[4];  // |x| 2/pi mod 4, the most significant first, the binary point after two bits
    u64 carry = 0;
    for (i32 j = 3; j >= 0; j--) {
        u64 pair = ((u64)two_over_pi[at + (u32)j] << 32) | two_over_pi[at + (u32)j + 1];
        u64 product = (m * ((pair << shift) >> 32)) + carry;
        words[j] = product & 0xFFFFFFFFu;
        carry = product >> 32;
    }
    u64 q = (words[0] + 0x20000000u) >> 30;
    f64 a = (f64)((i64)words[0] - (i64)(q << 30)) * 0x1p-30;  // -1/2 .. 1/2
    f64 b = (f64)words[1] * 0x1p-62;
    f64 high = a + b;
    f64 low = ((a - high) + b) + ((f64)words[2] * 0x1p-94 + (f64)words[3] * 0x1p-126);
    f64 r = high * 0x1.921fb54442d18p+0;
    f64 t = fma64(high, 0x1.921fb54442d18p+0, -r);
    t = t + fma64(high, 0x1.1a62633145c07p-54, low * 0x1.921fb54442d18p+0);
    rest[0] = r + t;
    rest[1] = (rest[0] - r) - t;
    return (u32)q & 3u;
}

// sin(|x| + turns pi/2), |x| > 2^16. Error < 1 ulp of f64.
FN f64 sine_far(f32 x, u32 turns) {
    f64 rest[2];
    u32 q = quarter_turns(x, rest) + turns;
    f64 y = q & 1u ? cosine_quarter_turn(rest[0], rest[1]) : sine_quarter_turn(rest[0], rest[1]);
    return q & 2u ? -y : y;
}

FN i32 is_infinite_or_nan(f32 x) { return (bits32(x) & 0x7FFFFFFFu) >= 0x7F800000u; }

FN f64 sin_rare_f64(f32 x) {
    if (is_infinite_or_nan(x)) return F64_NAN;
    return x < 0 ? -sine_far(x, 0) : sine_far(x, 0);
}

FN f64 cos_rare_f64(f32 x) {
    if (is_infinite_or_nan(x)) return F64_NAN;
    u32 size = bits32(x) & 0x7FFFFFFFu;
    // within 0.2 ulp of f64 of the middles of two f32, which sine_far hits: the true values are on this side of them
    if (size == 0x5F18B878u) return 0x1.fe2976fffffffp-1;
    if (size == 0x6115CB11u) return 0x1.f0285d0000001p-1;
    return sine_far(x, 1);
}

FN f64 tan_rare_f64(f32 x) {
    if (is_infinite_or_nan(x)) return F64_NAN;
    f64 rest[2];
    u32 q = quarter_turns(x, rest);
    f64 y = tangent_quarter_turn(rest[0], rest[1], q);
    return x < 0 ? -y : y;
}
