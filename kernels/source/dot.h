// Pieces of dot_general that know no sizes: ranks of magnitudes, exponents, whole numbers on the grid, exact sums.
// Needs numbers.h.

// A rank orders the values of a line and holds the grid exponent of the largest: the bits of |x| (magnitude_f32).
FN f64 step_of(u32 rank, i32 p) { return rank < F32_INF_BITS ? pow2_f64(grid_exponent(rank) - p) : F64_NAN; }

// The same for |x| * 2^f, which f32 may not hold: the upper half of the f64; 127/128 has no bits below it.
#define NO_SCALED_RANK 0x7FF00000u
FN u32 scaled_rank(f32 x, f64 factor) { return (u32)(bits64((f64)from_bits32(magnitude_f32(x)) * factor) >> 32); }
FN i32 scaled_exponent(u32 rank) { return rank == 0u ? 0 : (i32)((rank + 0x4000u) >> 20) - 1022; }
FN f64 scaled_step_of(u32 rank, i32 p) {
    return rank < NO_SCALED_RANK ? pow2_f64(scaled_exponent(rank) - p) : F64_NAN;
}

// a step that depends on no exponent, for a line without infinities and NaNs
FN f64 fixed_step_of(u32 rank, i32 p) { return rank < F32_INF_BITS ? pow2_f64(-p) : F64_NAN; }

FN u32 larger(u32 a, u32 b) { return a > b ? a : b; }

// 1 / step for a power of two, 0 for NaN
FN f64 steps_per_unit(f64 step) { return step == step ? from_bits64(((u64)2046 << 52) - bits64(step)) : 0.0; }

// RN_int(x * scale) for |x * scale| <= 2^51, 0 for an infinity or a NaN; never -0
FN f64 whole(f32 x, f64 scale) {
    f32 finite = magnitude_f32(x) < F32_INF_BITS ? x : 0.0f;
    return ((f64)finite * scale + MAGIC) - MAGIC;
}

// S as high + low: high whole multiples of 2^27, low small, so that both add up exactly where S itself outgrows f64
#define HIGH_MAGIC 0x1.8p79
FN f64 high_part(f64 s) { return (s + HIGH_MAGIC) - HIGH_MAGIC; }

// high + low rounded to odd at 53 bits
FN f64 odd_total(f64 high, f64 low) {
    f64 sum = high + low;
    f64 rest = (high - sum) + low;  // exact: |high| >= |low| wherever the sum rounds
    u64 inexact = rest != 0.0 ? 1u : 0u;
    u64 too_far = (rest < 0.0) == (sum < 0.0) ? 0u : inexact;
    return from_bits64((bits64(sum) - too_far) | inexact);
}
