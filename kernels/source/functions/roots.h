// sqrt, rsqrt, reciprocal.   Needs: prelude.h
//
// The f64 root and quotient are correctly rounded, and no root or reciprocal of an f32 lies so close to a midpoint of
// f32 that rounding to f64 first could change the result (53 >= 2 * 24 + 2 bits).

// sqrt x, every x, error below 0.5 ulp.
FN f64 sqrt_f64(f32 x) { return sqrt64(x); }

// 1 / sqrt x, every x, error below 1.5 ulps: two roundings, which the exhaustive check finds innocent.
FN f64 rsqrt_f64(f32 x) { return 1.0 / sqrt64(x); }

// 1 / x, every x, error below 0.5 ulp.
FN f64 reciprocal_f64(f32 x) { return 1.0 / x; }
