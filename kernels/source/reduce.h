// Reductions: order keys whose unsigned order is the contract's, exact sums on the grid, their special values.

#define F32_INF_BITS 0x7F800000u
#define SEEN_NAN 1u
#define SEEN_PLUS 2u
#define SEEN_MINUS 4u

FN u32 magnitude_f32(f32 x) { return bits32(x) & 0x7FFFFFFFu; }

FN u32 finite_magnitude_f32(f32 x) {
    u32 m = bits32(x) & 0x7FFFFFFFu;
    return m < F32_INF_BITS ? m : 0u;
}

// which special value x is; 0 for a finite one
FN u32 seen_f32(f32 x) {
    u32 b = bits32(x), m = b & 0x7FFFFFFFu;
    u32 infinite = ((b >> 31) + 1u) << 1;
    u32 special = m > F32_INF_BITS ? SEEN_NAN : infinite;
    return m < F32_INF_BITS ? 0u : special;
}

// Ranks: unsigned numbers in the order -inf .. -0, +0 .. inf, with -inf at 0 and every NaN above inf. `flip` is 0, or
// the sign bit to reverse the order of the numbers (NaN stay on top).
FN u32 rank_f32(u32 bits, u32 flip) {
    u32 b = bits ^ flip;
    u32 key = (b >> 31) != 0u ? ~b : b | 0x80000000u;
    return key - 0x007FFFFFu;
}
FN u32 unrank_f32(u32 rank, u32 flip) {
    u32 key = rank + 0x007FFFFFu;
    u32 b = (key >> 31) != 0u ? key ^ 0x80000000u : ~key;
    return rank > 0xFF000001u ? 0x7FC00000u : b ^ flip;
}
FN u64 rank_f64(u64 bits, u64 flip) {
    u64 b = bits ^ flip;
    u64 key = (b >> 63) != 0u ? ~b : b | 0x8000000000000000ul;
    return key - 0x000FFFFFFFFFFFFFul;
}
FN u64 unrank_f64(u64 rank, u64 flip) {
    u64 key = rank + 0x000FFFFFFFFFFFFFul;
    u64 b = (key >> 63) != 0u ? key ^ 0x8000000000000000ul : ~key;
    return rank > 0xFFE0000000000001ul ? 0x7FF8000000000000ul : b ^ flip;
}
FN u16 rank_bf16(u16 bits, u16 flip) {
    u16 b = (u16)(bits ^ flip);
    u16 key = (b & 0x8000) != 0 ? (u16)~b : (u16)(b | 0x8000);
    return (u16)(key - 0x007F);
}
FN u16 unrank_bf16(u16 rank, u16 flip) {
    u16 key = (u16)(rank + 0x007F);
    u16 b = (key & 0x8000) != 0 ? (u16)(key ^ 0x8000) : (u16)~key;
    return rank > 0xFF01 ? NAN_BF16 : (u16)(b ^ flip);
}
FN u16 rank_f16(u16 bits, u16 flip) {
    u16 b = (u16)(bits ^ flip);
    u16 key = (b & 0x8000) != 0 ? (u16)~b : (u16)(b | 0x8000);
    return (u16)(key - 0x03FF);
}
FN u16 unrank_f16(u16 rank, u16 flip) {
    u16 key = (u16)(rank + 0x03FF);
    u16 b = (key & 0x8000) != 0 ? (u16)(key ^ 0x8000) : (u16)~key;
    return rank > 0xF801 ? NAN_F16 : (u16)(b ^ flip);
}

// Ranks of argmax and argmin: -0 is +0, every NaN is the extreme.
FN u32 arg_rank_f32(u32 bits, u32 flip) {
    u32 rank = rank_f32((bits << 1) == 0u ? flip : bits, flip);
    return rank > 0xFF000001u ? 0xFFFFFFFFu : rank;
}
FN u64 arg_rank_f64(u64 bits, u64 flip) {
    u64 rank = rank_f64((bits << 1) == 0u ? flip : bits, flip);
    return rank > 0xFFE0000000000001ul ? 0xFFFFFFFFFFFFFFFFul : rank;
}
FN u16 arg_rank_bf16(u16 bits, u16 flip) {
    u16 rank = rank_bf16((bits & 0x7FFF) == 0 ? flip : bits, flip);
    return rank > 0xFF01 ? (u16)0xFFFF : rank;
}
FN u16 arg_rank_f16(u16 bits, u16 flip) {
    u16 rank = rank_f16((bits & 0x7FFF) == 0 ? flip : bits, flip);
    return rank > 0xF801 ? (u16)0xFFFF : rank;
}

// RN_int(x * scale) in the low bits of an f64 pattern; such patterns are added as integers, and count * MAGIC_BITS is
// taken off the total (all modulo 2^64). |x * scale| < 2^51.
FN u64 on_grid(f32 x, f64 scale) { return bits64(fma64((f64)x, scale, MAGIC)); }

// an integer that f64 holds exactly, |s| <= 2^62, without the conversion that vector units lack
FN f64 exact_f64(i64 s) {
    u64 lifted = (u64)s + ((u64)1 << 62);
    f64 high = from_bits64(0x4330000000000000ul | (lifted >> 32)) - (0x1p52 + 0x1p30);
    f64 low = from_bits64(0x4330000000000000ul | (lifted & 0xFFFFFFFFul)) - 0x1p52;
    return fma64(high, 0x1p32, low);
}

// odd_i64 for |s| <= 2^62, in a form that vectorises
FN f64 odd_sum(i64 s) {
    u64 bits = (u64)s;
    u64 sticky = (bits & 0x7FFu) != 0u ? (u64)0x800 : (u64)0;
    u64 cut = (bits & ~(u64)0x7FF) | sticky;
    i64 limit = (i64)1 << 53;
    return exact_f64(s < limit && s > -limit ? s : (i64)cut);
}

// the sum, still to be rounded once: s steps of 2^(e - p), or what the special values decide
FN f64 sum_value(i64 s, f64 step, u32 seen) {
    f64 finite = odd_sum(s) * step;
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
