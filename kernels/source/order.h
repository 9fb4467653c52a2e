// Sorting keys: unsigned numbers in the order -inf .. -0, +0 .. inf, NaN, where all NaN are equal.

FN u32 sort_key_f32(u32 bits) {
    u32 key = (bits >> 31) != 0u ? ~bits : bits | 0x80000000u;
    return (bits & 0x7FFFFFFFu) > 0x7F800000u ? 0xFFFFFFFFu : key;
}
FN u64 sort_key_f64(u64 bits) {
    u64 key = (bits >> 63) != 0u ? ~bits : bits | 0x8000000000000000ul;
    return (bits & 0x7FFFFFFFFFFFFFFFul) > 0x7FF0000000000000ul ? 0xFFFFFFFFFFFFFFFFul : key;
}
FN u16 sort_key_bf16(u16 bits) {
    u16 key = (bits & 0x8000) != 0 ? (u16)~bits : (u16)(bits | 0x8000);
    return (bits & 0x7FFF) > 0x7F80 ? (u16)0xFFFF : key;
}
FN u16 sort_key_f16(u16 bits) {
    u16 key = (bits & 0x8000) != 0 ? (u16)~bits : (u16)(bits | 0x8000);
    return (bits & 0x7FFF) > 0x7C00 ? (u16)0xFFFF : key;
}
