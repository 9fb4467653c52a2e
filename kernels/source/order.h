// Order as unsigned numbers, by the bits of a float type T. Needs numbers.h.
//
// order_key: -inf .. -0, +0 .. inf, a NaN outside of these.
// sort_key: the same, and NaN last, all equal.
// rank: the same order with -inf at 0 and every NaN above inf; `flip` is 0, or the sign bit to reverse the order of the
// numbers (NaN stay on top). unrank gives the bits back, of a NaN the canonical ones.
// arg_rank: -0 is +0, every NaN is the extreme.

#define ORDER(N, T, SIGN, INF, NAN_BITS)                                                       \
    FN T order_key_##N(T bits) { return (bits & SIGN) != 0 ? (T)~bits : (T)(bits | SIGN); }    \
    FN T sort_key_##N(T bits) {                                                                \
        T key = order_key_##N(bits);                                                           \
        return (T)(bits & ~SIGN) > INF ? (T)~(T)0 : key;                                       \
    }                                                                                          \
    FN T rank_##N(T bits, T flip) { return (T)(order_key_##N((T)(bits ^ flip)) - (T)~(SIGN | INF)); } \
    FN T rank_of_inf_##N(void) { return (T)((SIGN | INF) - (T)~(SIGN | INF)); }                \
    FN T unrank_##N(T rank, T flip) {                                                          \
        T key = (T)(rank + (T)~(SIGN | INF));                                                  \
        T b = (key & SIGN) != 0 ? (T)(key ^ SIGN) : (T)~key;                                   \
        return rank > rank_of_inf_##N() ? NAN_BITS : (T)(b ^ flip);                            \
    }                                                                                          \
    FN T arg_rank_##N(T bits, T flip) {                                                        \
        T rank = rank_##N((T)(bits & ~SIGN) == 0 ? flip : bits, flip);                         \
        return rank > rank_of_inf_##N() ? (T)~(T)0 : rank;                                     \
    }
ORDER(f32, u32, 0x80000000u, 0x7F800000u, 0x7FC00000u)
ORDER(f64, u64, 0x8000000000000000ul, 0x7FF0000000000000ul, 0x7FF8000000000000ul)
ORDER(bf16, u16, (u16)0x8000, (u16)0x7F80, NAN_BF16)
ORDER(f16, u16, (u16)0x8000, (u16)0x7C00, NAN_F16)
