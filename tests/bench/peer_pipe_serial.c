/* The serial loop. */
#include "bench_pipe.h"

int main(int argc, char **argv)
{
    return bench_pipe_main(argc, argv, bench_pipe_serial);
}
