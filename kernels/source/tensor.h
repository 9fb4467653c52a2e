// int8 matrix units of CUDA devices (sm_80 and later): the two instructions that the product of digits uses.
// Source: PTX ISA, "Matrix fragments for mma.m16n8k32" and "cp.async". Needs prelude.h.

#ifndef mma_s8  // tests define these two, to run on a CPU
// c += a b. a: 16 x 32 s8 row by row, b: 32 x 8 s8 column by column, c: 16 x 8 s32. In lane l, with g = l / 4 and t = l % 4:
// a[0] rows g, a[1] rows g + 8, columns 4t..4t+3; a[2], a[3] the same 16 columns on; b[0] rows 4t..4t+3 of column g, b[1] 16
// rows on; c[0], c[1] row g, columns 2t, 2t + 1; c[2], c[3] row g + 8.
FN void mma_s8(i32 *c, const u32 *a, const u32 *b) {
    asm volatile(
        "mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+r"(c[0]), "+r"(c[1]), "+r"(c[2]), "+r"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

// starts copying 16 bytes to local memory; copies_done waits for all but the last `pending` groups of copies
FN void copy_16(void *to, const void *from) {
    u32 place = (u32)__cvta_generic_to_shared(to);
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(place), "l"(from));
}
FN void end_group() { asm volatile("cp.async.commit_group;"); }
#define copies_done(pending) asm volatile("cp.async.wait_group %0;" ::"n"(pending))
#endif
