// Rust with rayon: parallel iterators on its global pool.
// usage: peer_rust map n [worst] | skew u|d|p n
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
        _ => {
            eprintln!("usage: peer_rust map n [worst] | skew u|d|p n");
            exit(2)
        }
    }
}
