/* example.c: a program of your own under the explorer. A box for one letter, with POSIX threads: it
   passes every stress test, and it is wrong.

       tests/explore/explore-cc -o example tests/explore/example.c
       ./example                                        # 100 000 schedules, until one fails
       ./example --svg=letter.svg                       # the failure as a picture
       tests/explore/explore-cc -DRIGHT -o example tests/explore/example.c
       ./example --strategy=exhaustive --preemptions=2  # all schedules with at most two preemptions

   Nothing here knows of the explorer: it is built as well with cc -pthread. */
#undef NDEBUG
#include <assert.h>
#include <pthread.h>
#include <stdlib.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static char *letter;

static void put(char *text)
{
    pthread_mutex_lock(&lock);
    while (letter)
        pthread_cond_wait(&changed, &lock);
    letter = text;
#ifdef RIGHT
    pthread_cond_broadcast(&changed);
#else
    pthread_cond_signal(&changed); /* wakes one: perhaps another one that wants to put */
#endif
    pthread_mutex_unlock(&lock);
}

static char *get(void)
{
    char *text;

    pthread_mutex_lock(&lock);
    while (!letter)
        pthread_cond_wait(&changed, &lock);
    text = letter;
    letter = NULL;
#ifdef RIGHT
    pthread_cond_broadcast(&changed);
#else
    pthread_cond_signal(&changed);
#endif
    pthread_mutex_unlock(&lock);
    return text;
}

static void *writer(void *unused)
{
    (void)unused;
    put(malloc(1));
    return NULL;
}

static void *reader(void *unused)
{
    (void)unused;
    free(get());
    return NULL;
}

int main(void)
{
    pthread_t threads[6];

    for (int i = 0; i < 6; i++)
        assert(pthread_create(&threads[i], NULL, i < 3 ? reader : writer, NULL) == 0);
    for (int i = 0; i < 6; i++)
        pthread_join(threads[i], NULL);
    return 0;
}
