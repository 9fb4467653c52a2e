/* Hash LANES inputs side by side with BLAKE3's compression function: lane k of every vector belongs to input k.
 *
 * No include guard: _subtree.c includes this once for each width, with LANES (1, 4, 8, 16), TARGET (a function
 * attribute) and BYTE_SHUFFLE (1 where a shuffle of bytes is one instruction) defined. The bodies are compiled anew for
 * each, not inlined from one generic function, because compilers split vectors for the plain target before they inline.
 * Source: BLAKE3 specification, sections 2.1 to 2.6.
 */
#if LANES == 1
typedef uint32_t VEC;
#define LANE(vector, k) (vector)
#else
typedef uint32_t VEC __attribute__((vector_size(4 * LANES)));
typedef uint8_t BYTES __attribute__((vector_size(4 * LANES)));
#define LANE(vector, k) (vector)[k]
#endif

#if LANES == 4
#define EACH_GROUP(of) of(0)
#elif LANES == 8
#define EACH_GROUP(of) of(0), of(4)
#define GROUPS_4_LOW GROUP(0), GROUP(8)
#define GROUPS_4_HIGH GROUP(4), GROUP(12)
#elif LANES == 16
#define EACH_GROUP(of) of(0), of(4), of(8), of(12)
#define GROUPS_4_LOW GROUP(0), GROUP(16), GROUP(8), GROUP(24)
#define GROUPS_4_HIGH GROUP(4), GROUP(20), GROUP(12), GROUP(28)
#define GROUPS_8_LOW GROUP(0), GROUP(4), GROUP(16), GROUP(20)
#define GROUPS_8_HIGH GROUP(8), GROUP(12), GROUP(24), GROUP(28)
#endif

#if BYTE_SHUFFLE
#define ROTATE_16(x) ((VEC)SHUFFLE(BYTES, (BYTES)(x), (BYTES)(x), EACH_WORD(TURNED_16)))
#define ROTATE_8(x) ((VEC)SHUFFLE(BYTES, (BYTES)(x), (BYTES)(x), EACH_WORD(TURNED_8)))
#else
#define ROTATE_16(x) ROTATE(x, 16)
#define ROTATE_8(x) ROTATE(x, 8)
#endif

/* Read 64 bytes of each input: word w of input k goes to lane k of m[w]. A single input may have fewer bytes left. */
TARGET static inline void NAMED(load_words_)(const uint8_t *inputs, size_t stride, size_t length, VEC m[16])
{
#if LANES == 1
    uint8_t block[BLOCK_SIZE] = {0};
    (void)stride;
    memcpy(block, inputs, length);
    for (int w = 0; w < 16; w++)
        memcpy(&m[w], block + 4 * w, 4);
#else
    (void)length;
    for (int part = 0; part < 16; part += LANES) {
        VEC *r = m + part;
        for (int k = 0; k < LANES; k++)
            memcpy(&r[k], inputs + (size_t)k * stride + 4 * part, sizeof(VEC));
        /* transpose LANES x LANES words: first within groups of 4 x 4, then the groups */
        for (int i = 0; i < LANES; i += 4) {
            VEC a = SHUFFLE(VEC, r[i], r[i + 1], EACH_GROUP(WORDS_LOW));
            VEC b = SHUFFLE(VEC, r[i], r[i + 1], EACH_GROUP(WORDS_HIGH));
            VEC c = SHUFFLE(VEC, r[i + 2], r[i + 3], EACH_GROUP(WORDS_LOW));
            VEC d = SHUFFLE(VEC, r[i + 2], r[i + 3], EACH_GROUP(WORDS_HIGH));
            r[i] = SHUFFLE(VEC, a, c, EACH_GROUP(LONGS_LOW));
            r[i + 1] = SHUFFLE(VEC, a, c, EACH_GROUP(LONGS_HIGH));
            r[i + 2] = SHUFFLE(VEC, b, d, EACH_GROUP(LONGS_LOW));
            r[i + 3] = SHUFFLE(VEC, b, d, EACH_GROUP(LONGS_HIGH));
        }
#if LANES >= 8
        EXCHANGE(4, GROUPS_4_LOW, GROUPS_4_HIGH)
#endif
#if LANES >= 16
        EXCHANGE(8, GROUPS_8_LOW, GROUPS_8_HIGH)
#endif
    }
#endif
    for (int w = 0; w < 16; w++)
        m[w] = LITTLE_ENDIAN_WORD(m[w]);
}

/* Write the chaining values (32 bytes each) of LANES inputs of `size` bytes that lie one behind the other: the chunks
 * counter, counter + 1, ...; or parents (flag PARENT, counter 0), whose inputs the values may overwrite. */
TARGET static void NAMED(hash_inputs_)(const uint8_t *inputs, size_t size, uint64_t counter, uint32_t flags,
                                       uint8_t *values)
{
    VEC h[8], v[16], m[16], counter_low, counter_high;
    for (int i = 0; i < 8; i++)
        h[i] = SPLAT(IV[i]);
    for (int k = 0; k < LANES; k++) {
        uint64_t own = flags & PARENT ? counter : counter + (uint64_t)k;
        LANE(counter_low, k) = (uint32_t)own;
        LANE(counter_high, k) = (uint32_t)(own >> 32);
    }
    for (size_t at = 0; at < size; at += BLOCK_SIZE) {
        uint32_t length = (uint32_t)(size - at < BLOCK_SIZE ? size - at : BLOCK_SIZE), block_flags = flags;
        if (!(flags & PARENT))
            block_flags |= (at == 0 ? CHUNK_START : 0u) | (size - at <= BLOCK_SIZE ? CHUNK_END : 0u);
        NAMED(load_words_)(inputs + at, size, length, m);
        for (int i = 0; i < 8; i++)
            v[i] = h[i];
        for (int i = 0; i < 4; i++)
            v[i + 8] = SPLAT(IV[i]);
        v[12] = counter_low, v[13] = counter_high, v[14] = SPLAT(length), v[15] = SPLAT(block_flags);
        /* each line is the one above it with the message permuted once more */
        ROUND(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
        ROUND(2, 6, 3, 10, 7, 0, 4, 13, 1, 11, 12, 5, 9, 14, 15, 8);
        ROUND(3, 4, 10, 12, 13, 2, 7, 14, 6, 5, 9, 0, 11, 15, 8, 1);
        ROUND(10, 7, 12, 9, 14, 3, 13, 15, 4, 0, 11, 2, 5, 8, 1, 6);
        ROUND(12, 13, 9, 11, 15, 10, 14, 8, 7, 2, 5, 3, 0, 1, 6, 4);
        ROUND(9, 14, 11, 5, 8, 12, 15, 1, 13, 3, 0, 10, 2, 6, 4, 7);
        ROUND(11, 15, 5, 0, 1, 9, 8, 6, 14, 10, 2, 12, 3, 4, 7, 13);
        for (int i = 0; i < 8; i++)
            h[i] = v[i] ^ v[i + 8];
    }
    for (int i = 0; i < 8; i++) {
        VEC words = LITTLE_ENDIAN_WORD(h[i]);
        for (int k = 0; k < LANES; k++) {
            uint32_t word = LANE(words, k);
            memcpy(values + VALUE_SIZE * k + 4 * i, &word, 4);
        }
    }
}

#undef LANES
#undef TARGET
#undef BYTE_SHUFFLE
#undef LANE
#undef EACH_GROUP
#undef GROUPS_4_LOW
#undef GROUPS_4_HIGH
#undef GROUPS_8_LOW
#undef GROUPS_8_HIGH
#undef ROTATE_16
#undef ROTATE_8
