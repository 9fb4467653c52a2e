// Everything in which OpenCL C, CUDA C++ and plain C (for tests) differ. Kernels use these names and no vendor function.
//
// Float expressions are evaluated as written: contraction is off here (CUDA: --fmad=false, C: -ffp-contract=off), and
// fma64 is IEEE 754 fusedMultiplyAdd wherever it stands. f32 quotients and roots go through f64, whose are exact.

#if defined(__FAST_RELAXED_MATH__) || defined(__FAST_MATH__)
#error "kernels are exact: no fast-math option may be set"
#endif

#if defined(__OPENCL_VERSION__)

#pragma OPENCL FP_CONTRACT OFF
#pragma OPENCL EXTENSION cl_khr_fp64 : enable
#ifdef cl_khr_int64_base_atomics
#pragma OPENCL EXTENSION cl_khr_int64_base_atomics : enable
#endif
typedef uchar u8;
typedef ushort u16;
typedef uint u32;
typedef ulong u64;
typedef char i8;
typedef short i16;
typedef int i32;
typedef long i64;
#define KERNEL kernel
#define GLOBAL global
#define LOCAL local
#define TABLE constant
#define RESTRICT restrict
#define BARRIER() barrier(CLK_LOCAL_MEM_FENCE)
#define ITEM ((i64)get_global_id(0))
#define LOCAL_ITEM ((i32)get_local_id(0))
#define GROUP ((i64)get_group_id(0))
#define bits32(x) as_uint(x)
#define bits64(x) as_ulong(x)
#define from_bits32(x) as_float((u32)(x))
#define from_bits64(x) as_double((u64)(x))
#define atomic_max_u32(p, v) atomic_max((volatile global u32 *)(p), (u32)(v))
#define atomic_or_u32(p, v) atomic_or((volatile global u32 *)(p), (u32)(v))
#define atomic_add_u32(p, v) atomic_add((volatile global u32 *)(p), (u32)(v))
#define atomic_add_u64(p, v) atom_add((volatile global u64 *)(p), (u64)(v))
#define atomic_first_u32(p, v) atomic_cmpxchg((volatile global u32 *)(p), 0u, (u32)(v))
#ifdef POCL_DEVICE_ADDRESS_BITS  // PoCL: clang's own let loops vectorise, where library calls do not
#define FN static inline __attribute__((always_inline))
#define fma64(a, b, c) __builtin_fma((f64)(a), (f64)(b), (f64)(c))
#define sqrt64(x) __builtin_sqrt((f64)(x))
#else
#define FN static inline
#define fma64(a, b, c) fma((f64)(a), (f64)(b), (f64)(c))
#define sqrt64(x) sqrt((f64)(x))
#endif

#elif defined(__CUDACC__)

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef signed char i8;
typedef short i16;
typedef int i32;
typedef long long i64;
#define KERNEL extern "C" __global__
#define GLOBAL
#define LOCAL __shared__
#define TABLE __device__ const
#define RESTRICT __restrict__
#define FN static __device__ __forceinline__
#define BARRIER() __syncthreads()
#define ITEM ((i64)blockIdx.x * blockDim.x + threadIdx.x)
#define LOCAL_ITEM ((i32)threadIdx.x)
#define GROUP ((i64)blockIdx.x)
#define bits32(x) __float_as_uint(x)
#define bits64(x) ((u64)__double_as_longlong(x))
#define from_bits32(x) __uint_as_float((u32)(x))
#define from_bits64(x) __longlong_as_double((i64)(x))
#define sqrt64(x) __dsqrt_rn((f64)(x))
#define fma64(a, b, c) __fma_rn((f64)(a), (f64)(b), (f64)(c))
#define atomic_max_u32(p, v) atomicMax((u32 *)(p), (u32)(v))
#define atomic_or_u32(p, v) atomicOr((u32 *)(p), (u32)(v))
#define atomic_add_u32(p, v) atomicAdd((u32 *)(p), (u32)(v))
#define atomic_add_u64(p, v) atomicAdd((u64 *)(p), (u64)(v))
#define atomic_first_u32(p, v) atomicCAS((u32 *)(p), 0u, (u32)(v))

#else

#include <math.h>
#include <stdint.h>
#include <string.h>
typedef uint8_t u8;
typedef uint16_t u16;
typedef uint32_t u32;
typedef uint64_t u64;
typedef int8_t i8;
typedef int16_t i16;
typedef int32_t i32;
typedef int64_t i64;
#define GLOBAL
#define TABLE static const
#define RESTRICT restrict
#define FN static inline
#define sqrt64(x) sqrt((double)(x))
#define fma64(a, b, c) __builtin_fma((double)(a), (double)(b), (double)(c))
FN u32 bits32(float x) { u32 b; memcpy(&b, &x, 4); return b; }
FN u64 bits64(double x) { u64 b; memcpy(&b, &x, 8); return b; }
FN float from_bits32(u32 b) { float x; memcpy(&x, &b, 4); return x; }
FN double from_bits64(u64 b) { double x; memcpy(&x, &b, 8); return x; }

#endif

typedef float f32;
typedef double f64;

#define F64_INF from_bits64(0x7FF0000000000000ul)
#define F64_NAN from_bits64(0x7FF8000000000000ul)
