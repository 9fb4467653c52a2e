// Counter-based generators: Philox4x32-10 and Threefry2x32-20. Source: Salmon et al., Parallel random numbers: as easy
// as 1, 2, 3 (SC 2011). Straight-line, so that loops over counters vectorise.

#define PHILOX_M0 0xD2511F53u
#define PHILOX_M1 0xCD9E8D57u
#define PHILOX_W0 0x9E3779B9u
#define PHILOX_W1 0xBB67AE85u
#define THREEFRY_PARITY 0x1BD11BDAu

#define PHILOX_ROUND(a, b, c, d, k0, k1, r) \
    { \
        u64 left = (u64)(a) * PHILOX_M0, right = (u64)(c) * PHILOX_M1; \
        a = (u32)(right >> 32) ^ (b) ^ ((k0) + (r) * PHILOX_W0); \
        b = (u32)right; \
        c = (u32)(left >> 32) ^ (d) ^ ((k1) + (r) * PHILOX_W1); \
        d = (u32)left; \
    }

#define PHILOX(a, b, c, d, k0, k1) \
    PHILOX_ROUND(a, b, c, d, k0, k1, 0u) \
    PHILOX_ROUND(a, b, c, d, k0, k1, 1u) \
    PHILOX_ROUND(a, b, c, d, k0, k1, 2u) \
    PHILOX_ROUND(a, b, c, d, k0, k1, 3u) \
    PHILOX_ROUND(a, b, c, d, k0, k1, 4u) \
    PHILOX_ROUND(a, b, c, d, k0, k1, 5u) \
    PHILOX_ROUND(a, b, c, d, k0, k1, 6u) \
    PHILOX_ROUND(a, b, c, d, k0, k1, 7u) \
    PHILOX_ROUND(a, b, c, d, k0, k1, 8u) \
    PHILOX_ROUND(a, b, c, d, k0, k1, 9u)

#define THREEFRY_STEP(a, b, r) \
    a += b; \
    b = (b << (r) | b >> (32 - (r))) ^ a;

// four rounds, then the next two words of the key schedule
#define THREEFRY_FOUR(a, b, r0, r1, r2, r3, s0, s1, number) \
    THREEFRY_STEP(a, b, r0) \
    THREEFRY_STEP(a, b, r1) \
    THREEFRY_STEP(a, b, r2) \
    THREEFRY_STEP(a, b, r3) \
    a += (s0); \
    b += (s1) + (number);

#define THREEFRY(a, b, k0, k1) \
    { \
        u32 k2 = (k0) ^ (k1) ^ THREEFRY_PARITY; \
        a += (k0); \
        b += (k1); \
        THREEFRY_FOUR(a, b, 13, 15, 26, 6, k1, k2, 1u) \
        THREEFRY_FOUR(a, b, 17, 29, 16, 24, k2, k0, 2u) \
        THREEFRY_FOUR(a, b, 13, 15, 26, 6, k0, k1, 3u) \
        THREEFRY_FOUR(a, b, 17, 29, 16, 24, k1, k2, 4u) \
        THREEFRY_FOUR(a, b, 13, 15, 26, 6, k2, k0, 5u) \
    }
