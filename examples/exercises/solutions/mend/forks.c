/* Solution: three philosophers. The task is in ../../mend/forks.c. */
#include <pthread.h>
#include <stddef.h>

static pthread_mutex_t forks[3] = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_MUTEX_INITIALIZER,
                                   PTHREAD_MUTEX_INITIALIZER};
static int meals[3];

static void *dine(void *arg)
{
    int me = *(int *)arg, left = me, right = (me + 1) % 3;
    /* Always the lower number first. A circle would need somebody who holds a higher fork while he
       waits for a lower one; without such a one whoever holds the highest can go on. */
    int first = left < right ? left : right, second = left < right ? right : left;
    pthread_mutex_lock(&forks[first]);
    pthread_mutex_lock(&forks[second]);
    meals[me]++;
    pthread_mutex_unlock(&forks[second]);
    pthread_mutex_unlock(&forks[first]);
    return NULL;
}

int main(void)
{
    pthread_t philosophers[3];
    int number[3] = {0, 1, 2};
    for (int i = 0; i < 3; i++)
        pthread_create(&philosophers[i], NULL, dine, &number[i]);
    for (int i = 0; i < 3; i++)
        pthread_join(philosophers[i], NULL);
    return meals[0] + meals[1] + meals[2] != 3;
}
