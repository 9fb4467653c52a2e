// Enough of CUDA C++ to run kernels on a CPU: blocks one after another, the items of a block one after another too, or
// as threads where the kernel has barriers. For tests of CUDA sources on machines without a driver.
#include <atomic>
#include <barrier>
#include <cmath>
#include <cstring>
#include <memory>
#include <thread>
#include <utility>
#include <vector>

#define __CUDACC__ 1
#define __global__
#define __device__
#define __shared__ static
#define __forceinline__ inline
#define __align__(n) __attribute__((aligned(n)))

struct Place { unsigned x, y, z; };
static thread_local Place blockIdx, threadIdx;
static Place blockDim;
static std::barrier<> *block_barrier;

static inline void __syncthreads() { block_barrier->arrive_and_wait(); }

template <class To, class From> static inline To same_bits(From x) {
    static_assert(sizeof(To) == sizeof(From));
    To y;
    std::memcpy(&y, &x, sizeof y);
    return y;
}
static inline unsigned __float_as_uint(float x) { return same_bits<unsigned>(x); }
static inline float __uint_as_float(unsigned x) { return same_bits<float>(x); }
static inline long long __double_as_longlong(double x) { return same_bits<long long>(x); }
static inline double __longlong_as_double(long long x) { return same_bits<double>(x); }
static inline double __dsqrt_rn(double x) { return std::sqrt(x); }
static inline double __fma_rn(double x, double y, double z) { return std::fma(x, y, z); }

template <class T> static inline T atomicAdd(T *p, T v) { return std::atomic_ref<T>(*p).fetch_add(v); }
template <class T> static inline T atomicOr(T *p, T v) { return std::atomic_ref<T>(*p).fetch_or(v); }
template <class T> static inline T atomicMax(T *p, T v) {
    std::atomic_ref<T> cell(*p);
    T old = cell.load();
    while (old < v && !cell.compare_exchange_weak(old, v)) {}
    return old;
}
template <class T> static inline T atomicCAS(T *p, T expected, T v) {
    std::atomic_ref<T>(*p).compare_exchange_strong(expected, v);
    return expected;
}

// The matrix unit of a warp: every lane shows its fragments of a and b, and adds its part of the product to c.
static std::barrier<> *warp_barriers[32];
static unsigned warp_a[32][32][4], warp_b[32][32][2];

static inline int byte_of(unsigned word, int i) { return (signed char)(word >> (8 * i)); }

static inline void mma_s8(int *c, const unsigned *a, const unsigned *b) {
    int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    std::memcpy(warp_a[warp][lane], a, 16);
    std::memcpy(warp_b[warp][lane], b, 8);
    warp_barriers[warp]->arrive_and_wait();
    for (int i = 0; i < 4; i++) {
        int row = lane / 4 + i / 2 * 8, column = lane % 4 * 2 + i % 2;
        for (int k = 0; k < 32; k++) {
            unsigned left = warp_a[warp][row % 8 * 4 + k % 16 / 4][row / 8 + k / 16 * 2];
            unsigned right = warp_b[warp][column * 4 + k % 16 / 4][k / 16];
            c[i] += byte_of(left, k % 4) * byte_of(right, k % 4);
        }
    }
    warp_barriers[warp]->arrive_and_wait();
}
#define mma_s8 mma_s8  // so that tensor.h leaves these out
static inline void copy_16(void *to, const void *from) { std::memcpy(to, from, 16); }
static inline void end_group() {}
#define copies_done(pending)

template <class... P, size_t... I>
static void call(void (*kernel)(P...), void **buffers, std::index_sequence<I...>) {
    kernel(static_cast<P>(buffers[I])...);
}

template <class... P> static void launch(void (*kernel)(P...), void **buffers, long items, int group, int threads) {
    blockDim = {unsigned(group), 1, 1};
    auto item = [=](unsigned block, unsigned thread) {
        blockIdx = {block, 0, 0};
        threadIdx = {thread, 0, 0};
        call(kernel, buffers, std::make_index_sequence<sizeof...(P)>());
    };
    for (long block = 0; block < items / group; block++) {
        if (!threads) {
            for (int thread = 0; thread < group; thread++) item(block, thread);
            continue;
        }
        std::barrier<> barrier(group);
        block_barrier = &barrier;
        std::vector<std::unique_ptr<std::barrier<>>> warps;
        for (int warp = 0; warp < group / 32; warp++) {
            warps.push_back(std::make_unique<std::barrier<>>(32));
            warp_barriers[warp] = warps.back().get();
        }
        std::vector<std::thread> running;
        for (int thread = 0; thread < group; thread++) running.emplace_back(item, block, thread);
        for (auto &one : running) one.join();
    }
}
