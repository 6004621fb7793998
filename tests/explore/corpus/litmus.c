/* litmus.c: what the memory model must and must not let happen. A case fails when its outcome is
   reached. The names are those of the literature. */
#include "corpus.h"

#include <sys/syscall.h>

long syscall(long number, ...);

static atomic_int x, y;
static int data, r1, r2, r3, r4;

#define GET(object, order)        atomic_load_explicit(&object, memory_order_##order)
#define SET(object, value, order) atomic_store_explicit(&object, value, memory_order_##order)
#define FENCE(order)              atomic_thread_fence(memory_order_##order)
#define LIGHT()                   atomic_signal_fence(memory_order_seq_cst)

/* membarrier: its private, expedited form */
static void heavy(void)
{
    assert(syscall(SYS_membarrier, 16, 0, 0) == 0); /* registers */
    assert(syscall(SYS_membarrier, 8, 0, 0) == 0);
}

/* A body that runs some statements. */
#define DO(name, ...) \
    BODY(name)        \
    {                 \
        (void)unused; \
        __VA_ARGS__;  \
        return 0;     \
    }

/* ---- store buffering: each misses the other's store ---- */
DO(sb_relaxed_a, SET(x, 1, relaxed), r1 = GET(y, relaxed))
DO(sb_relaxed_b, SET(y, 1, relaxed), r2 = GET(x, relaxed))
DO(sb_acq_rel_a, SET(x, 1, release), r1 = GET(y, acquire))
DO(sb_acq_rel_b, SET(y, 1, release), r2 = GET(x, acquire))
DO(sb_seq_cst_a, SET(x, 1, seq_cst), r1 = GET(y, seq_cst))
DO(sb_seq_cst_b, SET(y, 1, seq_cst), r2 = GET(x, seq_cst))
DO(sb_fences_a, SET(x, 1, relaxed); FENCE(seq_cst), r1 = GET(y, relaxed))
DO(sb_fences_b, SET(y, 1, relaxed); FENCE(seq_cst), r2 = GET(x, relaxed))
DO(sb_acq_rel_fences_a, SET(x, 1, relaxed); FENCE(acq_rel), r1 = GET(y, relaxed))
DO(sb_acq_rel_fences_b, SET(y, 1, relaxed); FENCE(acq_rel), r2 = GET(x, relaxed))
DO(sb_mixed_a, SET(x, 1, relaxed); FENCE(seq_cst), r1 = GET(y, relaxed))
DO(sb_mixed_b, SET(y, 1, seq_cst), r2 = GET(x, seq_cst))
/* the same with a fence that only one side pays for */
DO(sb_light_heavy_a, SET(x, 1, relaxed); LIGHT(), r1 = GET(y, relaxed))
DO(sb_light_heavy_b, SET(y, 1, relaxed); heavy(), r2 = GET(x, relaxed))
DO(sb_heavy_heavy_a, SET(x, 1, relaxed); heavy(), r1 = GET(y, relaxed))
DO(sb_heavy_heavy_b, SET(y, 1, relaxed); heavy(), r2 = GET(x, relaxed))
DO(sb_fence_heavy_a, SET(x, 1, relaxed); FENCE(seq_cst), r1 = GET(y, relaxed))
DO(sb_fence_heavy_b, SET(y, 1, relaxed); heavy(), r2 = GET(x, relaxed))
DO(sb_light_light_a, SET(x, 1, relaxed); LIGHT(), r1 = GET(y, relaxed))
DO(sb_light_light_b, SET(y, 1, relaxed); LIGHT(), r2 = GET(x, relaxed))
DO(sb_light_fence_a, SET(x, 1, relaxed); LIGHT(), r1 = GET(y, relaxed))
DO(sb_light_fence_b, SET(y, 1, relaxed); FENCE(seq_cst), r2 = GET(x, relaxed))
DO(sb_none_heavy_a, SET(x, 1, relaxed), r1 = GET(y, relaxed))
DO(sb_none_heavy_b, SET(y, 1, relaxed); heavy(), r2 = GET(x, relaxed))

#define SB(name)                      \
    static int name(void)             \
    {                                 \
        TOGETHER(name##_a, name##_b); \
        return r1 == 0 && r2 == 0;    \
    }
SB(sb_relaxed)
SB(sb_acq_rel)
SB(sb_seq_cst)
SB(sb_fences)
SB(sb_acq_rel_fences)
SB(sb_mixed)
SB(sb_light_heavy)
SB(sb_heavy_heavy)
SB(sb_fence_heavy)
SB(sb_light_light)
SB(sb_light_fence)
SB(sb_none_heavy)

/* ---- message passing ---- */
DO(mp_release_a, data = 42, SET(x, 1, release))
DO(mp_relaxed_a, data = 42, SET(x, 1, relaxed))
DO(mp_fence_a, data = 42; FENCE(release), SET(x, 1, relaxed))
DO(mp_acquire_b, r1 = GET(x, acquire) ? data : 42)
DO(mp_fence_b, if (GET(x, relaxed)) FENCE(acquire), r1 = data; else r1 = 42)
DO(mp_sc_fences_a, data = 42; FENCE(seq_cst))
DO(mp_sc_fences_b, FENCE(seq_cst); r1 = data)
DO(mp_atomic_a, SET(x, 1, relaxed), SET(y, 1, relaxed))
DO(mp_atomic_b, r1 = GET(y, relaxed), r2 = GET(x, relaxed))

static int mp_release(void)
{
    TOGETHER(mp_release_a, mp_acquire_b);
    return r1 != 42;
}

static int mp_relaxed(void)
{
    TOGETHER(mp_relaxed_a, mp_acquire_b);
    return r1 != 42;
}

static int mp_fences(void)
{
    TOGETHER(mp_fence_a, mp_fence_b);
    return r1 != 42;
}

/* What is begun anew, by whatever writes it, has forgotten what stood there. */
DO(begun_anew_a, SET(x, 1, relaxed); atomic_init(&x, 5); r1 = GET(x, relaxed); SET(x, 2, relaxed);
   memset((void *)(uintptr_t)&x, 0, sizeof x); r2 = GET(x, relaxed))
DO(begun_anew_b, SET(y, 1, relaxed))

static int begun_anew(void)
{
    TOGETHER(begun_anew_a, begun_anew_b);
    return r1 != 5 || r2 != 0;
}

/* Order without a fence of the processor, on either side. */
DO(mp_light_heavy_a, SET(x, 1, relaxed); LIGHT(), SET(y, 1, relaxed))
DO(mp_light_heavy_b, r1 = GET(y, relaxed); heavy(), r2 = GET(x, relaxed))
DO(mp_heavy_light_a, SET(x, 1, relaxed); heavy(), SET(y, 1, relaxed))
DO(mp_heavy_light_b, r1 = GET(y, relaxed); LIGHT(), r2 = GET(x, relaxed))
DO(mp_light_light_a, SET(x, 1, relaxed); LIGHT(), SET(y, 1, relaxed))
DO(mp_light_light_b, r1 = GET(y, relaxed); LIGHT(), r2 = GET(x, relaxed))

static int mp_light_heavy(void)
{
    TOGETHER(mp_light_heavy_a, mp_light_heavy_b);
    return r1 == 1 && r2 == 0;
}

static int mp_heavy_light(void)
{
    TOGETHER(mp_heavy_light_a, mp_heavy_light_b);
    return r1 == 1 && r2 == 0;
}

static int mp_light_light(void)
{
    TOGETHER(mp_light_light_a, mp_light_light_b);
    return r1 == 1 && r2 == 0;
}

/* Sequentially consistent fences without an atomic between them order nothing. */
static int mp_sc_fences(void)
{
    TOGETHER(mp_sc_fences_a, mp_sc_fences_b);
    return 0;
}

static int mp_atomic(void)
{
    TOGETHER(mp_atomic_a, mp_atomic_b);
    return r1 == 1 && r2 == 0;
}

/* ---- coherence ---- */
DO(corr_a, SET(x, 1, relaxed), SET(x, 2, relaxed))
DO(corr_b, r1 = GET(x, relaxed), r2 = GET(x, relaxed))
DO(cowr_a, SET(x, 1, relaxed), r1 = GET(x, relaxed))
DO(cowr_b, SET(x, 2, relaxed))

static int corr(void)
{
    TOGETHER(corr_a, corr_b);
    return r1 > r2;
}

static int cowr(void)
{
    TOGETHER(cowr_a, cowr_b);
    return r1 == 0;
}

/* ---- two readers see two stores in different order ---- */
DO(iriw_x_release, SET(x, 1, release))
DO(iriw_y_release, SET(y, 1, release))
DO(iriw_x_seq_cst, SET(x, 1, seq_cst))
DO(iriw_y_seq_cst, SET(y, 1, seq_cst))
DO(iriw_acquire_c, r1 = GET(x, acquire), r2 = GET(y, acquire))
DO(iriw_acquire_d, r3 = GET(y, acquire), r4 = GET(x, acquire))
DO(iriw_seq_cst_c, r1 = GET(x, seq_cst), r2 = GET(y, seq_cst))
DO(iriw_seq_cst_d, r3 = GET(y, seq_cst), r4 = GET(x, seq_cst))

static int iriw_acquire(void)
{
    TOGETHER(iriw_x_release, iriw_y_release, iriw_acquire_c, iriw_acquire_d);
    return r1 == 1 && r2 == 0 && r3 == 1 && r4 == 0;
}

static int iriw_seq_cst(void)
{
    TOGETHER(iriw_x_seq_cst, iriw_y_seq_cst, iriw_seq_cst_c, iriw_seq_cst_d);
    return r1 == 1 && r2 == 0 && r3 == 1 && r4 == 0;
}

/* ---- a release sequence goes on through a read-modify-write ---- */
BODY(sequence_c)
{
    int one = 1;

    (void)unused;
    atomic_compare_exchange_strong_explicit(&x, &one, 2, memory_order_relaxed,
                                            memory_order_relaxed);
    return 0;
}
DO(sequence_b, r1 = GET(x, acquire) == 2 ? data : 42)

static int release_sequence(void)
{
    TOGETHER(mp_release_a, sequence_c, sequence_b);
    return r1 != 42;
}

/* ---- not atomic ---- */
DO(increment, int v = GET(x, seq_cst); SET(x, v + 1, seq_cst))
DO(add, atomic_fetch_add_explicit(&x, 1, memory_order_relaxed))

static int lost_update(void)
{
    TOGETHER(increment, increment);
    return atomic_load(&x) != 2;
}

static int no_lost_update(void)
{
    TOGETHER(add, add, add);
    return atomic_load(&x) != 3;
}

/* ---- allowed by C11, but not modelled: these pin down the limit that README.md tells ---- */
DO(lb_a, r1 = GET(x, relaxed), SET(y, 1, relaxed))
DO(lb_b, r2 = GET(y, relaxed), SET(x, 1, relaxed))
DO(two_writes_a, SET(x, 1, relaxed), SET(y, 2, relaxed))
DO(two_writes_b, SET(y, 1, relaxed), SET(x, 2, relaxed))

static int load_buffering(void)
{
    TOGETHER(lb_a, lb_b);
    return r1 == 1 && r2 == 1;
}

static int two_writes(void)
{
    TOGETHER(two_writes_a, two_writes_b);
    return atomic_load(&x) == 1 && atomic_load(&y) == 1;
}

const struct corpus_case litmus_cases[] = {
    {"sb_relaxed", sb_relaxed},
    {"sb_acq_rel", sb_acq_rel},
    {"sb_seq_cst", sb_seq_cst},
    {"sb_fences", sb_fences},
    {"sb_light_heavy", sb_light_heavy},
    {"sb_heavy_heavy", sb_heavy_heavy},
    {"sb_fence_heavy", sb_fence_heavy},
    {"sb_light_light", sb_light_light},
    {"sb_light_fence", sb_light_fence},
    {"sb_none_heavy", sb_none_heavy},
    {"mp_light_heavy", mp_light_heavy},
    {"mp_heavy_light", mp_heavy_light},
    {"mp_light_light", mp_light_light},
    {"sb_acq_rel_fences", sb_acq_rel_fences},
    {"sb_mixed", sb_mixed},
    {"mp_release", mp_release},
    {"mp_relaxed", mp_relaxed},
    {"mp_fences", mp_fences},
    {"begun_anew", begun_anew},
    {"mp_sc_fences", mp_sc_fences},
    {"mp_atomic", mp_atomic},
    {"corr", corr},
    {"cowr", cowr},
    {"iriw_acquire", iriw_acquire},
    {"iriw_seq_cst", iriw_seq_cst},
    {"release_sequence", release_sequence},
    {"lost_update", lost_update},
    {"no_lost_update", no_lost_update},
    {"load_buffering", load_buffering},
    {"two_writes", two_writes},
    {NULL, NULL},
};
