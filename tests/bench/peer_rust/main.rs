// Rust with rayon: parallel iterators on its global pool.
// usage: peer_rust map n [worst] | skew u|d|p n
//     | reduce n | filter n | find n middle|none | sort[-unstable] n random|nearly | records[-unstable] n
//     | nest outer inner steps
use rayon::prelude::*;
use std::env;
use std::process::exit;
use std::time::{Duration, Instant};

fn setting(name: &str, otherwise: u64) -> u64 {
    let value = env::var(name).ok().and_then(|text| text.parse().ok());
    value.filter(|v| *v > 0).unwrap_or(otherwise)
}

fn report(what: &str, ns: f64) {
    println!("{} {:.3}", what, ns);
}

fn wrong(what: &str, at: usize) -> ! {
    eprintln!("WRONG RESULT: {} at {}", what, at);
    exit(3)
}

// the loops of bench.h

#[inline(never)]
fn batch(call: &mut dyn FnMut(), calls: u64) -> Duration {
    let start = Instant::now();
    for _ in 0..calls {
        call();
    }
    start.elapsed()
}

fn mean(call: &mut dyn FnMut()) {
    let budget = setting("BENCH_MS", 50) as f64 * 1e6;
    let mut calls = setting("BENCH_CALLS", 0);
    if calls > 0 {
        batch(call, calls / 10 + 1);
    } else {
        let (mut spent, mut best) = (0.0, f64::INFINITY);
        calls = 1;
        while spent < budget {
            let took = batch(call, calls).as_nanos() as f64;
            spent += took;
            best = (took / calls as f64).min(best);
            calls *= 2;
        }
        calls = (budget / best) as u64 + 1;
    }
    report("ns/call", batch(call, calls).as_nanos() as f64 / calls as f64);
}

fn longest(call: &mut dyn FnMut()) {
    let least = Duration::from_millis(setting("BENCH_MS", 50));
    for _ in 0..10 {
        call();
    }
    let mut worst = Duration::ZERO;
    let start = Instant::now();
    let mut before = start;
    while before - start < least {
        call();
        let after = Instant::now();
        worst = worst.max(after - before);
        before = after;
    }
    report("worst-ns/call", worst.as_nanos() as f64);
}

fn work(mut x: u64, steps: u32) -> u64 {
    for _ in 0..steps {
        x = x.wrapping_mul(2862933555777941757).wrapping_add(3037000493);
        // as in C: no two steps may be merged
        unsafe {
            std::arch::asm!("/* {0} */", inout(reg) x, options(nomem, nostack, preserves_flags))
        };
    }
    x
}

fn scramble(x: u64) -> u64 {
    let mut y = x.wrapping_add(0x632be59bd9b4e019).wrapping_mul(0xd1342543de82ef95);
    y ^= y >> 32;
    y = y.wrapping_mul(0xaf251af3b0f025b5);
    y ^ (y >> 29)
}

fn cost(shape: u8, i: usize, n: usize) -> u32 {
    match shape {
        b'u' => (2500 * i / n) as u32,
        b'd' => (2500 * (n - i) / n) as u32,
        _ => ((50u64 << 24) / ((scramble(i as u64) >> 40) + 1)).min(500000) as u32,
    }
}

fn map(n: usize, worst: bool) {
    assert!(n > 0);
    let input: Vec<u32> = (1..=n as u32).collect();
    let mut output = vec![0u32; n];
    {
        let mut call = || {
            output.par_iter_mut().zip(input.par_iter()).for_each(|(o, i)| *o = i.wrapping_mul(*i))
        };
        if worst {
            longest(&mut call);
        } else {
            mean(&mut call);
        }
    }
    output.fill(0);
    output.par_iter_mut().zip(input.par_iter()).for_each(|(o, i)| *o = i.wrapping_mul(*i));
    for (at, (o, i)) in output.iter().zip(input.iter()).enumerate() {
        if *o != i.wrapping_mul(*i) {
            wrong("map", at);
        }
    }
}

fn skew(shape: u8, n: usize) {
    assert!(n > 0);
    let mut output = vec![0u64; n];
    let item = |(i, o): (usize, &mut u64)| *o = work(i as u64, cost(shape, i, n));
    mean(&mut || output.par_iter_mut().enumerate().for_each(item));
    output.iter_mut().for_each(|o| *o = !*o);
    output.par_iter_mut().enumerate().for_each(item);
    for (i, o) in output.iter().enumerate() {
        if *o != work(i as u64, cost(shape, i, n)) {
            wrong("skew", i);
        }
    }
}

// the data of bench_algorithms.h

fn numbers(n: usize) -> Vec<u32> {
    (0..n).map(|i| (scramble(i as u64) >> 16) as u32 | 1 << 31).collect()
}

fn reduce(n: usize) {
    let terms: Vec<f64> =
        (0..n).map(|i| (scramble(i as u64) >> 11) as f64 / (1u64 << 53) as f64).collect();
    let mut sum = 0.0;
    mean(&mut || sum = terms.par_iter().sum());
    sum = -1.0;
    let mut call = || sum = terms.par_iter().sum();
    call();
    let total: f64 = terms.iter().sum();
    if (sum - total).abs() > total * 1e-11 {
        wrong("sum", 0);
    }
}

fn filter(n: usize) {
    let input: Vec<u32> = numbers(n).into_iter().map(|x| x ^ 1 << 31).collect();
    let mut output: Vec<u32> = Vec::with_capacity(n);
    let mut call = || {
        output.clear();
        output.par_extend(input.par_iter().filter(|x| **x & 1 != 0).copied());
    };
    mean(&mut call);
    call();
    if output != input.iter().filter(|x| **x & 1 != 0).copied().collect::<Vec<u32>>() {
        wrong("filter", 0);
    }
}

fn find(n: usize, place: &str) {
    let mut input = numbers(n);
    let mut found = Some(n + 1);
    if place == "middle" {
        input[n / 2] = 5;
    }
    mean(&mut || found = input.par_iter().position_first(|x| *x == 5));
    found = Some(n + 1);
    let mut call = || found = input.par_iter().position_first(|x| *x == 5);
    call();
    if found != input.iter().position(|x| *x == 5) {
        wrong("find", 0);
    }
}

fn sort(n: usize, shape: &str, stable: bool) {
    let mut input = numbers(n);
    if shape == "nearly" {
        input = (0..n as u32).map(|i| i * 2).collect();
        for i in 0..(n / 200) as u64 {
            let (a, b) = (scramble(2 * i) as usize % n, scramble(2 * i + 1) as usize % n);
            input.swap(a, b);
        }
    }
    let mut output = vec![0u32; n];
    let mut call = || {
        output.copy_from_slice(&input);
        if stable {
            output.par_sort();
        } else {
            output.par_sort_unstable();
        }
    };
    mean(&mut call);
    call();
    input.sort();
    if output != input {
        wrong("sort", 0);
    }
}

#[derive(Clone, Copy, Default, PartialEq)]
struct Record {
    key: u64,
    place: u64,
    rest: [u64; 6],
}

fn records(n: usize, stable: bool) {
    let mut input = vec![Record::default(); n];
    for (i, record) in input.iter_mut().enumerate() {
        record.key = scramble(i as u64) % n as u64;
        record.place = i as u64;
        record.rest[5] = !record.place;
    }
    let mut output = input.clone();
    let mut call = || {
        output.copy_from_slice(&input);
        if stable {
            output.par_sort_by(|a, b| a.key.cmp(&b.key));
        } else {
            output.par_sort_unstable_by(|a, b| a.key.cmp(&b.key));
        }
    };
    mean(&mut call);
    call();
    if !stable {
        output.sort_by_key(|r| (r.key, r.place));
    }
    input.sort_by_key(|r| r.key);
    if output != input {
        wrong("records", 0);
    }
}

fn nest(outer: usize, inner: usize, steps: u32) {
    let mut cells = vec![0u64; outer * inner];
    let row = |(r, cols): (usize, &mut [u64])| {
        let item = |(c, cell): (usize, &mut u64)| *cell = work((r * inner + c) as u64, steps);
        cols.par_iter_mut().enumerate().for_each(item)
    };
    mean(&mut || cells.par_chunks_mut(inner).enumerate().for_each(row));
    cells.iter_mut().for_each(|cell| *cell = !*cell);
    cells.par_chunks_mut(inner).enumerate().for_each(row);
    for (i, cell) in cells.iter().enumerate() {
        if *cell != work(i as u64, steps) {
            wrong("nested loop", i);
        }
    }
}

fn main() {
    let args: Vec<String> = env::args().collect();
    if let Ok(threads) = env::var("BENCH_THREADS") {
        let threads = threads.parse().unwrap_or(0);
        rayon::ThreadPoolBuilder::new().num_threads(threads).build_global().unwrap();
    }
    match args.iter().map(String::as_str).collect::<Vec<_>>()[1..] {
        ["map", n] => map(n.parse().unwrap(), false),
        ["map", n, "worst"] => map(n.parse().unwrap(), true),
        ["skew", shape, n] => skew(shape.as_bytes()[0], n.parse().unwrap()),
        ["reduce", n] => reduce(n.parse().unwrap()),
        ["filter", n] => filter(n.parse().unwrap()),
        ["find", n, place] => find(n.parse().unwrap(), place),
        ["sort", n, shape] => sort(n.parse().unwrap(), shape, true),
        ["sort-unstable", n, shape] => sort(n.parse().unwrap(), shape, false),
        ["records", n] => records(n.parse().unwrap(), true),
        ["records-unstable", n] => records(n.parse().unwrap(), false),
        ["nest", a, b, steps] => {
            nest(a.parse().unwrap(), b.parse().unwrap(), steps.parse().unwrap())
        }
        _ => {
            eprintln!("usage: the first lines of main.rs");
            exit(2)
        }
    }
}
