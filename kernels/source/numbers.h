// Rounding once to each float type, canonical NaN, the grid exponent, powers of two. Needs nothing but prelude.h.
// bf16 and f16 live in registers as their bits, u16.

#define NAN_F32 from_bits32(0x7FC00000u)
#define NAN_BF16 ((u16)0x7FC0)
#define NAN_F16 ((u16)0x7E00)

FN f32 canon_f32(f32 x) { return x == x ? x : NAN_F32; }
FN f64 canon_f64(f64 x) { return x == x ? x : F64_NAN; }

FN f32 widen_bf16(u16 h) { return from_bits32((u32)h << 16); }

// 2^112 moves the exponent's bias from 15 to 127, exactly, subnormals too; infinity and NaN keep a full exponent
FN f32 widen_f16(u16 h) {
    u32 magnitude = (u32)(h & 0x7FFF) << 13;
    u32 finite = bits32(from_bits32(magnitude) * 0x1p112f);
    u32 bits = magnitude >= 0x0F800000u ? (magnitude | 0x7F800000u) : finite;
    return from_bits32(bits | (u32)(h & 0x8000) << 16);
}

FN f32 round_f32(f64 y) { return canon_f32((f32)y); }

// bits of y rounded to odd at f32: a later rounding to fewer bits is then the only one. Boldo, Melquiond 2008
FN u32 odd_f32_bits(f64 y) {
    f32 nearest = (f32)y;
    f64 back = (f64)nearest;
    u32 inexact = back != y ? 1u : 0u;
    f64 size = back < 0.0 ? -back : back;
    f64 wanted = y < 0.0 ? -y : y;
    u32 too_far = size > wanted ? 1u : 0u;
    return (bits32(nearest) - too_far) | inexact;
}

FN u16 round_bf16(f64 y) {
    u32 bits = odd_f32_bits(y);
    u32 rounded = (bits + 0x7FFFu + (bits >> 16 & 1u)) >> 16;
    return y == y ? (u16)rounded : NAN_BF16;
}

FN u16 round_f16(f64 y) {
    u32 bits = odd_f32_bits(y);
    u32 magnitude = bits & 0x7FFFFFFFu;
    u32 rebased = magnitude - (112u << 23);
    u32 normal = (rebased + 0x0FFFu + (rebased >> 13 & 1u)) >> 13;
    normal = magnitude >= 0x477FF000u ? 0x7C00u : normal;  // 65520 and above
    u32 tiny = bits32(from_bits32(magnitude) + 0.5f) - 0x3F000000u;  // the step of f32 at 1/2 is 2^-24, as of f16 at 0
    u32 rounded = magnitude < 0x38800000u ? tiny : normal;
    return y == y ? (u16)(rounded | (bits >> 16 & 0x8000u)) : NAN_F16;
}

// 2^e, -1022 <= e <= 1023
FN f64 pow2_f64(i32 e) { return from_bits64((u64)(u32)(e + 1023) << 52); }

#define F32_INF_BITS 0x7F800000u
FN u32 magnitude_f32(f32 x) { return bits32(x) & 0x7FFFFFFFu; }
FN u32 finite_magnitude_f32(f32 x) { return magnitude_f32(x) < F32_INF_BITS ? magnitude_f32(x) : 0u; }

// e(m) of the contract for the bits of a finite f32 m >= 0; 0 for m = 0
FN i32 grid_exponent(u32 magnitude_bits) {
    u64 bits = bits64((f64)from_bits32(magnitude_bits));
    i32 e = (i32)((bits + ((u64)0x20000 << 29)) >> 52) - 1022;
    return magnitude_bits == 0u ? 0 : e;
}

// an integer that f64 holds exactly, without the conversion that vector units lack
FN f64 exact_f64(i64 s) {
    u64 lifted = (u64)s + 0x8000000000000000ul;
    f64 high = from_bits64(0x4330000000000000ul | (lifted >> 32)) - (0x1p52 + 0x1p31);
    f64 low = from_bits64(0x4330000000000000ul | (lifted & 0xFFFFFFFFul)) - 0x1p52;
    return fma64(high, 0x1p32, low);
}

// s as f64, rounded to odd where |s| >= 2^53 (at least 43 bits are kept), else exactly
FN f64 odd_i64(i64 s) {
    i64 sticky = (s & 0x7FF) != 0 ? (i64)0x800 : (i64)0;
    i64 cut = (s & ~(i64)0x7FF) | sticky;
    i64 limit = (i64)1 << 53;
    return exact_f64(s < limit && s > -limit ? s : cut);
}

FN f64 odd_u64(u64 s) {
    u64 sticky = (u64)((s & 0x7FF) != 0) << 11;
    u64 cut = (s & ~(u64)0x7FF) | sticky;
    return (f64)(s < ((u64)1 << 53) ? s : cut);
}

// MAGIC + x, |x| < 2^51, holds RN_int(x) in the low bits of its f64 pattern
#define MAGIC 0x1.8p52
#define MAGIC_BITS ((i64)0x4338000000000000)
