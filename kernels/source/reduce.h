// Reductions: exact sums on the grid and their special values. Needs numbers.h; order.h has the ranks.

#define SEEN_NAN 1u
#define SEEN_PLUS 2u
#define SEEN_MINUS 4u

// which special value x is; 0 for a finite one
FN u32 seen_f32(f32 x) {
    u32 m = magnitude_f32(x);
    u32 infinite = ((bits32(x) >> 31) + 1u) << 1;
    u32 special = m > F32_INF_BITS ? SEEN_NAN : infinite;
    return m < F32_INF_BITS ? 0u : special;
}

// RN_int(x * scale) in the low bits of an f64 pattern; such patterns are added as integers, and count * MAGIC_BITS is
// taken off the total (all modulo 2^64). |x * scale| < 2^51.
FN u64 on_grid(f32 x, f64 scale) { return bits64(fma64((f64)x, scale, MAGIC)); }

// the sum, still to be rounded once: s steps of 2^(e - p), or what the special values decide
FN f64 sum_value(i64 s, f64 step, u32 seen) {
    f64 finite = odd_i64(s) * step;
    f64 infinite = (seen & SEEN_PLUS) != 0u ? F64_INF : -F64_INF;
    f64 special = (seen & SEEN_NAN) != 0u || seen == (SEEN_PLUS | SEEN_MINUS) ? F64_NAN : infinite;
    return seen == 0u ? finite : special;
}

// special values of a segment in the place of its sum: counters that add, 20 bits each
FN u64 seen_as_counts(u32 seen) {
    u64 s = (u64)seen;
    return (s & 1u) | (s >> 1 & 1u) << 20 | (s >> 2 & 1u) << 40;
}
FN u32 counts_as_seen(u64 counts) {
    u32 nan = (counts & 0xFFFFFu) != 0u ? SEEN_NAN : 0u;
    u32 plus = (counts >> 20 & 0xFFFFFu) != 0u ? SEEN_PLUS : 0u;
    u32 minus = (counts >> 40 & 0xFFFFFu) != 0u ? SEEN_MINUS : 0u;
    return nan | plus | minus;
}
