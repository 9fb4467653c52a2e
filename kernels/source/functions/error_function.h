// erf, erfc. Needs prelude.h, exponential.h (expm1_near_zero, power_of_two, LOG2_E, ROUND_TO_WHOLE).
// Coefficients: tests/kernels/make_coefficients_error_function.py.

// erf(x) = x (2/sqrt(pi) + z P(z/8 - 31/32)), z = x^2, one polynomial up to |x| = 63/16, from where on 1 - erf < 2^-25.
// Error < 1 ulp of f64 for |x| < 1, < 16 ulp beyond; no f32 input is rounded wrongly.
FN f64 erf_f64(f32 x) {
    f64 w = x;
    w = w > 0x1.f8p+1 ? 0x1.f8p+1 : w;
    w = w < -0x1.f8p+1 ? -0x1.f8p+1 : w;
    f64 z = w * w;
    f64 u = fma64(z, 0x1p-3, -0x1.fp-1);
    f64 p = 0x1.613b636e036a4p-29;
    p = fma64(p, u, -0x1.3c299d5b99f07p-27);
    p = fma64(p, u, 0x1.16b22df79e1d1p-26);
    p = fma64(p, u, -0x1.b509939a0cc8ap-25);
    p = fma64(p, u, 0x1.a24291c47b6f4p-23);
    p = fma64(p, u, -0x1.3ab4dd463addcp-21);
    p = fma64(p, u, 0x1.b5e3a04745d7dp-20);
    p = fma64(p, u, -0x1.2d554dd8438c8p-18);
    p = fma64(p, u, 0x1.8f3cea06d1637p-17);
    p = fma64(p, u, -0x1.f7c1bb764a6c2p-16);
    p = fma64(p, u, 0x1.2f3ddbbf85485p-14);
    p = fma64(p, u, -0x1.5c1b5149e9503p-13);
    p = fma64(p, u, 0x1.7c4749444b585p-12);
    p = fma64(p, u, -0x1.8aabf09915fd6p-11);
    p = fma64(p, u, 0x1.84971d89af273p-10);
    p = fma64(p, u, -0x1.6a83b821d4bd0p-9);
    p = fma64(p, u, 0x1.40233c1cadd39p-8);
    p = fma64(p, u, -0x1.0b852fc4923b5p-7);
    p = fma64(p, u, 0x1.a73c83ee07446p-7);
    p = fma64(p, u, -0x1.3d63fffd31d58p-6);
    p = fma64(p, u, 0x1.c4994d6a888bcp-6);
    p = fma64(p, u, -0x1.3444dc36beb15p-5);
    p = fma64(p, u, 0x1.93eab08cd8bbfp-5);
    p = fma64(p, u, -0x1.00f622a9270b6p-4);
    p = fma64(p, u, 0x1.41cd4bd9287ecp-4);
    p = fma64(p, u, -0x1.96889d9d8607fp-4);
    // 2/sqrt(pi) in two parts
    return fma64(w, 0x1.20dd750429b6dp+0, w * fma64(p, z, 0x1.1ae3a914fed80p-56));
}

// exp(x^2) erfc(x) for 0 <= x <= 41/4: a polynomial in u = (x - 3)/(x + 3)
FN f64 erfc_over_gaussian(f64 x) {
    f64 u = (x - 3.0) / (x + 3.0);
    f64 p = -0x1.1e338c21e4f7ep-30;
    p = fma64(p, u, -0x1.01cf06fbea5adp-28);
    p = fma64(p, u, 0x1.74b7ff8dc84a9p-28);
    p = fma64(p, u, 0x1.75375950f105bp-25);
    p = fma64(p, u, 0x1.88e3f96888343p-26);
    p = fma64(p, u, -0x1.f803985b08ec6p-23);
    p = fma64(p, u, -0x1.387cdc79f0209p-22);
    p = fma64(p, u, 0x1.5072797877898p-20);
    p = fma64(p, u, 0x1.1c705b5abf6d6p-19);
    p = fma64(p, u, -0x1.0bb70b93d32cdp-17);
    p = fma64(p, u, -0x1.af85e4e2f76cep-17);
    p = fma64(p, u, 0x1.0cac4bf80990ep-14);
    p = fma64(p, u, 0x1.7ba0ffb144415p-15);
    p = fma64(p, u, -0x1.39084cb64caa7p-11);
    p = fma64(p, u, 0x1.73101e78aadbbp-11);
    p = fma64(p, u, 0x1.17c838ef552eap-8);
    p = fma64(p, u, -0x1.8fa58eb5d7d2fp-6);
    p = fma64(p, u, 0x1.258b13b017358p-4);
    p = fma64(p, u, -0x1.336ffbef08b68p-3);
    p = fma64(p, u, 0x1.f6ff204105981p-3);
    p = fma64(p, u, -0x1.4e102b9cf8513p-2);
    p = fma64(p, u, 0x1.6e9827d229d2dp-3);
    return p;
}

// erfc(|x|) = exp(-z) Q(u), z = x^2 (exact) = -n ln 2 - r, up to |x| = 41/4, where erfc < 2^-151;
// erfc(-x) = 2 - erfc(x). Error < 6 ulp of f64; no f32 input is rounded wrongly.
FN f64 erfc_f64(f32 x) {
    f64 a = from_bits32(bits32(x) & 0x7FFFFFFFu);
    a = a > 0x1.48p+3 ? 0x1.48p+3 : a;
    f64 z = a * a;
    f64 k = fma64(z, -LOG2_E, ROUND_TO_WHOLE);  // its low bits: n
    f64 n = k - ROUND_TO_WHOLE;
    f64 r = fma64(-n, -0x1.8432a1b0e2634p-43, fma64(-n, 0x1.62e42fefa4p-1, -z));
    f64 over = erfc_over_gaussian(a);
    f64 y = fma64(over, expm1_near_zero(r), over) * power_of_two(k);
    y = x < 0 ? 2.0 - y : y;
    // erfc is 0x1.00010afffffff.ecp0 and 0x1.010afaffffffe.b0p0: just below middles of two f32, which y has hit
    u64 past = (bits32(x) == 0xB76C9F62u) | (bits32(x) == 0xBB6C9B37u);
    return from_bits64(bits64(y) - past);
}
