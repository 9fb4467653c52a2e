"""From operations to kernels: views, programs, and the generators of kernel sources. Knows no device."""
