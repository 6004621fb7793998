/* mutants.c: linked into a program with mutants, compiled without the explorer's eyes. */
#include <stdlib.h>

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

int mutant_asked(int n);

enum { NUMBERS = 1 << 16 };
static int chosen = -1;
static unsigned char *hits;

__attribute__((constructor(101))) static void mutant_begin(void)
{
    const char *name = getenv("MUTANT"), *file = getenv("MUTANT_HITS");
    int descriptor = file ? open(file, O_RDWR | O_CREAT, 0666) : -1;
    void *place;

    if (name)
        chosen = atoi(name);
    if (descriptor >= 0 && ftruncate(descriptor, NUMBERS) != 0)
        abort();
    place = mmap(NULL, NUMBERS, PROT_READ | PROT_WRITE,
                 descriptor >= 0 ? MAP_SHARED : MAP_PRIVATE | MAP_ANONYMOUS, descriptor, 0);
    if (place == MAP_FAILED)
        abort();
    hits = place;
    if (descriptor >= 0)
        close(descriptor);
}

int mutant_asked(int n)
{
    hits[n] = 1;
    return n == chosen;
}
