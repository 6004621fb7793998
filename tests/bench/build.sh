#!/bin/sh
# build.sh - builds the contenders that this machine has the tools for into build/bench/, or into
# $BENCH_BUILD. What is missing is skipped with one line that names the Debian packages. Only what
# has changed is built. May be set: CC, CXX, GCC (for libgomp), CLANG (for libomp), BENCH_CFLAGS,
# BENCH_CRATES, BENCH_PATTERNS (a folder with other twill headers). Leaves with 1 only if something
# that should build did not.
set -u
here=$(cd "$(dirname "$0")" && pwd) || exit 1
root=$(cd "$here/../.." && pwd) || exit 1
out=${BENCH_BUILD:-$root/build/bench}
mkdir -p "$out" || exit 1
cc=${CC:-cc} cxx=${CXX:-c++} clang=${CLANG:-clang}
warn='-Wall -Wextra -Wconversion -Wshadow'
flags=${BENCH_CFLAGS:--O3}
failed=0

# skip NAME: the one line
skip() {
    packages=$(awk -v name="$1" '$1 == name { sub(/^[^ ]+ /, ""); print }' "$here/packages.txt")
    echo "bench: skipping $1: needs $packages (Debian)"
}

# probe NAME SUFFIX LINE COMMAND...: can COMMAND build a source with LINE in it? A yes is kept.
probe() {
    name=$1 suffix=$2 line=$3
    shift 3
    [ -e "$out/probe_$name.ok" ] && return 0
    printf '%s\nint main(void) { return 0; }\n' "$line" >"$out/probe_$name.$suffix"
    if "$@" "$out/probe_$name.$suffix" -o "$out/probe_$name" >/dev/null 2>&1; then
        : >"$out/probe_$name.ok"
        return 0
    fi
    skip "$name"
    return 1
}

# fresh PROGRAM SOURCE...: is it newer than all that it is made of?
fresh() {
    target=$1
    shift
    [ -x "$target" ] && [ -z "$(find "$@" "$here"/bench*.h "$here/build.sh" -newer "$target")" ]
}

# make PROGRAM SOURCE WORDS... [-- LIBRARIES...]: runs WORDS SOURCE -o PROGRAM LIBRARIES
make() {
    program=$out/$1 source=$here/$2
    shift 2
    fresh "$program" "$source" && return 0
    front=
    while [ $# -gt 0 ] && [ "$1" != -- ]; do
        front="$front $1"
        shift
    done
    [ $# -gt 0 ] && shift
    # shellcheck disable=SC2086 # the words of the command are meant to be split
    if ! $front "$source" -o "$program" "$@"; then
        rm -f "$program"
        echo "bench: FAILED to build $(basename "$program")"
        failed=1
    fi
}

c="-std=c11 $flags $warn -pthread"
cpp="-std=c++17 $flags $warn -pthread"
openmp='#include <omp.h>'

# shellcheck disable=SC2086
{
    make serial peer_serial.c $cc $c
    make algorithms_serial peer_algorithms_serial.c $cc $c
    make threads peer_threads.c $cc $c
    make counter peer_counter.c $cc $c
    make queue_mutex peer_queue_mutex.c $cc $c
    make limiter_mutex peer_limiter.c $cc $c
    make pool_mutex peer_pool_mutex.c $cc $c
    make pipe_serial peer_pipe_serial.c $cc $c
    make resource_mutex peer_resource_mutex.c $cc $c
    make resource_floor row_resource_floor.c $cc $c
    make map_floor row_map_floor.c $cc $c
    make queue_floor row_queue_floor.c $cc $c
    make cells_floor row_cells_floor.c $cc $c
    make fan_floor row_fan_floor.c $cc $c
    make timeout_thread peer_timeout_thread.c $cc $c
    make peer_shutdown peer_shutdown_cond.c $cc $c
    probe cxx cpp '#include <future>' $cxx -c &&
        make timeout_async peer_timeout_async.cpp $cxx $cpp
    probe libgomp c "$openmp" ${GCC:-gcc} -fopenmp &&
        make libgomp peer_openmp.c ${GCC:-gcc} $c -fopenmp &&
        make algorithms_libgomp peer_algorithms_openmp.c ${GCC:-gcc} $c -Wno-maybe-uninitialized -fopenmp &&
        make pool_libgomp peer_pool_openmp.c ${GCC:-gcc} $c -fopenmp
    probe libomp c "$openmp" $clang -fopenmp=libomp &&
        make libomp peer_openmp.c $clang $c -fopenmp=libomp &&
        make algorithms_libomp peer_algorithms_openmp.c $clang $c -fopenmp=libomp -- -lm
    probe gnu-parallel cpp '#include <parallel/algorithm>' $cxx -fopenmp -c &&
        make algorithms_gnu peer_algorithms_std.cpp $cxx $cpp -fopenmp -DBENCH_GNU
    tbb_flags=$(pkg-config --cflags tbb 2>/dev/null)
    tbb_libs=$(pkg-config --libs tbb 2>/dev/null || echo -ltbb)
    probe tbb cpp '#include <tbb/parallel_for.h>' $cxx $tbb_flags -c &&
        make tbb peer_tbb.cpp $cxx $cpp $tbb_flags -- $tbb_libs &&
        make pipe_tbb peer_pipe_tbb.cpp $cxx $cpp $tbb_flags -- $tbb_libs &&
        make pool_tbb peer_pool_tbb.cpp $cxx $cpp $tbb_flags -- $tbb_libs &&
        make algorithms_tbb peer_algorithms_tbb.cpp $cxx $cpp $tbb_flags -- $tbb_libs
    probe std-par cpp '#include <execution>' $cxx -std=c++17 $tbb_flags -c &&
        make algorithms_std peer_algorithms_std.cpp $cxx $cpp $tbb_flags -- $tbb_libs
    probe pthreadpool c '#include <pthreadpool.h>' $cc -c &&
        make pthreadpool peer_pthreadpool.c $cc $c -- -lpthreadpool
}

# ---- Go: x/time from Debian's copy ----
go_path=${BENCH_GOPATH:-/usr/share/gocode} go_sources=${BENCH_GOPATH:-/usr/share/gocode}/src
# go_build PROGRAM SOURCE
go_build() {
    fresh "$out/$1" "$here/$2" && return 0
    (cd "$here" && GO111MODULE=off GOCACHE="$out/go-cache" go build -o "$out/$1" "$2") && return 0
    echo "bench: FAILED to build $1"
    failed=1
}
if ! command -v go >/dev/null 2>&1; then
    skip go
else
    go_build go peer_go.go
    go_build queue_go peer_queue_go.go
    go_build pool_go peer_pool_go.go
    go_build fan_go peer_fan_go.go
    go_build resource_go peer_resource_go.go
    if [ -e "$go_sources/golang.org/x/time/rate" ]; then
        GOPATH=$go_path go_build limiter_go peer_limiter_go.go
    else
        skip go-time
    fi
    go_build pipe_go peer_pipe_go.go
fi

# ---- Rust: from Debian's copies of the crates, without the network ----
# rust_build NAME FOLDER CRATE: cargo writes a lock file beside its sources: hence a copy of them
crates=${BENCH_CRATES:-/usr/share/cargo/registry}
rust_build() {
    if ! command -v cargo >/dev/null 2>&1 || ! ls -d "$crates/$3"-[0-9]* >/dev/null 2>&1; then
        skip "$1"
        return 0
    fi
    fresh "$out/$1" "$here/$2/main.rs" "$here/$2/Cargo.toml" && return 0
    mkdir -p "$out/$2"
    cp "$here/$2/main.rs" "$here/$2/Cargo.toml" "$out/$2/"
    (cd "$out/$2" &&
        cargo build --quiet --release --offline --target-dir target \
            --config 'source.crates-io.replace-with="debian"' \
            --config "source.debian.directory=\"$crates\"" &&
        cp "target/release/$2" "$out/$1") && return 0
    echo "bench: FAILED to build $1"
    failed=1
}
rust_build rayon peer_rust rayon
rust_build crossbeam peer_crossbeam crossbeam-channel

# ---- tqdm: the first python that has it ----
rm -f "$out/tqdm"
for python in python3 /usr/bin/python3; do
    "$python" -c 'import tqdm' 2>/dev/null || continue
    printf '#!/bin/sh\nexec %s "%s/peer_tqdm.py" "$@"\n' "$python" "$here" >"$out/tqdm"
    chmod +x "$out/tqdm"
    break
done
[ -x "$out/tqdm" ] || skip tqdm

# ---- twill itself: any program of ours whose header is there ----
patterns=${BENCH_PATTERNS:-$root/patterns}
twill() {
    program=$1
    if [ ! -e "$patterns/$2" ]; then
        echo "bench: skipping $program: there is no $2 in ${patterns#"$root"/}"
        return 0
    fi
    # a program of ours may include any of the headers
    fresh "$out/$program" "$patterns"/*.h || rm -f "$out/$program"
    # shellcheck disable=SC2086
    make "$program" "$program.c" $cc $c -Wpedantic -I"$patterns"
}
twill twill_map twill_parallel_map.h
twill twill_algorithms twill_parallel_map.h
twill twill_progress twill_progress_tracker.h
twill twill_queue twill_producer_consumer.h
twill twill_batch twill_batch_processing.h
twill twill_fan twill_fan_out_fan_in.h
twill twill_limiter twill_rate_limiter.h
twill twill_pool twill_worker_pool.h
twill twill_load twill_worker_pool.h
twill twill_pipe twill_pipeline.h
twill twill_timeout twill_timeout_fallback.h
twill twill_resource twill_resource_pool.h
twill twill_shutdown twill_graceful_shutdown.h

exit $failed
