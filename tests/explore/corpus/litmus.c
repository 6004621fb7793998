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

/* ---- a compare-and-swap that fails is a load ---- */
/* What it finds; `wanted` where it succeeds. */
#define COMPARE(object, wanted, value, success, failure)                             \
    compare(&object, wanted, value, memory_order_##success, memory_order_##failure, false)

static int compare(atomic_int *object, int wanted, int value, memory_order success,
                   memory_order failure, bool weak)
{
    int found = wanted;

    if (weak)
        (void)atomic_compare_exchange_weak_explicit(object, &found, value, success, failure);
    else if (!atomic_compare_exchange_strong_explicit(object, &found, value, success, failure))
        assert(found != wanted);
    return found;
}

DO(cas_stale_b, r1 = GET(y, relaxed); r2 = COMPARE(x, 7, 8, acq_rel, acquire))
DO(cas_weak_b, r1 = GET(y, relaxed);
   r2 = compare(&x, 7, 8, memory_order_relaxed, memory_order_relaxed, true))
DO(cas_taken_b, r1 = GET(y, relaxed); r2 = COMPARE(x, 1, 2, seq_cst, relaxed))
DO(sb_cas_a, SET(x, 1, seq_cst), r1 = COMPARE(y, 7, 8, seq_cst, relaxed))
DO(sb_cas_b, SET(y, 1, seq_cst), r2 = COMPARE(x, 7, 8, seq_cst, relaxed))
DO(sb_cas_seq_cst_a, SET(x, 1, seq_cst), r1 = COMPARE(y, 7, 8, seq_cst, seq_cst))
DO(sb_cas_seq_cst_b, SET(y, 1, seq_cst), r2 = COMPARE(x, 7, 8, seq_cst, seq_cst))
DO(cas_unlock_a, SET(x, 1, relaxed); SET(x, 0, release), SET(y, 1, relaxed))
DO(cas_unlock_b, r1 = GET(y, relaxed); r2 = COMPARE(x, 0, 2, acquire, relaxed))
DO(mp_cas_release_a, SET(x, 1, relaxed), SET(y, 1, release))
DO(mp_cas_acquire_b, r1 = GET(y, acquire); r2 = COMPARE(x, 7, 8, relaxed, relaxed))
DO(mp_cas_data_b, r1 = COMPARE(x, 7, 8, relaxed, acquire) == 1 ? data : 42)
DO(mp_cas_relaxed_b, r1 = COMPARE(x, 7, 8, acquire, relaxed) == 1 ? data : 42)
DO(corr_cas_b, r1 = GET(x, relaxed); r2 = COMPARE(x, 7, 8, relaxed, relaxed))
DO(corr_cas_cas_b, r1 = COMPARE(x, 7, 8, relaxed, relaxed), r2 = COMPARE(x, 7, 8, relaxed, relaxed))
DO(add_by_cas, for (int v = GET(x, relaxed), is;
                    (is = COMPARE(x, v, v + 1, relaxed, relaxed)) != v;) v = is)

/* The second store was seen, and it finds what was there before the first. */
static int cas_stale(void)
{
    TOGETHER(mp_atomic_a, cas_stale_b);
    return r1 == 1 && r2 == 0;
}

static int cas_weak(void)
{
    TOGETHER(mp_atomic_a, cas_weak_b);
    return r1 == 1 && r2 == 0;
}

/* It would succeed on the newest value, and fails on an older one. */
static int cas_taken(void)
{
    TOGETHER(mp_atomic_a, cas_taken_b);
    return r1 == 1 && r2 == 0;
}

/* It finds a lock held that was let go. */
static int cas_unlocked(void)
{
    TOGETHER(cas_unlock_a, cas_unlock_b);
    return r1 == 1 && r2 == 1;
}

SB(sb_cas)
SB(sb_cas_seq_cst)

static int mp_cas(void)
{
    TOGETHER(mp_cas_release_a, mp_cas_acquire_b);
    return r1 == 1 && r2 == 0;
}

static int mp_cas_data(void)
{
    TOGETHER(mp_release_a, mp_cas_data_b);
    return r1 != 42;
}

static int mp_cas_relaxed(void)
{
    TOGETHER(mp_release_a, mp_cas_relaxed_b);
    return r1 != 42;
}

static int corr_cas(void)
{
    TOGETHER(corr_a, corr_cas_b);
    return r1 > r2;
}

static int corr_cas_cas(void)
{
    TOGETHER(corr_a, corr_cas_cas_b);
    return r1 > r2;
}

static int no_lost_cas(void)
{
    TOGETHER(add_by_cas, add_by_cas);
    return atomic_load(&x) != 2;
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

/* ---- the modification order need not be that of execution ---- */
DO(two_writes_a, SET(x, 1, relaxed), SET(y, 2, relaxed))
DO(two_writes_b, SET(y, 1, relaxed), SET(x, 2, relaxed))
DO(two_writes_release_a, SET(x, 1, release), SET(y, 2, release))
DO(two_writes_release_b, SET(y, 1, release), SET(x, 2, release))
DO(two_writes_seq_cst_a, SET(x, 1, seq_cst), SET(y, 2, seq_cst))
DO(two_writes_seq_cst_b, SET(y, 1, seq_cst), SET(x, 2, seq_cst))
DO(two_writes_fences_a, SET(x, 1, relaxed); FENCE(seq_cst), SET(y, 2, relaxed))
DO(two_writes_fences_b, SET(y, 1, relaxed); FENCE(seq_cst), SET(x, 2, relaxed))
DO(two_writes_heavy_a, SET(x, 1, relaxed); LIGHT(), SET(y, 2, relaxed))
DO(two_writes_heavy_b, SET(y, 1, relaxed); heavy(), SET(x, 2, relaxed))

/* The first of each comes last. */
#define TWO_WRITES(name)                                   \
    static int name(void)                                  \
    {                                                      \
        TOGETHER(name##_a, name##_b);                      \
        return atomic_load(&x) == 1 && atomic_load(&y) == 1; \
    }
TWO_WRITES(two_writes)
TWO_WRITES(two_writes_release)
TWO_WRITES(two_writes_seq_cst)
TWO_WRITES(two_writes_fences)
TWO_WRITES(two_writes_heavy)

DO(seen_store_a, SET(x, 2, relaxed), SET(y, 1, relaxed))
DO(seen_store_release_a, SET(x, 2, relaxed), SET(y, 1, release))
DO(seen_store_b, r1 = GET(y, relaxed); SET(x, 1, relaxed))
DO(seen_store_acquire_b, r1 = GET(y, acquire); SET(x, 1, relaxed))
DO(seen_exchange_b, r1 = GET(y, relaxed);
   r2 = atomic_exchange_explicit(&x, 1, memory_order_relaxed))
DO(seen_cas_b, r1 = GET(y, relaxed); r2 = COMPARE(x, 0, 1, seq_cst, seq_cst))
DO(seen_cas_acquire_b, r1 = GET(y, acquire); r2 = COMPARE(x, 0, 1, seq_cst, seq_cst))
DO(own_stores_b, SET(x, 3, relaxed); r1 = GET(x, relaxed))
DO(known_store_b, r1 = GET(x, relaxed); SET(x, 3, relaxed))
DO(add_once_b, r1 = atomic_fetch_add_explicit(&x, 1, memory_order_relaxed))
DO(add_once_c, r2 = atomic_fetch_add_explicit(&x, 1, memory_order_relaxed))
DO(store_ten, SET(x, 10, relaxed))
DO(reader_a, SET(x, 2, relaxed))
DO(reader_b, r1 = GET(x, relaxed); FENCE(seq_cst), r2 = GET(y, relaxed))
DO(reader_c, SET(y, 1, relaxed); FENCE(seq_cst), SET(x, 1, relaxed))
DO(reader_seq_cst_b, r1 = GET(x, seq_cst), r2 = GET(y, seq_cst))
DO(reader_seq_cst_c, SET(y, 1, seq_cst), SET(x, 1, seq_cst))

/* What came after x = 2 was seen, and yet x = 2 comes last. */
static int seen_store(void)
{
    TOGETHER(seen_store_a, seen_store_b);
    return r1 == 1 && atomic_load(&x) == 2;
}

static int seen_store_acquire(void)
{
    TOGETHER(seen_store_release_a, seen_store_acquire_b);
    return r1 == 1 && atomic_load(&x) == 2;
}

static int seen_exchange(void)
{
    TOGETHER(seen_store_a, seen_exchange_b);
    return r1 == 1 && r2 == 0 && atomic_load(&x) == 2;
}

static int seen_cas(void)
{
    TOGETHER(seen_store_a, seen_cas_b);
    return r1 == 1 && r2 == 0 && atomic_load(&x) == 2;
}

static int seen_cas_acquire(void)
{
    TOGETHER(seen_store_release_a, seen_cas_acquire_b);
    return r1 == 1 && r2 == 0;
}

/* An older store of one's own is neither read nor left. */
static int coww(void)
{
    TOGETHER(corr_a, own_stores_b);
    return r1 == 0 || atomic_load(&x) == 1;
}

static int corw(void)
{
    TOGETHER(corr_a, known_store_b);
    return r1 == 2 && atomic_load(&x) != 3;
}

/* Nothing comes between what a read-modify-write reads and what it stores. */
static int between(void)
{
    TOGETHER(add_once_b, add_once_c, store_ten);
    return r1 == r2 || (atomic_load(&x) == 1 && (r1 == 10 || r2 == 10));
}

/* Who read x = 2 has passed his fence before the third began; x = 1 does not come before it. */
static int reader(void)
{
    TOGETHER(reader_a, reader_b, reader_c);
    return r1 == 2 && r2 == 0 && atomic_load(&x) == 2;
}

static int reader_seq_cst(void)
{
    TOGETHER(reader_a, reader_seq_cst_b, reader_seq_cst_c);
    return r1 == 2 && r2 == 0 && atomic_load(&x) == 2;
}

/* ---- allowed by C11, but not modelled: this pins down the limit that README.md tells ---- */
DO(lb_a, r1 = GET(x, relaxed), SET(y, 1, relaxed))
DO(lb_b, r2 = GET(y, relaxed), SET(x, 1, relaxed))

static int load_buffering(void)
{
    TOGETHER(lb_a, lb_b);
    return r1 == 1 && r2 == 1;
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
    {"cas_stale", cas_stale},
    {"cas_weak", cas_weak},
    {"cas_taken", cas_taken},
    {"cas_unlocked", cas_unlocked},
    {"sb_cas", sb_cas},
    {"sb_cas_seq_cst", sb_cas_seq_cst},
    {"mp_cas", mp_cas},
    {"mp_cas_data", mp_cas_data},
    {"mp_cas_relaxed", mp_cas_relaxed},
    {"corr_cas", corr_cas},
    {"corr_cas_cas", corr_cas_cas},
    {"no_lost_cas", no_lost_cas},
    {"lost_update", lost_update},
    {"no_lost_update", no_lost_update},
    {"two_writes", two_writes},
    {"two_writes_release", two_writes_release},
    {"two_writes_seq_cst", two_writes_seq_cst},
    {"two_writes_fences", two_writes_fences},
    {"two_writes_heavy", two_writes_heavy},
    {"seen_store", seen_store},
    {"seen_store_acquire", seen_store_acquire},
    {"seen_exchange", seen_exchange},
    {"seen_cas", seen_cas},
    {"seen_cas_acquire", seen_cas_acquire},
    {"coww", coww},
    {"corw", corw},
    {"between", between},
    {"reader", reader},
    {"reader_seq_cst", reader_seq_cst},
    {"load_buffering", load_buffering},
    {NULL, NULL},
};
