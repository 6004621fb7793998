/* Solution: a wake that nobody hears. The task is in ../../mend/wake.c. */
#include <pthread.h>
#include <stddef.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static int letters; /* under the lock, so it need not be atomic */

static void *read_one(void *unused)
{
    pthread_mutex_lock(&lock);
    /* Nobody can bring a letter between the question and the sleep: wait gives the lock back in the
       moment in which it falls asleep. `while`: it may wake without a reason, and somebody else may
       have taken the letter first. */
    while (letters == 0)
        pthread_cond_wait(&changed, &lock);
    letters--;
    pthread_mutex_unlock(&lock);
    return unused;
}

static void *bring_one(void *unused)
{
    pthread_mutex_lock(&lock);
    letters++;
    pthread_mutex_unlock(&lock);
    pthread_cond_signal(&changed); /* after unlocking: who wakes finds the lock free */
    return unused;
}

int main(void)
{
    pthread_t reader, postman;
    pthread_create(&reader, NULL, read_one, NULL);
    pthread_create(&postman, NULL, bring_one, NULL);
    pthread_join(reader, NULL);
    pthread_join(postman, NULL);
    return letters != 0;
}
