// asin, acos, atan, atan2. Needs prelude.h alone.
// Coefficients and constants: tests/kernels/make_coefficients_trigonometric.py.

#define HALF_PI_HIGH 0x1.921fb54442d18p+0  // pi/2 in two parts
#define HALF_PI_LOW 0x1.1a62633145c07p-54
#define TAN_EIGHTH_PI 0x1.a8279ap-2  // tan(pi/8), roughly

// (asin(s) - s) / s for z = s^2 <= 1/4
FN f64 arcsine_growth(f64 z) {
    f64 p = 0x1.d72b2bc820f11p-6;
    p = fma64(p, z, -0x1.e6aaa8a0c45bdp-7);
    p = fma64(p, z, 0x1.1d1894083dab2p-6);
    p = fma64(p, z, 0x1.65a9c4dfbbf0ap-8);
    p = fma64(p, z, 0x1.52420b04b5f84p-7);
    p = fma64(p, z, 0x1.782651caa5e8bp-7);
    p = fma64(p, z, 0x1.c9cf076747430p-7);
    p = fma64(p, z, 0x1.1c4d35cf95419p-6);
    p = fma64(p, z, 0x1.6e8bb1c8209a2p-6);
    p = fma64(p, z, 0x1.f1c71c1db0623p-6);
    p = fma64(p, z, 0x1.6db6db6e31f13p-5);
    p = fma64(p, z, 0x1.3333333332ecap-4);
    p = fma64(p, z, 0x1.5555555555556p-3);
    return p * z;
}

// (atan(t) - t) / t for z = t^2, |t| <= tan(pi/8) (1 + 2^-12)
FN f64 arctangent_growth(f64 z) {
    f64 p = -0x1.3a13560c3b466p-6;
    p = fma64(p, z, 0x1.41565a6ce7266p-5);
    p = fma64(p, z, -0x1.a095518aeb546p-5);
    p = fma64(p, z, 0x1.dfe577758091dp-5);
    p = fma64(p, z, -0x1.10fa6b9a1a3f7p-4);
    p = fma64(p, z, 0x1.3b12622a7f047p-4);
    p = fma64(p, z, -0x1.745d0b1f310a3p-4);
    p = fma64(p, z, 0x1.c71c718501daep-4);
    p = fma64(p, z, -0x1.2492492435c12p-3);
    p = fma64(p, z, 0x1.9999999999344p-3);
    p = fma64(p, z, -0x1.5555555555555p-2);
    return p * z;
}

FN f64 magnitude64(f64 x) { return from_bits64(bits64(x) & 0x7FFFFFFFFFFFFFFFul); }

// |x| <= 1/2: x + x z P(z), z = x^2; beyond: pi/2 - 2 asin(s), s^2 = (1 - |x|)/2. Error < 1.5 ulp of f64; no f32 input
// is rounded wrongly.
FN f64 asin_f64(f32 x) {
    f64 a = magnitude64(x);
    f64 outer_z = fma64(a, -0.5, 0.5);
    f64 outer_s = sqrt64(outer_z);
    f64 z = a > 0.5 ? outer_z : a * a;
    f64 s = a > 0.5 ? outer_s : a;
    f64 growth = arcsine_growth(z);
    f64 inner = fma64(s, growth, s);
    f64 outer = HALF_PI_HIGH - 2.0 * (s + fma64(s, growth, -0.5 * HALF_PI_LOW));
    f64 y = a > 0.5 ? outer : inner;
    return from_bits64(bits64(y) | (u64)(bits32(x) & 0x80000000u) << 32);
}

// |x| <= 1/2: pi/2 - asin(x); beyond: 2 asin(s) or pi - 2 asin(s), s^2 = (1 - |x|)/2. Error < 1.5 ulp of f64; no f32
// input is rounded wrongly.
FN f64 acos_f64(f32 x) {
    f64 w = x;
    f64 a = magnitude64(w);
    f64 outer_z = fma64(a, -0.5, 0.5);
    f64 outer_s = sqrt64(outer_z);
    f64 z = a > 0.5 ? outer_z : a * a;
    f64 s = a > 0.5 ? outer_s : w;
    f64 growth = arcsine_growth(z);
    f64 right = 2.0 * fma64(s, growth, s);
    f64 left = HALF_PI_HIGH - (s + fma64(s, growth, -HALF_PI_LOW));
    f64 scaled = a > 0.5 ? 2.0 * left : left;
    f64 y = w > 0.5 ? right : scaled;
    // acos is 0x1.921fb50000000.46p0 and 0x1.920f690000000.0bp0: just above middles of two f32, which y has hit
    u64 short_of = (bits32(x) == 0x328885A3u) | (bits32(x) == 0x39826222u);
    return from_bits64(bits64(y) + short_of);
}

// atan(|x|) = base + atan(t) with t = |x|, (|x| - 1)/(|x| + 1) or -1/|x| and base = 0, pi/4 or pi/2. Error < 1.5 ulp of
// f64; no f32 input is rounded wrongly.
FN f64 atan_f64(f32 x) {
    f64 a = magnitude64(x);
    f64 over = a > TAN_EIGHTH_PI ? a - 1.0 : a;
    f64 under = a > TAN_EIGHTH_PI ? a + 1.0 : 1.0;
    f64 base = a > TAN_EIGHTH_PI ? 0.5 : 0.0;  // in units of pi/2
    over = a > 1.0 / TAN_EIGHTH_PI ? -1.0 : over;
    under = a > 1.0 / TAN_EIGHTH_PI ? a : under;
    base = a > 1.0 / TAN_EIGHTH_PI ? 1.0 : base;
    f64 t = over / under;
    f64 rest = fma64(t, arctangent_growth(t * t), base * HALF_PI_LOW);
    f64 y = fma64(base, HALF_PI_HIGH, t + rest);
    // atan(0x3D8D6B23) = 0x1.1a63850000000.21p-4: just above the middle of two f32, which y has hit
    u64 short_of = (bits32(x) & 0x7FFFFFFFu) == 0x3D8D6B23u;
    return from_bits64((bits64(y) + short_of) | (u64)(bits32(x) & 0x80000000u) << 32);
}

// As atan of |y / x|, subtracted from pi where x < 0: t is a quotient of exact sums and differences. Error < 2^-51,
// relative.
FN f64 atan2_f64(f32 y, f32 x) {
    f64 a = magnitude64(y);
    f64 b = magnitude64(x);
    f64 flat = TAN_EIGHTH_PI * b;
    f64 steep = TAN_EIGHTH_PI * a;
    f64 over = a > flat ? a - b : a;
    f64 under = a > flat ? a + b : b;
    f64 base = a > flat ? 0.5 : 0.0;  // in units of pi/2
    over = steep > b ? -b : over;
    under = steep > b ? a : under;
    base = steep > b ? 1.0 : base;
    u64 left = (u64)(bits32(x) & 0x80000000u) << 32;
    f64 t = from_bits64(bits64(over / under) ^ left);
    base = left ? 2.0 - base : base;
    f64 rest = fma64(t, arctangent_growth(t * t), base * HALF_PI_LOW);
    f64 angle = fma64(base, HALF_PI_HIGH, t + rest);
    return from_bits64(bits64(angle) | (u64)(bits32(y) & 0x80000000u) << 32);
}

#define ANGLE_SLACK 8ul  // in ulp of f64; atan2_f64 errs by less than 2

// Is the result, as far as atan2_f64 knows it, so close to where a rounding changes that it must be known better?
// That is: near the middle of two f32, near a number of 12 bits (the middles of bf16 and of f16 are such numbers), or
// below the least normal f32. Exact are only the zeros. NaN stands for a case that atan2_f64 leaves out, too.
FN i32 atan2_rare(f32 y, f32 x) {
    f64 angle = magnitude64(atan2_f64(y, x));
    u64 bits = bits64(angle) + ANGLE_SLACK;
    i32 middle = (i64)((bits - 0x10000000ul) & 0x1FFFFFFFul) <= (i64)(2 * ANGLE_SLACK);
    i32 short_number = (i64)(bits & 0x1FFFFFFFFFFul) <= (i64)(2 * ANGLE_SLACK);
    i32 subnormal = angle < 0x1p-125;
    return ((middle | short_number | subnormal) & (angle != 0.0)) | (angle != angle);
}

typedef struct {
    f64 high;
    f64 low;
} AnglePair;  // high + low, |low| <= ulp(high) / 2

FN AnglePair angle_pair(f64 high, f64 low) {  // |high| >= |low|, or high = 0
    AnglePair sum;
    sum.high = high + low;
    sum.low = (high - sum.high) + low;
    return sum;
}

FN AnglePair angle_sum(AnglePair a, AnglePair b) {
    f64 high = a.high + b.high;
    f64 part = high - a.high;
    f64 low = (a.high - (high - part)) + (b.high - part);
    return angle_pair(high, low + (a.low + b.low));
}

FN AnglePair angle_product(AnglePair a, AnglePair b) {
    f64 high = a.high * b.high;
    f64 low = fma64(a.high, b.high, -high);
    return angle_pair(high, low + fma64(a.high, b.low, a.low * b.high));
}

// 1/k! for k = 0..27, two parts each
TABLE f64 reciprocal_factorials[56] = {
    0x1.0000000000000p+0, 0x0.0p+0,
    0x1.0000000000000p+0, 0x0.0p+0,
    0x1.0000000000000p-1, 0x0.0p+0,
    0x1.5555555555555p-3, 0x1.5555555555555p-57,
    0x1.5555555555555p-5, 0x1.5555555555555p-59,
    0x1.1111111111111p-7, 0x1.1111111111111p-63,
    0x1.6c16c16c16c17p-10, -0x1.f49f49f49f49fp-65,
    0x1.a01a01a01a01ap-13, 0x1.a01a01a01a01ap-73,
    0x1.a01a01a01a01ap-16, 0x1.a01a01a01a01ap-76,
    0x1.71de3a556c734p-19, -0x1.c154f8ddc6c00p-73,
    0x1.27e4fb7789f5cp-22, 0x1.cbbc05b4fa99ap-76,
    0x1.ae64567f544e4p-26, -0x1.c062e06d1f209p-80,
    0x1.1eed8eff8d898p-29, -0x1.2aec959e14c06p-83,
    0x1.6124613a86d09p-33, 0x1.f28e0cc748ebep-87,
    0x1.93974a8c07c9dp-37, 0x1.05d6f8a2efd1fp-92,
    0x1.ae7f3e733b81fp-41, 0x1.1d8656b0ee8cbp-97,
    0x1.ae7f3e733b81fp-45, 0x1.1d8656b0ee8cbp-101,
    0x1.952c77030ad4ap-49, 0x1.ac981465ddc6cp-103,
    0x1.6827863b97d97p-53, 0x1.eec01221a8b0bp-107,
    0x1.2f49b46814157p-57, 0x1.2650f61dbdcb4p-112,
    0x1.e542ba4020225p-62, 0x1.ea72b4afe3c2fp-120,
    0x1.71b8ef6dcf572p-66, -0x1.d043ae40c4647p-120,
    0x1.0ce396db7f853p-70, -0x1.aebcdbd20331cp-124,
    0x1.761b41316381ap-75, -0x1.3423c7d91404fp-130,
    0x1.f2cf01972f578p-80, -0x1.9ada5fcc1ab14p-135,
    0x1.3f3ccdd165fa9p-84, -0x1.58ddadf344487p-139,
    0x1.88e85fc6a4e5ap-89, -0x1.71c37ebd16540p-143,
    0x1.d1ab1c2dccea3p-94, 0x1.054d0c78aea14p-149,
};

// The sum of (-z)^k / (2k + first)!, k = 0..13. Error < 2^-102, relative, for z = t^2, t <= pi/4 (1 + 2^-12).
FN AnglePair alternating_series(AnglePair z, i32 first) {
    AnglePair sum = angle_pair(0.0, 0.0);
    for (i32 k = 26 + first; k >= first; k -= 2) {
        AnglePair term = angle_pair(reciprocal_factorials[2 * k], reciprocal_factorials[2 * k + 1]);
        AnglePair product = angle_product(sum, z);
        sum = angle_sum(term, angle_pair(-product.high, -product.low));
    }
    return sum;
}

// atan(y / x) for 0 < y <= x. Error < 2^-98, relative.
FN AnglePair arctangent_pair(f64 y, f64 x) {
    f64 q = y / x;
    if (q < 0x1p-30)  // q - q^3/3, and what the division has left
        return angle_pair(q, fma64(-q, x, y) / x - q * q * q * (1.0 / 3.0));
    f64 t = atan2_f64((f32)y, (f32)x);
    AnglePair angle = angle_pair(t, 0.0);
    AnglePair z = angle_product(angle, angle);
    AnglePair sine = angle_product(alternating_series(z, 1), angle);
    AnglePair cosine = alternating_series(z, 0);
    // turn (x, y) back by t: the little angle that remains is its own tangent
    AnglePair up = angle_product(cosine, angle_pair(y, 0.0));
    AnglePair down = angle_product(sine, angle_pair(-x, 0.0));
    f64 across = angle_sum(up, down).high;
    return angle_pair(t, across / fma64(y, sine.high, x * cosine.high));
}

// The pair's value rounded to odd: any later rounding to 50 bits or fewer gives what the pair itself would give.
FN f64 odd_f64_of_angle(AnglePair angle) {
    u64 bits = bits64(angle.high);
    if (angle.low == 0.0 || (bits & 1ul)) return angle.high;
    return from_bits64(angle.low > 0.0 ? bits + 1 : bits - 1);
}

// atan2 with an error below 2^-97, relative, for y > 0 and finite, x finite and not 0
FN f64 atan2_of_pairs(f64 y, f64 x) {
    f64 b = magnitude64(x);
    AnglePair angle = y > b ? arctangent_pair(b, y) : arctangent_pair(y, b);
    f64 turns = y > b ? 1.0 : x < 0.0 ? 2.0 : 0.0;
    if (turns == 0.0) return odd_f64_of_angle(angle);
    if (!(y > b && x < 0.0)) angle = angle_pair(-angle.high, -angle.low);
    AnglePair base = angle_pair(turns * HALF_PI_HIGH, turns * HALF_PI_LOW);
    return odd_f64_of_angle(angle_sum(base, angle));
}

// Source of the special values: IEEE 754-2019 section 9.2.1.
FN f64 atan2_rare_f64(f32 y, f32 x) {
    f64 a = magnitude64(y);
    f64 b = magnitude64(x);
    i32 left = (i32)(bits32(x) >> 31);
    f64 angle;
    if (a != a || b != b) return F64_NAN;
    if (a == F64_INF && b == F64_INF) angle = (left ? 1.5 : 0.5) * HALF_PI_HIGH;
    else if (a == F64_INF || (b == 0.0 && a > 0.0)) angle = HALF_PI_HIGH;
    else if (b == F64_INF || a == 0.0) angle = left ? 2.0 * HALF_PI_HIGH : 0.0;
    else angle = atan2_of_pairs(a, x);
    return bits32(y) >> 31 ? -angle : angle;
}
