/* entry.c: main() of every program under the explorer, linked into it; the rest is a library, so
   that the variables between these two marks are the program's alone. */
extern int explore_main(int, char **, int (*)(int, char **), char *, char *);
extern int explore_program(int, char **);
extern char __data_start[], _end[];

int main(int count, char **list)
{
    return explore_main(count, list, explore_program, __data_start, _end);
}
