/* samebits.cas._subtree: BLAKE3 subtree values of 1 MiB rows, several chunks at a time.
 *
 * subtree.py has the reason, and uses blake3_numpy.py where this module is not built. C99 with the vector extensions of
 * GCC and clang; on x86-64 each call takes the widest kernel that the processor has.
 * Source: BLAKE3 specification, sections 2.1 to 2.6.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdint.h>
#include <string.h>

#if !defined(__GNUC__)
#error "needs the vector extensions of GCC or clang; without this module samebits hashes rows with NumPy"
#endif

enum { BLOCK_SIZE = 64, CHUNK_SIZE = 1024, VALUE_SIZE = 32, ROW_CHUNKS = 1024, ROW_SIZE = ROW_CHUNKS * CHUNK_SIZE };
enum { CHUNK_START = 1, CHUNK_END = 2, PARENT = 4, ROOT = 8 };
#define ROWS_MAX (1LL << 44) /* an input of BLAKE3 has at most 2^64 bytes */

static const uint32_t IV[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                               0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};

/* Names and expressions that _subtree_lanes.h uses at every width. */
#define JOIN_TOKENS(a, b) a##b
#define JOIN(a, b) JOIN_TOKENS(a, b)
#define NAMED(prefix) JOIN(prefix, LANES)
#define VEC NAMED(words_)
#define BYTES NAMED(bytes_)
#define SPLAT(word) ((VEC){0} + (uint32_t)(word))
#define ROTATE(x, n) (((x) >> (n)) | ((x) << (32 - (n))))
#define ROTATE_12(x) ROTATE(x, 12)
#define ROTATE_7(x) ROTATE(x, 7)
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
#define LITTLE_ENDIAN_WORD(x) (((x) << 24) | (((x) & 0xff00) << 8) | (((x) >> 8) & 0xff00) | ((x) >> 24))
#else
#define LITTLE_ENDIAN_WORD(x) (x)
#endif

/* Shuffle the elements of a (numbered from 0) and b (numbered behind them). */
#if defined(__clang__) || __GNUC__ >= 12
#define SHUFFLE(type, a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define SHUFFLE(type, a, b, ...) __builtin_shuffle(a, b, (type){__VA_ARGS__})
#endif

/* What shuffles pick: of each 4 words, starting at word g; of each word, starting at byte k. */
#define GROUP(g) (g), (g) + 1, (g) + 2, (g) + 3
#define WORDS_LOW(g) (g), LANES + (g), (g) + 1, LANES + (g) + 1
#define WORDS_HIGH(g) (g) + 2, LANES + (g) + 2, (g) + 3, LANES + (g) + 3
#define LONGS_LOW(g) (g), (g) + 1, LANES + (g), LANES + (g) + 1
#define LONGS_HIGH(g) (g) + 2, (g) + 3, LANES + (g) + 2, LANES + (g) + 3
#define EACH_WORD(of) of(0), of(4), of(8), of(12), of(16), of(20), of(24), of(28)
#define TURNED_16(k) (k) + 2, (k) + 3, (k), (k) + 1
#define TURNED_8(k) (k) + 1, (k) + 2, (k) + 3, (k)
#define EXCHANGE(distance, low, high)                     \
    for (int i = 0; i < LANES; i++)                       \
        if (!(i & (distance))) {                          \
            VEC a = r[i], b = r[i + (distance)];          \
            r[i] = SHUFFLE(VEC, a, b, low);               \
            r[i + (distance)] = SHUFFLE(VEC, a, b, high); \
        }

/* A round: the quarter-round G on the columns of the state v, then on its diagonals. Each line of G runs over all four
 * columns before the next one, so that four chains of dependent instructions are under way at once. */
#define FEED(x0, x1, x2, x3) v[0] += m[x0], v[1] += m[x1], v[2] += m[x2], v[3] += m[x3]
#define ADD(a0, a1, a2, a3, b0, b1, b2, b3) v[a0] += v[b0], v[a1] += v[b1], v[a2] += v[b2], v[a3] += v[b3]
#define TURN(rotate, d0, d1, d2, d3, a0, a1, a2, a3)                             \
    v[d0] ^= v[a0], v[d1] ^= v[a1], v[d2] ^= v[a2], v[d3] ^= v[a3],              \
        v[d0] = rotate(v[d0]), v[d1] = rotate(v[d1]), v[d2] = rotate(v[d2]), v[d3] = rotate(v[d3])
#define QUARTER_ROUNDS(b0, b1, b2, b3, c0, c1, c2, c3, d0, d1, d2, d3, x0, y0, x1, y1, x2, y2, x3, y3) \
    FEED(x0, x1, x2, x3);                                                                              \
    ADD(0, 1, 2, 3, b0, b1, b2, b3);                                                                   \
    TURN(ROTATE_16, d0, d1, d2, d3, 0, 1, 2, 3);                                                       \
    ADD(c0, c1, c2, c3, d0, d1, d2, d3);                                                               \
    TURN(ROTATE_12, b0, b1, b2, b3, c0, c1, c2, c3);                                                   \
    FEED(y0, y1, y2, y3);                                                                              \
    ADD(0, 1, 2, 3, b0, b1, b2, b3);                                                                   \
    TURN(ROTATE_8, d0, d1, d2, d3, 0, 1, 2, 3);                                                        \
    ADD(c0, c1, c2, c3, d0, d1, d2, d3);                                                               \
    TURN(ROTATE_7, b0, b1, b2, b3, c0, c1, c2, c3)
#define ROUND(s0, s1, s2, s3, s4, s5, s6, s7, s8, s9, s10, s11, s12, s13, s14, s15)                \
    QUARTER_ROUNDS(4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, s0, s1, s2, s3, s4, s5, s6, s7); \
    QUARTER_ROUNDS(5, 6, 7, 4, 10, 11, 8, 9, 15, 12, 13, 14, s8, s9, s10, s11, s12, s13, s14, s15)

#define LANES 1
#define TARGET
#define BYTE_SHUFFLE 0
#include "_subtree_lanes.h"

#define LANES 4
#define TARGET
#define BYTE_SHUFFLE 0
#include "_subtree_lanes.h"

#if defined(__x86_64__)
#define LANES 8
#define TARGET __attribute__((target("avx2")))
#define BYTE_SHUFFLE 1
#include "_subtree_lanes.h"

#define LANES 16
#define TARGET __attribute__((target("avx512f")))
#define BYTE_SHUFFLE 0
#include "_subtree_lanes.h"
#endif

typedef void HashInputs(const uint8_t *inputs, size_t size, uint64_t counter, uint32_t flags, uint8_t *values);

/* Return the kernel of *lanes lanes (0: the widest, written to *lanes), or NULL where this processor has none. */
static HashInputs *find_kernel(size_t *lanes)
{
#if defined(__x86_64__)
    if ((*lanes == 0 || *lanes == 16) && __builtin_cpu_supports("avx512f"))
        return *lanes = 16, hash_inputs_16;
    if ((*lanes == 0 || *lanes == 8) && __builtin_cpu_supports("avx2"))
        return *lanes = 8, hash_inputs_8;
#endif
    if (*lanes == 0 || *lanes == 4)
        return *lanes = 4, hash_inputs_4;
    return *lanes == 1 ? hash_inputs_1 : NULL;
}

typedef struct {
    HashInputs *hash_inputs;
    size_t lanes;
} Kernel;

/* Write the chaining values of `count` chunks or parents of `size` bytes each; see hash_inputs. */
static void hash_all(Kernel kernel, const uint8_t *inputs, size_t count, size_t size, uint64_t counter, uint32_t flags,
                     uint8_t *values)
{
    while (count > 0) {
        if (count < kernel.lanes)
            kernel = count < 4 ? (Kernel){hash_inputs_1, 1} : (Kernel){hash_inputs_4, 4};
        kernel.hash_inputs(inputs, size, counter, flags, values);
        inputs += kernel.lanes * size;
        values += kernel.lanes * VALUE_SIZE;
        counter += flags & PARENT ? 0 : kernel.lanes;
        count -= kernel.lanes;
    }
}

/* Replace values by those of their parents, pair by pair and an odd last one as it is, until one is left. */
static void merge_values(Kernel kernel, uint8_t *values, size_t count, uint32_t root_flag)
{
    while (count > 1) {
        size_t pairs = count / 2;
        hash_all(kernel, values, pairs, 2 * VALUE_SIZE, 0, PARENT | (count == 2 ? root_flag : 0u), values);
        if (count & 1)
            memmove(values + pairs * VALUE_SIZE, values + 2 * pairs * VALUE_SIZE, VALUE_SIZE);
        count = pairs + (count & 1);
    }
}

static void hash_row(Kernel kernel, const uint8_t *row, size_t size, uint64_t index, uint8_t value[VALUE_SIZE])
{
    uint8_t values[ROW_CHUNKS * VALUE_SIZE];
    uint64_t counter = index * ROW_CHUNKS;
    size_t whole = size / CHUNK_SIZE, rest = size % CHUNK_SIZE;
    hash_all(kernel, row, whole, CHUNK_SIZE, counter, 0, values);
    if (rest > 0)
        hash_inputs_1(row + whole * CHUNK_SIZE, rest, counter + whole, 0, values + whole * VALUE_SIZE);
    merge_values(kernel, values, whole + (rest > 0), 0);
    memcpy(value, values, VALUE_SIZE);
}

static int check_kernel(Py_ssize_t lanes, Kernel *kernel)
{
    kernel->lanes = lanes < 0 ? SIZE_MAX : (size_t)lanes;
    kernel->hash_inputs = find_kernel(&kernel->lanes);
    if (kernel->hash_inputs == NULL)
        PyErr_Format(PyExc_ValueError, "this processor has no kernel of %zd lanes; LANES has those it has", lanes);
    return kernel->hash_inputs != NULL;
}

static PyObject *subtree_value(PyObject *module, PyObject *args)
{
    Py_buffer row;
    long long index;
    Py_ssize_t lanes = 0;
    Kernel kernel;
    uint8_t value[VALUE_SIZE];
    PyObject *result = NULL;
    (void)module;
    if (!PyArg_ParseTuple(args, "y*L|n:subtree_value", &row, &index, &lanes))
        return NULL;
    if (row.len < 1 || row.len > ROW_SIZE)
        PyErr_Format(PyExc_ValueError, "a row has 1 to %d bytes, not %zd", (int)ROW_SIZE, row.len);
    else if (index < 0 || index >= ROWS_MAX)
        PyErr_Format(PyExc_ValueError, "a row's index is 0 to 2^44 - 1, not %lld", index);
    else if (check_kernel(lanes, &kernel)) {
        Py_BEGIN_ALLOW_THREADS
        hash_row(kernel, row.buf, (size_t)row.len, (uint64_t)index, value);
        Py_END_ALLOW_THREADS
        result = PyBytes_FromStringAndSize((const char *)value, VALUE_SIZE);
    }
    PyBuffer_Release(&row);
    return result;
}

static PyObject *root_value(PyObject *module, PyObject *args)
{
    Py_buffer values;
    Py_ssize_t lanes = 0;
    Kernel kernel;
    PyObject *result = NULL;
    (void)module;
    if (!PyArg_ParseTuple(args, "y*|n:root_value", &values, &lanes))
        return NULL;
    if (values.len < 2 * VALUE_SIZE || values.len % VALUE_SIZE != 0)
        PyErr_Format(PyExc_ValueError, "a root has two or more values of %d bytes, not %zd bytes", (int)VALUE_SIZE,
                     values.len);
    else if (check_kernel(lanes, &kernel)) {
        uint8_t *copy = PyMem_Malloc((size_t)values.len);
        if (copy == NULL)
            PyErr_NoMemory();
        else {
            Py_BEGIN_ALLOW_THREADS
            memcpy(copy, values.buf, (size_t)values.len);
            merge_values(kernel, copy, (size_t)values.len / VALUE_SIZE, ROOT);
            Py_END_ALLOW_THREADS
            result = PyBytes_FromStringAndSize((const char *)copy, VALUE_SIZE);
            PyMem_Free(copy);
        }
    }
    PyBuffer_Release(&values);
    return result;
}

/* Add LANES, the widths that this processor runs, the widest first. */
static int fill_module(PyObject *module)
{
    static const size_t widths[] = {16, 8, 4, 1};
    PyObject *supported = PyList_New(0);
    if (supported == NULL)
        return -1;
    for (size_t i = 0; i < sizeof(widths) / sizeof(widths[0]); i++) {
        size_t lanes = widths[i];
        PyObject *width = find_kernel(&lanes) ? PyLong_FromSize_t(lanes) : NULL;
        int failed = width != NULL && PyList_Append(supported, width) < 0;
        Py_XDECREF(width);
        if (failed || PyErr_Occurred()) {
            Py_DECREF(supported);
            return -1;
        }
    }
    PyObject *lanes = PyList_AsTuple(supported);
    Py_DECREF(supported);
    if (lanes == NULL)
        return -1;
    int status = PyModule_AddObjectRef(module, "LANES", lanes);
    Py_DECREF(lanes);
    return status;
}

static PyMethodDef METHODS[] = {
    {"subtree_value", subtree_value, METH_VARARGS, "subtree_value(row, index, lanes=0): a row's chaining value."},
    {"root_value", root_value, METH_VARARGS, "root_value(values, lanes=0): a blob's hash from its rows' values."},
    {NULL, NULL, 0, NULL},
};
static PyModuleDef_Slot SLOTS[] = {{Py_mod_exec, fill_module}, {0, NULL}};
static struct PyModuleDef MODULE = {
    .m_base = PyModuleDef_HEAD_INIT,
    .m_name = "_subtree",
    .m_doc = "BLAKE3 subtree values of 1 MiB rows.",
    .m_methods = METHODS,
    .m_slots = SLOTS,
};

PyMODINIT_FUNC PyInit__subtree(void)
{
    return PyModuleDef_Init(&MODULE);
}
