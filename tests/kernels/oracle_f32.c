/* An oracle for every f32 input of a function: the C library's 80-bit long double functions, and a certificate.
 *
 * A long double y of the GNU C library is within a few ulp (2^-63 of its binade) of f(x): "Known Maximum Errors in Math
 * Functions" in its manual. Here y is trusted to 64 ulp only, which is 2^-58 |y| or more. Where no boundary of rounding
 * to f32 lies that close to y, y rounds as f(x) does: the answer is certain. The other inputs are handed back as
 * undecided, for multiple precision to settle. Nothing here is shared with the kernels under test.
 */
#include <float.h>
#include <math.h>
#include <stdint.h>
#include <string.h>

#if LDBL_MANT_DIG != 64 || !defined(__GLIBC__)
#error "the oracle needs the GNU C library and a long double with a mantissa of 64 bits (x86)"
#endif

#define SIGN 0x80000000u
#define INF 0x7F800000u
#define NAN_BITS 0x7FC00000u
#define ONE 0x3F800000u
#define ITSELF 0xFFFFFFFFu /* a NaN that no function returns: stands for "the argument's own bits" */

#define TRUSTED_ULPS 64        /* a boundary at least this far away is on the side where y says it is */
#define CLOSE_ULPS (1u << 17)  /* boundaries nearer than this, 2^-47 to 2^-46 of the value, are reported as close */
#define MISMATCH_ROOM 100
#define ROOM 16384

/* What one call found. Counts may exceed the room of the lists; the lists then hold the first. */
struct tally {
    uint64_t mismatches, close, undecided;
    uint32_t mismatch_input[MISMATCH_ROOM], mismatch_expected[MISMATCH_ROOM], mismatch_actual[MISMATCH_ROOM];
    uint32_t close_input[ROOM];
    uint32_t undecided_input[ROOM], undecided_actual[ROOM];
};

enum symmetry { NONE, ODD, EVEN };

/* A function, with the ranges where its rounded value is known without evaluating it:
 *   |x| < tiny: tiny_bits;  x > high: high_bits;  x < low: low_bits.
 * ODD and EVEN functions are evaluated for x >= 0 only, so their low is never met. */
struct function {
    const char *name;
    long double (*value)(long double);
    enum symmetry symmetry;
    float tiny;
    uint32_t tiny_bits;
    float high;
    uint32_t high_bits;
    float low;
    uint32_t low_bits;
};

/* t = exp(-x) enters 1 + t with weight t / (1 + t) <= 1, the sum and the quotient round once each: one ulp is added. */
static long double logistic(long double x) { return 1.0L / (1.0L + expl(-x)); }

static long double rsqrt(long double x) { return 1.0L / sqrtl(x); } /* two roundings: 1 ulp */

static long double reciprocal(long double x) { return 1.0L / x; }

/* The ranges, with room to spare: what they skip stays at least 2^-30 of the value away from every boundary.
 * Beside an f32 value v the nearest boundaries are 2^-25 |v| below (v a power of two) and more than 2^-25 |v| above, so
 *   tiny: f(x) = x (1 + r) rounds to x when |r| <= 2^-25.5: sin, sinh, asin have r ~ x^2/6, tan, tanh, atan x^2/3,
 *         expm1, log1p x/2. cos and cosh are 1 + r with r ~ x^2/2; exp, exp2, erfc 1 + r with |r| < 1.2 |x|;
 *         logistic is 1/2 + x/4, its boundaries are 2^-26 and 2^-25 away from 1/2.
 *   high, low: exp(89) and exp(91)/2 > 2^128; exp(-105) < 2^-151; 1 + expm1(-20) < 2^-28; 1 - logistic(20) < 2^-28;
 *         1 - tanh(12) < 2^-33; 1 - erf(5) < 2^-39; 2 - erfc(-5) < 2^-39; erfc(11) < 2^-170.
 *   Domains (IEEE 754-2019, 9.2): NaN for sqrt, rsqrt, log, log2 below -0, log1p below -1, asin and acos beyond 1,
 *         sin, cos, tan of an infinity. A bound of infinity is never exceeded. */
static const struct function FUNCTIONS[] = {
    {"exp", expl, NONE, 0x1p-26f, ONE, 89.0f, INF, -105.0f, 0},
    {"exp2", exp2l, NONE, 0x1p-26f, ONE, 129.0f, INF, -152.0f, 0},
    {"expm1", expm1l, NONE, 0x1p-26f, ITSELF, 89.0f, INF, -20.0f, SIGN | ONE},
    {"log", logl, NONE, 0.0f, 0, INFINITY, 0, 0.0f, NAN_BITS},
    {"log2", log2l, NONE, 0.0f, 0, INFINITY, 0, 0.0f, NAN_BITS},
    {"log1p", log1pl, NONE, 0x1p-26f, ITSELF, INFINITY, 0, -1.0f, NAN_BITS},
    {"sqrt", sqrtl, NONE, 0.0f, 0, INFINITY, 0, 0.0f, NAN_BITS},
    {"rsqrt", rsqrt, NONE, 0.0f, 0, INFINITY, 0, 0.0f, NAN_BITS},
    {"reciprocal", reciprocal, ODD, 0.0f, 0, INFINITY, 0, -INFINITY, 0},
    {"sin", sinl, ODD, 0x1p-12f, ITSELF, FLT_MAX, NAN_BITS, -INFINITY, 0},
    {"cos", cosl, EVEN, 0x1p-13f, ONE, FLT_MAX, NAN_BITS, -INFINITY, 0},
    {"tan", tanl, ODD, 0x1p-12f, ITSELF, FLT_MAX, NAN_BITS, -INFINITY, 0},
    {"tanh", tanhl, ODD, 0x1p-12f, ITSELF, 12.0f, ONE, -INFINITY, 0},
    {"erf", erfl, ODD, 0.0f, 0, 5.0f, ONE, -INFINITY, 0},
    {"erfc", erfcl, NONE, 0x1p-27f, ONE, 11.0f, 0, -5.0f, 0x40000000u},
    {"logistic", logistic, NONE, 0x1p-25f, 0x3F000000u, 20.0f, ONE, -105.0f, 0},
    {"sinh", sinhl, ODD, 0x1p-12f, ITSELF, 91.0f, INF, -INFINITY, 0},
    {"cosh", coshl, EVEN, 0x1p-13f, ONE, 91.0f, INF, -INFINITY, 0},
    {"asin", asinl, ODD, 0x1p-12f, ITSELF, 1.0f, NAN_BITS, -INFINITY, 0},
    {"acos", acosl, NONE, 0.0f, 0, 1.0f, NAN_BITS, -1.0f, NAN_BITS},
    {"atan", atanl, ODD, 0x1p-12f, ITSELF, INFINITY, 0, -INFINITY, 0},
};

/* An answer, and how far the value is from the nearest boundary that could change it, in ulps of the long double. */
struct answer {
    uint32_t bits;
    uint64_t distance;
};

#define FAR UINT64_MAX

/* Round a finite y != 0 to f32, to nearest, by integers alone: y = mantissa 2^(exponent - 63), 2^63 <= mantissa.
 * The boundaries are the midpoints of the f32 grid: 2^23 steps a binade, steps of 2^-149 among subnormals, and
 * (2^24 - 1/2) 2^104 before infinity, which the same rule gives since a carry out of the last binade makes infinity.
 * Exactly on a midpoint the distance is 0, and the bits are not used. */
static struct answer round_to_f32(long double y)
{
    uint64_t mantissa;
    uint16_t head; /* sign and biased exponent */
    memcpy(&mantissa, &y, 8);
    memcpy(&head, (const char *)&y + 8, 2);
    const uint32_t sign = (uint32_t)(head >> 15) << 31;
    const int exponent = (int)(head & 0x7FFF) - 16383;
    if (exponent >= 128) return (struct answer){sign | INF, FAR};
    if (exponent < -151) return (struct answer){sign, FAR};
    /* [2^-151, 2^-150) rounds to zero; the boundary 2^-150 is its upper end */
    if (exponent == -151) return (struct answer){sign, (uint64_t)0 - mantissa};
    const int normal = exponent >= -126;
    const int shift = normal ? 40 : -86 - exponent; /* a step of the grid is 2^shift ulps of y; 40 to 64 */
    const uint64_t kept = shift == 64 ? 0 : mantissa >> shift;
    const uint64_t rest = shift == 64 ? mantissa : mantissa & (((uint64_t)1 << shift) - 1);
    const uint64_t half = (uint64_t)1 << (shift - 1);
    const uint32_t base = normal ? (uint32_t)(exponent + 126) << 23 : 0;
    return (struct answer){sign | (base + (uint32_t)kept + (rest > half)), rest > half ? rest - half : half - rest};
}

static struct answer answer_for(const struct function *f, uint32_t bits)
{
    float x;
    memcpy(&x, &bits, 4);
    if (x != x) return (struct answer){NAN_BITS, FAR};
    if (fabsf(x) < f->tiny) return (struct answer){f->tiny_bits == ITSELF ? bits : f->tiny_bits, FAR};
    if (x > f->high) return (struct answer){f->high_bits, FAR};
    if (x < f->low) return (struct answer){f->low_bits, FAR};
    const long double y = f->value((long double)x);
    if (y != y) return (struct answer){NAN_BITS, FAR};
    if (y == 0.0L) return (struct answer){signbit(y) ? SIGN : 0, FAR}; /* exact, or below 2^-16445 */
    if (isinf(y)) return (struct answer){signbit(y) ? SIGN | INF : INF, FAR};
    return round_to_f32(y);
}

static void compare(struct tally *tally, uint32_t input, struct answer answer, uint32_t actual)
{
    if (answer.distance < TRUSTED_ULPS) {
        if (tally->undecided < ROOM) {
            tally->undecided_input[tally->undecided] = input;
            tally->undecided_actual[tally->undecided] = actual;
        }
        tally->undecided++;
    } else if (actual != answer.bits) {
        if (tally->mismatches < MISMATCH_ROOM) {
            tally->mismatch_input[tally->mismatches] = input;
            tally->mismatch_expected[tally->mismatches] = answer.bits;
            tally->mismatch_actual[tally->mismatches] = actual;
        }
        tally->mismatches++;
    }
}

static void note_if_close(struct tally *tally, uint32_t input, struct answer answer)
{
    if (answer.distance >= CLOSE_ULPS) return;
    if (tally->close < ROOM) tally->close_input[tally->close] = input;
    tally->close++;
}

static struct answer mirrored(struct answer answer, enum symmetry symmetry)
{
    if (symmetry == ODD && answer.bits != NAN_BITS) answer.bits ^= SIGN;
    return answer;
}

/* Return the index of a function in the table, or -1. */
int function_index(const char *name)
{
    for (unsigned i = 0; i < sizeof FUNCTIONS / sizeof FUNCTIONS[0]; i++)
        if (strcmp(FUNCTIONS[i].name, name) == 0) return (int)i;
    return -1;
}

/* Compare a device's results with the oracle's and fill the tally.
 * index: of function_index. first: bits, first + count <= 2^31.
 * positive[i]: the device's bits at input first + i; negative[i]: at the same with the sign bit. Either may be NULL. */
void check_range(int index, uint32_t first, uint32_t count, const uint32_t *positive, const uint32_t *negative,
                 struct tally *tally)
{
    const struct function *f = &FUNCTIONS[index];
    tally->mismatches = tally->close = tally->undecided = 0;
    if (f->symmetry != NONE) { /* one evaluation serves both signs, and both are compared */
        for (uint32_t i = 0; i < count; i++) {
            const uint32_t input = first + i;
            const struct answer answer = answer_for(f, input);
            if (positive) compare(tally, input, answer, positive[i]);
            if (negative) compare(tally, input | SIGN, mirrored(answer, f->symmetry), negative[i]);
            note_if_close(tally, positive ? input : input | SIGN, answer);
        }
        return;
    }
    for (int sign = 0; sign < 2; sign++) {
        const uint32_t *actual = sign ? negative : positive;
        for (uint32_t i = 0; actual && i < count; i++) {
            const uint32_t input = (first + i) | (sign ? SIGN : 0);
            const struct answer answer = answer_for(f, input);
            compare(tally, input, answer, actual[i]);
            note_if_close(tally, input, answer);
        }
    }
}
