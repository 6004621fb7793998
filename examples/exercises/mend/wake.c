/* Mend 5: a wake that nobody hears.
 *
 *     make exercises E=mend/wake
 *
 * One thread waits until there is a letter, another one brings it. It works a thousand times; then
 * the reader sleeps for ever. Find out when, from the lanes of the report, and mend it.
 *
 * Hints: a signal is heard by those who wait at that moment, and by nobody later. So the question
 * and the falling asleep must be one step for the one who brings: both under the lock under which
 * the letter is brought. And why `while`, not `if`?
 */
/* not solved yet: delete this line when you have mended it */
#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static atomic_int letters;

static void *read_one(void *unused)
{
    while (letters == 0) {
        pthread_mutex_lock(&lock);
        pthread_cond_wait(&changed, &lock);
        pthread_mutex_unlock(&lock);
    }
    letters--;
    return unused;
}

static void *bring_one(void *unused)
{
    letters++;
    pthread_cond_signal(&changed);
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
