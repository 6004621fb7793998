/* graceful_shutdown/life.h: an object from its options to its end. */
#ifndef TWILL__GRACEFUL_SHUTDOWN_LIFE_H
#define TWILL__GRACEFUL_SHUTDOWN_LIFE_H

#include "graceful_shutdown/watcher.h"

/* ---- create ---- */

static inline bool twill__shutdown_take(uint8_t *kind, int number, uint8_t as)
{
    if (number <= 0 || number >= TWILL__SIGNAL_COUNT || kind[number])
        return false;
#if TWILL__SIGNALS
    if (twill__signal_is_fault(number))
        return false;
#ifdef SIGKILL
    if (number == SIGKILL || number == SIGSTOP)
        return false;
#endif
#endif
    kind[number] = as;
    return true;
}

static inline bool twill__shutdown_kinds(uint8_t *kind, const twill_shutdown_options *options)
{
    static const int usual[] = {SIGINT, SIGTERM};
    const int *signals = options->signals ? options->signals : usual;
    size_t count = options->signals ? options->signal_count : 2;
    if (options->no_signals)
        return !options->signals && !options->signal_count && !options->actions &&
               !options->action_count && !options->message;
    if (count == 0 || count >= TWILL__SIGNAL_COUNT || (!options->signals && options->signal_count))
        return false;
    if (!options->actions != !options->action_count || options->action_count >= TWILL__SIGNAL_COUNT)
        return false;
    for (size_t i = 0; i < count; i++)
        if (!twill__shutdown_take(kind, signals[i], TWILL__STOPS))
            return false;
    for (size_t i = 0; i < options->action_count; i++)
        if (!options->actions[i].fn ||
            !twill__shutdown_take(kind, options->actions[i].signal, (uint8_t)(i + 2)))
            return false;
    return true;
}

static inline twill_ns twill__shutdown_part(twill_ns total, twill_ns share)
{
    return total == TWILL_FOREVER || total < share ? total : total / share;
}

/* Defaults in, nonsense out. */
static inline bool twill__shutdown_plan(twill_shutdown_options *options)
{
    if (options->total < 0 || options->drain < 0 || options->cancel < 0 ||
        options->same_press < 0 || (unsigned)options->second > TWILL_SECOND_IGNORED ||
        (options->steps_capacity && !options->steps))
        return false;
    if (!options->total)
        options->total = TWILL_SEC(20);
    if (options->drain && options->cancel &&
        (options->drain > options->total || options->cancel > options->total - options->drain))
        return false;
    if (!options->drain)
        options->drain = twill__shutdown_part(options->total, 2);
    if (options->drain > options->total)
        options->drain = options->total;
    if (!options->cancel)
        options->cancel = twill__shutdown_part(options->total, 4);
    if (!options->same_press)
        options->same_press = TWILL_MS(200);
    return true;
}

#if TWILL__SIGNALS
/* Puts back what was there, where nobody else has come in the meantime. */
static inline void twill__shutdown_restore(twill_shutdown *shutdown)
{
    for (int number = 1; number < TWILL__SIGNAL_COUNT; number++) {
        twill__action now;
        if (!shutdown->installed[number])
            continue;
        if (twill__sigaction(number, NULL, &now) == 0 &&
            twill__action_is(&now, twill__shutdown_handler))
            twill__sigaction(number, &shutdown->old[number], NULL);
        shutdown->installed[number] = false;
    }
#if TWILL__CONSOLE
    twill__console_tells(twill__shutdown_console, false);
#endif
}

/* Those that a shell or nohup lets a program ignore. */
static inline bool twill__shutdown_keeps(int number)
{
#ifdef SIGHUP
    if (number == SIGQUIT || number == SIGHUP)
        return true;
#endif
    return number == SIGINT;
}

/* `parent`: the object of the process that has forked us; what we find installed may be its. */
static inline bool twill__shutdown_install(twill_shutdown *shutdown, const twill_shutdown *parent)
{
    int numbers[TWILL__SIGNAL_COUNT];
    size_t count = 0;
    twill__action ours;
    for (int number = 1; number < TWILL__SIGNAL_COUNT; number++)
        if (shutdown->kind[number])
            numbers[count++] = number;
    twill__action_make(&ours, twill__shutdown_handler, numbers, count);
    for (size_t i = 0; i < count; i++) {
        int number = numbers[i];
        twill__action *old = &shutdown->old[number];
        bool keeps = twill__shutdown_keeps(number);
        if (twill__sigaction(number, NULL, old) != 0)
            break;
        if (parent && parent->installed[number] && twill__action_is(old, twill__shutdown_handler))
            *old = parent->old[number];
        if (keeps && twill__action_is(old, SIG_IGN) && !shutdown->options.take_ignored)
            continue;
        if (twill__sigaction(number, &ours, NULL) != 0)
            break;
        shutdown->installed[number] = true;
        numbers[i] = 0;
    }
    for (size_t i = 0; i < count; i++)
        if (numbers[i] && !twill__action_is(&shutdown->old[numbers[i]], SIG_IGN)) {
            twill__shutdown_restore(shutdown);
            return false;
        }
#if TWILL__CONSOLE
    twill__console_tells(twill__shutdown_console, true);
#endif
    return true;
}
#endif

static inline bool twill__shutdown_bells(twill_shutdown *shutdown)
{
    if (!twill__bell_make(&shutdown->bell))
        return false;
#if TWILL__BELLS
    if (!twill__bell_make(&shutdown->flag)) {
        twill__bell_end(&shutdown->bell);
        return false;
    }
#endif
    return true;
}

static inline void twill__shutdown_bells_end(twill_shutdown *shutdown)
{
    twill__bell_end(&shutdown->bell);
#if TWILL__BELLS
    twill__bell_end(&shutdown->flag);
#endif
}

enum { TWILL__MESSAGE_MOST = 4096 };

/* One block: the object, the actions, the message. */
static inline twill_shutdown *twill__shutdown_make(const twill_shutdown_options *options)
{
    size_t head = (sizeof(twill_shutdown) + 15) / 16 * 16, length = 0, bytes;
    size_t actions = options->action_count * sizeof(twill_signal_action);
    void *memory;
    twill_shutdown *shutdown;
    while (options->message && options->message[length] && length < TWILL__MESSAGE_MOST)
        length++;
    bytes = head + actions + length + TWILL__LINE + sizeof(void *);
    memory = TWILL_MALLOC(bytes);
    if (!memory)
        return NULL;
    memset(memory, 0, bytes);
    shutdown = (twill_shutdown *)(((uintptr_t)memory + sizeof(void *) + TWILL__LINE - 1) /
                                  TWILL__LINE * TWILL__LINE);
    ((void **)(void *)shutdown)[-1] = memory;
    shutdown->options = *options;
    shutdown->actions = (twill_signal_action *)(void *)((char *)shutdown + head);
    if (actions)
        memcpy(shutdown->actions, options->actions, actions);
    if (length)
        memcpy((char *)shutdown->actions + actions, options->message, length);
    shutdown->message = (char *)shutdown->actions + actions;
    shutdown->message_length = length;
    shutdown->home = twill__home_here();
    return shutdown;
}

static inline void twill__shutdown_free(twill_shutdown *shutdown)
{
    twill__shutdown_hook *lists[] = {shutdown->hooks, shutdown->ran};
    for (size_t i = 0; i < 2; i++)
        for (twill__shutdown_hook *hook = lists[i], *next; hook; hook = next) {
            next = hook->earlier;
            TWILL_FREE(hook);
        }
    twill__shutdown_bells_end(shutdown);
    TWILL_FREE(((void **)(void *)shutdown)[-1]);
}

/* Ends both threads. Says whether the watcher has told anybody of a request; from here on it tells
   nobody. */
static inline bool twill__shutdown_join(twill_shutdown *shutdown, bool watcher)
{
    twill__runner *runner;
    bool told;
    twill__lock(&shutdown->lock);
    shutdown->quit = true;
    told = shutdown->told != TWILL_SHUTDOWN_RUNNING;
    twill__shutdown_rouse(shutdown);
    twill__shutdown_unlock(shutdown);
    twill__bell_ring(&shutdown->bell);
    if (watcher)
        twill__thread_join(&shutdown->watcher);
    runner = shutdown->runner; /* nobody is left who changes it */
    if (runner) {
        twill__thread_join(&runner->thread);
        twill_cancel_detach(&runner->token);
        TWILL_FREE(runner);
    }
    shutdown->runner = NULL;
    return told;
}

/* A signal that came, and that nobody was told of: for whoever is there now. */
static inline void twill__shutdown_pass_on(int32_t asked)
{
#if TWILL__SIGNALS
    if (asked < 0)
        raise(-asked);
#else
    (void)asked;
#endif
}

static inline twill_status twill__shutdown_start(twill_shutdown *shutdown,
                                                 const twill_shutdown *parent)
{
    twill_status status = twill__runner_start(shutdown);
    bool watched;
    if (status != TWILL_OK)
        return status;
    twill__lock(&shutdown->lock); /* the watcher lets no signal in before it is handled */
    watched = twill__shutdown_thread(&shutdown->watcher, twill__shutdown_watch, shutdown,
                                     "twill-shutdown");
    if (!watched)
        status = TWILL_NO_THREAD;
#if TWILL__SIGNALS
    if (watched && shutdown->owner) {
        twill__owner_publish(shutdown); /* before the handler: it finds all it needs */
        if (!twill__shutdown_install(shutdown, parent)) {
            twill__owner_publish(NULL);
            status = TWILL_INVALID; /* a number that the system does not let us have */
        }
    }
#else
    (void)parent;
#endif
    shutdown->quit = status != TWILL_OK;
    twill__shutdown_unlock(shutdown);
    if (status != TWILL_OK)
        (void)twill__shutdown_join(shutdown, watched);
    return status;
}

TWILL__DEFINE twill_status twill_shutdown_create(twill_shutdown **out,
                                                 const twill_shutdown_options *given)
{
    static const twill_shutdown_options none;
    twill_shutdown_options options = given ? *given : none;
    uint8_t kind[TWILL__SIGNAL_COUNT] = {0};
    twill_shutdown *shutdown, *parent = NULL;
    int32_t asked;
    bool owner = !options.no_signals;
    twill_status status = TWILL_FAILED;
    if (!out)
        return TWILL_INVALID;
    *out = NULL;
    if (!twill__shutdown_plan(&options) || !twill__shutdown_kinds(kind, &options))
        return TWILL_INVALID;
    if (owner && !TWILL__SIGNALS)
        return TWILL_FAILED;
#if TWILL__SIGNALS
    if (owner) {
        void *claimed = NULL;
        if (!twill__owner_claim(&claimed))
            return TWILL_BUSY;
        parent = (twill_shutdown *)claimed;
        twill__owner_publish(NULL);
    }
#endif
    shutdown = twill__shutdown_make(&options);
    if (!shutdown) {
        status = TWILL_NO_MEMORY;
    } else if (twill__shutdown_bells(shutdown)) {
        shutdown->owner = owner;
        memcpy(shutdown->kind, kind, sizeof kind);
        status = twill__shutdown_start(shutdown, parent);
        if (status == TWILL_OK) {
            *out = shutdown;
            return TWILL_OK;
        }
    }
#if TWILL__SIGNALS
    if (owner)
        twill__owner_leave(); /* and no handler uses the object any more */
#endif
    asked = shutdown ? twill__shutdown_asked(shutdown) : 0;
    if (shutdown && status != TWILL_FAILED)
        twill__shutdown_bells_end(shutdown);
    if (shutdown)
        TWILL_FREE(((void **)(void *)shutdown)[-1]);
    twill__shutdown_pass_on(asked);
    return status;
}

/* ---- destroy ---- */

/* In a child: its threads are not here; whatever they guarded is not looked at. */
static inline void twill__shutdown_destroy_copy(twill_shutdown *shutdown)
{
#if TWILL__SIGNALS
    if (shutdown->owner && twill__owner_forget(shutdown))
        twill__shutdown_restore(shutdown);
#endif
    if (shutdown->runner)
        TWILL_FREE(shutdown->runner);
    twill__shutdown_free(shutdown);
}

TWILL__DEFINE twill_status twill_shutdown_destroy(twill_shutdown *shutdown)
{
    bool busy, told;
    int32_t asked;
    if (!shutdown)
        return TWILL_OK;
    if (!twill__shutdown_here(shutdown)) {
        twill__shutdown_destroy_copy(shutdown);
        return TWILL_FORKED;
    }
    if (twill__shutdown_inside(shutdown))
        return TWILL_DEADLOCK;
    twill__lock(&shutdown->lock);
    busy = shutdown->finishing || shutdown->closed;
    if (!busy) {
        shutdown->closed = true;
        twill__answer_all(&shutdown->waiters, TWILL_CLOSED);
    }
    twill__shutdown_unlock(shutdown);
    if (busy)
        return TWILL_BUSY;
    /* first: a handler that has begun in the watcher finds the object still */
    told = twill__shutdown_join(shutdown, true);
#if TWILL__SIGNALS
    if (shutdown->owner) {
        twill__shutdown_restore(shutdown);
        twill__owner_leave();
    }
#endif
    /* relaxed: see twill__shutdown_answer */
    told |= atomic_load_explicit(&shutdown->seen, memory_order_relaxed) != 0;
    asked = twill__shutdown_asked(shutdown);
    twill__lock(&shutdown->lock);
    if (shutdown->waiters.first || shutdown->firing || twill__lock_wanted(&shutdown->lock)) {
        twill__node me;
        twill__node_init(&me);
        shutdown->destroyer = &me;
        twill__unlock(&shutdown->lock);
        twill__await(&me);
        twill__lock(&shutdown->lock); /* whoever told us has left the section now */
    }
    twill__unlock(&shutdown->lock);
    twill_cancel_detach(&shutdown->cancel_token);
    twill_cancel_detach(&shutdown->drain_token);
    twill__shutdown_free(shutdown);
    twill__shutdown_pass_on(told ? 0 : asked);
    return TWILL_OK;
}

#endif
