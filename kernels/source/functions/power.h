// pow.   Needs: prelude.h, exponential.h, logarithm.h
//
// pow_f64 is 2^(y log2 |x|) with the logarithm as a sum of two f64, relative error below 2^-49. Where that is too
// coarse to round, pow_rare is not 0 and pow_rare_f64 decides: exact powers in f64, all others in double-double.
// pow_f64 and pow_rare of the same arguments share nearly all their work once both are inlined.

#define POW_LARGEST_EXPONENT 200.0  // 2^200 and 2^-200 round to infinity and 0 in every type, as all beyond
#define POW_ULPS 32ul               // 2^-48 or more of a value: twice the error of pow_f64
#define TWO_LOG2_E_HI 0x1.71547652b82fep+1
#define TWO_LOG2_E_LO 0x1.777d0ffda0d24p-55

// A number as the sum hi + lo, |lo| at most half an ulp of hi.
typedef struct {
    f64 hi;
    f64 lo;
} pow_pair;

// |x| as f64.
FN f64 pow_size(f32 x) { return from_bits32(bits32(x) & 0x7FFFFFFFu); }

// a + b for |a| >= |b| or a = 0, exact.
FN pow_pair pow_fast_sum(f64 a, f64 b) {
    pow_pair sum;
    sum.hi = a + b;
    sum.lo = b - (sum.hi - a);
    return sum;
}

// log2 x for 0 < x < infinity: k + 2 log2(e) atanh(s), error below 2^-56.5 of the second term.
FN pow_pair pow_log2(f64 x) {
    u64 split = log_split(x);
    f64 k = log_exponent(split);
    f64 f = log_mantissa(split) - 1.0;
    f64 inverse = 1.0 / (2.0 + f);
    f64 s = f * inverse;
    f64 s_lo = fma64(-s, 2.0 + f, f) * inverse;
    f64 z = s * s;
    f64 p = fma64(z, 0x1.2b584e369c70fp-3, 0x1.39fe601be6228p-3);
    p = fma64(z, p, 0x1.7462b4ad665acp-3);
    p = fma64(z, p, 0x1.c71c62e578334p-3);
    p = fma64(z, p, 0x1.2492492df14f0p-2);
    p = fma64(z, p, 0x1.99999999952e2p-2);
    p = fma64(z, p, 0x1.5555555555558p-1);
    f64 first = TWO_LOG2_E_HI * s;
    f64 rest = fma64(TWO_LOG2_E_HI, s_lo, fma64(TWO_LOG2_E_HI, s, -first));
    rest = fma64(TWO_LOG2_E_LO, s, rest);
    rest = fma64(LOG2_E * s, z * p, rest);
    f64 sum = k + first;
    return pow_fast_sum(sum, ((k - sum) + first) + rest);
}

// y as a whole number biased by ROUND_TO_WHOLE, |y| bounded by 2^25: all f32 from 2^24 on are even.
FN f64 pow_biased_size(f32 y) {
    f64 size = pow_size(y);
    return (size > 0x1p25 ? 0x1p25 : size) + ROUND_TO_WHOLE;
}

// Whether |y| is a whole number; 0 for NaN.
FN i32 pow_is_whole(f32 y) {
    f64 size = pow_size(y);
    return (pow_biased_size(y) - ROUND_TO_WHOLE == size) | (size > 0x1p25);
}

// y log2 |x| as a whole number biased by ROUND_TO_WHOLE and a fraction; the fraction is NaN where x is 0 or infinite, y
// is infinite or the exponent had to be clamped.
FN f64 pow_exponent(f32 x, f32 y, f64 *fraction) {
    f64 size = pow_size(x);
    pow_pair log = pow_log2(size);
    f64 high = size == 0.0 ? -F64_INF : (size == F64_INF ? F64_INF : log.hi);
    f64 exponent = size == 1.0 ? 0.0 : high * y;
    f64 rest = fma64(high, (f64)y, -exponent) + log.lo * y;
    f64 clamped = exponent < -POW_LARGEST_EXPONENT ? -POW_LARGEST_EXPONENT : exponent;
    clamped = clamped > POW_LARGEST_EXPONENT ? POW_LARGEST_EXPONENT : clamped;
    f64 biased = clamped + ROUND_TO_WHOLE;
    *fraction = (clamped - (biased - ROUND_TO_WHOLE)) + (clamped == exponent ? rest : F64_NAN);
    return biased;
}

// |x|^y for arguments with such an exponent; exact for y = 1 and y = 2.
FN f64 pow_of_size(f64 size, f32 y, f64 biased, f64 fraction) {
    f64 scale = power_of_two(biased);
    f64 value = fma64(scale, exp2m1_near_zero(fraction == fraction ? fraction : 0.0), scale);
    value = y == 1.0f ? size : value;
    return y == 2.0f ? size * size : value;
}

// |x|^y turned into x^y: the sign and the special values of IEEE 754-2019 section 9.2.1.
FN f64 pow_special(f32 x, f32 y, f64 value) {
    u64 odd = pow_is_whole(y) ? bits64(pow_biased_size(y)) << 63 : 0ul;
    f64 result = from_bits64(bits64(value) ^ (bits64((f64)x) & odd));
    result = ((x < 0.0f) & (pow_size(x) < F64_INF) & !pow_is_whole(y)) ? F64_NAN : result;
    result = ((x != x) | (y != y)) ? F64_NAN : result;
    return ((y == 0.0f) | (x == 1.0f)) ? 1.0 : result;
}

// x^y: 2^(y log2 |x|), every x and y, relative error below 2^-49: the logarithm's, times 150 at most.
FN f64 pow_f64(f32 x, f32 y) {
    f64 fraction;
    f64 biased = pow_exponent(x, y, &fraction);
    return pow_special(x, y, pow_of_size(pow_size(x), y, biased, fraction));
}

// Not 0 where pow_f64 is inexact and so close to a rounding boundary of f32, bf16 or f16 that the side is open.
FN i32 pow_rare(f32 x, f32 y) {
    f64 fraction;
    f64 biased = pow_exponent(x, y, &fraction);
    f64 value = pow_of_size(pow_size(x), y, biased, fraction);
    u64 bits = bits64(value) + POW_ULPS;
    // A midpoint of p-bit numbers has bit 52 - p as its last one; with bounded exponents it may have fewer bits.
    i32 near = ((bits - (1ul << 28)) & 0x1FFFFFFFul) <= 2 * POW_ULPS;
    near |= ((bits - (1ul << 41)) & 0x3FFFFFFFFFFul) <= 2 * POW_ULPS;
    near |= ((bits - (1ul << 44)) & 0x1FFFFFFFFFFFul) <= 2 * POW_ULPS;
    near |= (value < 0x1p-14) & ((bits & 0x1FFFFFFFFFFul) <= 2 * POW_ULPS);
    near |= (value < 0x1p-126) & ((bits & 0x1FFFFFFFul) <= 2 * POW_ULPS);
    i32 exact = ((bits32(x) & 0x007FFFFFu) == 0u) & (fraction == 0.0);
    exact |= (y == 1.0f) | (y == 2.0f);
    return near & !exact & (fraction == fraction);
}

// ---- double-double arithmetic; each result's relative error is below 2^-103

FN pow_pair pow_times(pow_pair a, pow_pair b) {
    f64 product = a.hi * b.hi;
    return pow_fast_sum(product, fma64(a.hi, b.hi, -product) + (a.hi * b.lo + a.lo * b.hi));
}

FN pow_pair pow_quotient(pow_pair a, f64 divisor) {
    f64 quotient = a.hi / divisor;
    return pow_fast_sum(quotient, (fma64(-quotient, divisor, a.hi) + a.lo) / divisor);
}

// a + b for a f64 |a| >= |b| or a = 0.
FN pow_pair pow_add(f64 a, pow_pair b) {
    pow_pair sum = pow_fast_sum(a, b.hi);
    return pow_fast_sum(sum.hi, sum.lo + b.lo);
}

// a + 0.
FN pow_pair pow_exactly(f64 a) {
    pow_pair pair;
    pair.hi = a;
    pair.lo = 0.0;
    return pair;
}

// log2 x for 0 < x < infinity: k + 2 log2(e) s (1 + z/3 + z^2/5 + ...), relative error below 2^-102.
FN pow_pair pow_log2_accurate(f64 x) {
    u64 split = log_split(x);
    f64 f = log_mantissa(split) - 1.0;
    pow_pair s = pow_quotient(pow_exactly(f), 2.0 + f);
    pow_pair z = pow_times(s, s);
    pow_pair sum = pow_exactly(0.0);
    for (i32 n = 20; n >= 0; n--) {  // z < 2^-5
        pow_pair term = pow_quotient(pow_exactly(1.0), 2.0 * n + 1.0);
        pow_pair product = pow_times(sum, z);
        sum = pow_fast_sum(term.hi, product.hi);
        sum = pow_fast_sum(sum.hi, sum.lo + (term.lo + product.lo));
    }
    pow_pair factor;
    factor.hi = TWO_LOG2_E_HI;
    factor.lo = TWO_LOG2_E_LO;
    return pow_add(log_exponent(split), pow_times(factor, pow_times(s, sum)));
}

// 2^f for |f| <= 0.5: the series of e^(f ln 2), relative error below 2^-102.
FN pow_pair pow_exp2_accurate(pow_pair f) {
    pow_pair ln2;
    ln2.hi = LN2_HI;
    ln2.lo = LN2_LO;
    pow_pair r = pow_times(f, ln2);
    pow_pair sum = pow_exactly(1.0);
    for (i32 n = 23; n >= 1; n--) {
        sum = pow_add(1.0, pow_quotient(pow_times(r, sum), n));
    }
    return sum;
}

// pair rounded to odd: any rounding to fewer bits then gives what rounding the pair at once gives.
FN f64 pow_round_to_odd(pow_pair pair) {
    u64 bits = bits64(pair.hi);
    u64 toward_lo = (pair.lo > 0.0) == (pair.hi > 0.0) ? bits + 1 : bits - 1;
    return from_bits64(pair.lo != 0.0 && (bits & 1) == 0 ? toward_lo : bits);
}

// x^y for x > 0 if it is found to have 53 bits or fewer, else 0.
//
// A midpoint has 25 bits or fewer. So if x is no power of two, y = k/2^j, x has a 2^j-th root of finitely many bits
// (j <= 3: 3^16 has more than 24 bits), and the k-th power of that needs k <= 15 (3^16 has more than 25 bits).
FN f64 pow_if_exact(f64 x, f64 y) {
    f64 root = x;
    f64 k = y;
    for (i32 j = 0; j < 3 && !pow_is_whole((f32)k); j++) {
        f64 next = sqrt64(root);
        if (fma64(next, next, -root) != 0.0) {
            return 0.0;
        }
        root = next;
        k = 2.0 * k;
    }
    if (!pow_is_whole((f32)k) || k < 1.0 || k > 15.0) {
        return 0.0;
    }
    f64 power = root;
    for (i32 n = 1; n < (i32)k; n++) {
        f64 product = power * root;
        if (fma64(power, root, -product) != 0.0) {
            return 0.0;
        }
        power = product;
    }
    return power;
}

// x^y where pow_rare(x, y) is not 0: exact, or in double-double arithmetic to a relative error below 2^-95.
FN f64 pow_rare_f64(f32 x, f32 y) {
    f64 size = pow_size(x);
    f64 value = pow_if_exact(size, y);
    if (value == 0.0) {
        pow_pair exponent = pow_times(pow_log2_accurate(size), pow_exactly(y));
        f64 biased = exponent.hi + ROUND_TO_WHOLE;
        pow_pair fraction = pow_fast_sum(exponent.hi - (biased - ROUND_TO_WHOLE), exponent.lo);
        value = pow_round_to_odd(pow_exp2_accurate(fraction)) * power_of_two(biased);
    }
    return pow_special(x, y, value);
}
