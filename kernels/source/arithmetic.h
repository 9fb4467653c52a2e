// Element-wise arithmetic, one function per operation and type, straight-line so that loops vectorise. Needs numbers.h.
// The contract's rules for NaN, zeros, wrapping and saturation are those of kernels/README.md.

// ---- f32 and f64. Sums and products are written with + - * by the generator, which makes NaN canonical.

// hi + lo rounded to odd, hi = RN(hi + lo): only an even hi moves, to its neighbour on lo's side
FN f64 sum_rounded_to_odd(f64 hi, f64 lo) {
    i64 bits = (i64)bits64(hi);
    f64 same_sign = (hi < 0.0) == (lo < 0.0) ? 1.0 : 0.0;
    i64 step = same_sign != 0.0 ? 1 : -1;
    i64 finite = (bits & 0x7FF0000000000000l) != 0x7FF0000000000000l;
    i64 moves = (lo != 0.0) & (lo == lo) & ((bits & 1) == 0) & finite;
    return from_bits64((u64)(moves ? bits + step : bits));
}

// RN(x * y + z) for values with 24 bits at most: the product is exact, the sum is made odd, the caller rounds once
FN f64 fma_odd(f64 x, f64 y, f64 z) {
    f64 product = x * y;
    f64 hi = product + z;
    f64 part = hi - product;
    f64 lo = (product - (hi - part)) + (z - part);
    return sum_rounded_to_odd(hi, lo);
}

FN f32 div_f32(f32 x, f32 y) { return (f32)((f64)x / (f64)y); }  // innocent: x/y is 2^-49 or more from a midpoint
FN f32 sqrt_f32(f32 x) { return (f32)sqrt64((f64)x); }

// N: the type; BITS, FROM: to its bits and back; WHOLE: from here on every number is whole, so that adding
// it to a smaller one rounds that to nearest, ties to even. max and min are IEEE 754-2019's maximum and minimum: equal
// values differ at most in the sign of zero.
#define FLOAT(N, BITS, FROM, SIGN, NAN_OF, WHOLE)                                                    \
    FN N max_##N(N x, N y) {                                                                            \
        N equal = FROM(BITS(x) & BITS(y));                                                              \
        return x > y ? x : (x < y ? y : (x == y ? equal : NAN_OF));                                     \
    }                                                                                                   \
    FN N min_##N(N x, N y) {                                                                            \
        N equal = FROM(BITS(x) | BITS(y));                                                              \
        return x < y ? x : (x > y ? y : (x == y ? equal : NAN_OF));                                     \
    }                                                                                                   \
    FN N neg_##N(N x) { return FROM(BITS(x) ^ SIGN); }                                                  \
    FN N abs_##N(N x) { return FROM(BITS(x) & ~SIGN); }                                                 \
    FN N copysign_##N(N x, N y) { return FROM((BITS(x) & ~SIGN) | (BITS(y) & SIGN)); }                  \
    FN N sign_##N(N x) { return x == x ? (x == (N)0 ? x : copysign_##N((N)1, x)) : NAN_OF; }            \
    FN N round_whole_##N(N x) {                                                                         \
        N size = abs_##N(x);                                                                            \
        N whole = (size + WHOLE) - WHOLE;                                                               \
        return size < WHOLE ? copysign_##N(whole, x) : canon_##N(x);                                    \
    }                                                                                                   \
    FN N floor_##N(N x) {                                                                               \
        N r = round_whole_##N(x);                                                                       \
        return r > x ? r - (N)1 : r;                                                                    \
    }                                                                                                   \
    FN N ceil_##N(N x) {                                                                                \
        N r = round_whole_##N(x);                                                                       \
        return r < x ? copysign_##N(r + (N)1, x) : r;                                                   \
    }
FLOAT(f32, bits32, from_bits32, 0x80000000u, NAN_F32, 0x1p23f)
FLOAT(f64, bits64, from_bits64, 0x8000000000000000ul, F64_NAN, 0x1p52)

// ---- f16 and bf16, which are bits in registers: sums, products and quotients of widened values round once from f64
#define SHORT_FLOAT(T, WIDEN, ROUND, NAN_BITS)                                                          \
    FN u16 add_##T(u16 x, u16 y) { return ROUND((f64)WIDEN(x) + (f64)WIDEN(y)); }                       \
    FN u16 sub_##T(u16 x, u16 y) { return ROUND((f64)WIDEN(x) - (f64)WIDEN(y)); }                       \
    FN u16 mul_##T(u16 x, u16 y) { return ROUND((f64)WIDEN(x) * (f64)WIDEN(y)); }                       \
    FN u16 div_##T(u16 x, u16 y) { return ROUND((f64)WIDEN(x) / (f64)WIDEN(y)); }                       \
    FN u16 sqrt_##T(u16 x) { return ROUND(sqrt64((f64)WIDEN(x))); }                                     \
    FN u16 fma_##T(u16 x, u16 y, u16 z) { return ROUND(fma_odd((f64)WIDEN(x), (f64)WIDEN(y), (f64)WIDEN(z))); } \
    FN u16 max_##T(u16 x, u16 y) { return ROUND((f64)max_f32(WIDEN(x), WIDEN(y))); }                    \
    FN u16 min_##T(u16 x, u16 y) { return ROUND((f64)min_f32(WIDEN(x), WIDEN(y))); }                    \
    FN u16 neg_##T(u16 x) { return (u16)(x ^ 0x8000); }                                                 \
    FN u16 abs_##T(u16 x) { return (u16)(x & 0x7FFF); }                                                 \
    FN u16 sign_##T(u16 x) { return ROUND((f64)sign_f32(WIDEN(x))); }                                   \
    FN u16 round_whole_##T(u16 x) { return ROUND((f64)round_whole_f32(WIDEN(x))); }                     \
    FN u16 floor_##T(u16 x) { return ROUND((f64)floor_f32(WIDEN(x))); }                                 \
    FN u16 ceil_##T(u16 x) { return ROUND((f64)ceil_f32(WIDEN(x))); }                                   \
    FN u16 canon_##T(u16 x) { f32 w = WIDEN(x); return w == w ? x : NAN_BITS; }
SHORT_FLOAT(bf16, widen_bf16, round_bf16, NAN_BF16)
SHORT_FLOAT(f16, widen_f16, round_f16, NAN_F16)

// ---- integers: T, its unsigned twin U, its signed twin S, a type V that C does not promote to int, the width
#define INTEGER(T, N, U, S, V, WIDTH)                                                                   \
    FN T add_##N(T x, T y) { return (T)((V)x + (V)y); }                                                 \
    FN T sub_##N(T x, T y) { return (T)((V)x - (V)y); }                                                 \
    FN T mul_##N(T x, T y) { return (T)((V)x * (V)y); }                                                 \
    FN T max_##N(T x, T y) { return x > y ? x : y; }                                                    \
    FN T min_##N(T x, T y) { return x < y ? x : y; }                                                    \
    FN T neg_##N(T x) { return (T)((V)0 - (V)x); }                                                      \
    FN T shift_left_##N(T x, T by) { return (U)by < WIDTH ? (T)((V)(U)x << ((U)by & (WIDTH - 1))) : (T)0; } \
    FN T shift_right_logical_##N(T x, T by) { return (U)by < WIDTH ? (T)((U)x >> ((U)by & (WIDTH - 1))) : (T)0; } \
    FN T shift_right_arithmetic_##N(T x, T by) { return (T)((S)x >> ((U)by < WIDTH ? ((U)by & (WIDTH - 1)) : WIDTH - 1)); }
#define SIGNED(T, N, U, V, WIDTH)                                                                       \
    INTEGER(T, N, U, T, V, WIDTH)                                                                       \
    FN T abs_##N(T x) { return x < 0 ? neg_##N(x) : x; }                                                \
    FN T sign_##N(T x) { return (T)((x > 0) - (x < 0)); }                                               \
    FN T div_##N(T x, T y) { T d = (y == 0 || y == -1) ? (T)1 : y; T q = (T)(x / d); return y == 0 ? (T)-1 : (y == -1 ? neg_##N(x) : q); } \
    FN T rem_##N(T x, T y) { T d = (y == 0 || y == -1) ? (T)1 : y; T r = (T)(x % d); return y == 0 ? x : (y == -1 ? (T)0 : r); }
#define UNSIGNED(T, N, S, V, WIDTH)                                                                     \
    INTEGER(T, N, T, S, V, WIDTH)                                                                       \
    FN T div_##N(T x, T y) { T d = y == 0 ? (T)1 : y; T q = (T)(x / d); return y == 0 ? (T)~(T)0 : q; }  \
    FN T rem_##N(T x, T y) { T d = y == 0 ? (T)1 : y; T r = (T)(x % d); return y == 0 ? x : r; }
SIGNED(i8, i8, u8, u32, 8)
SIGNED(i16, i16, u16, u32, 16)
SIGNED(i32, i32, u32, u32, 32)
SIGNED(i64, i64, u64, u64, 64)
UNSIGNED(u8, u8, i8, u32, 8)
UNSIGNED(u16, u16, i16, u32, 16)
UNSIGNED(u32, u32, i32, u32, 32)
UNSIGNED(u64, u64, i64, u64, 64)

// ---- floats to integers: toward zero, saturating, NaN to 0. The cast itself only ever sees values in range.
#define TO_NARROW(T, N, LOW, HIGH)                                                                      \
    FN T to_##N(f64 x) {                                                                                \
        f64 inside = x > LOW ? (x < HIGH ? x : HIGH) : LOW;                                             \
        return (T)(x == x ? inside : 0.0);                                                              \
    }
TO_NARROW(i8, i8, -128.0, 127.0)
TO_NARROW(i16, i16, -32768.0, 32767.0)
TO_NARROW(i32, i32, -2147483648.0, 2147483647.0)
TO_NARROW(u8, u8, 0.0, 255.0)
TO_NARROW(u16, u16, 0.0, 65535.0)
TO_NARROW(u32, u32, 0.0, 4294967295.0)
FN i64 to_i64(f64 x) {
    i64 fits = x >= -0x1p63 && x < 0x1p63;
    i64 whole = (i64)(fits ? x : 0.0);
    return fits ? whole : (x >= 0x1p63 ? 0x7FFFFFFFFFFFFFFFl : (x < -0x1p63 ? (i64)0x8000000000000000ul : 0));
}
FN u64 to_u64(f64 x) {
    i64 fits = x > 0.0 && x < 0x1p64;
    u64 whole = (u64)(fits ? x : 0.0);
    return fits ? whole : (x >= 0x1p64 ? 0xFFFFFFFFFFFFFFFFul : 0);
}
