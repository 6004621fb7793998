// Rust's channels: crossbeam's bounded one, and the standard library's sync_channel (one consumer).
// usage: peer_crossbeam queue|queue_std producers consumers capacity items | resource threads resources pairs | pipeline items steps capacity
use std::env;
use std::process::exit;
use std::thread;
use std::time::Instant;

fn number(k: usize, otherwise: u64) -> u64 {
    env::args().nth(k).and_then(|text| text.parse().ok()).unwrap_or(otherwise)
}

fn report(what: &str, ns: f64) {
    println!("{} {:.3}", what, ns);
}

fn wrong(what: &str, at: u64) -> ! {
    eprintln!("WRONG RESULT: {} at {}", what, at);
    exit(3)
}

// producer k of p sends these
fn share(items: u64, k: u64, p: u64) -> std::ops::Range<u64> {
    items * k / p..items * (k + 1) / p
}

fn queue() {
    let (p, c) = (number(2, 1), number(3, 1));
    let (capacity, items) = (number(4, 1024) as usize, number(5, 1000000));
    let (to, from) = crossbeam_channel::bounded::<u64>(capacity);
    let start = Instant::now();
    let consumers: Vec<_> = (0..c)
        .map(|_| {
            let from = from.clone();
            thread::spawn(move || from.iter().fold((0u64, 0u64), |(n, s), v| (n + 1, s + v)))
        })
        .collect();
    let producers: Vec<_> = (0..p)
        .map(|k| {
            let to = to.clone();
            thread::spawn(move || share(items, k, p).for_each(|v| to.send(v).unwrap()))
        })
        .collect();
    drop(to);
    producers.into_iter().for_each(|t| t.join().unwrap());
    let (mut got, mut sum) = (0, 0);
    for t in consumers {
        let (n, s) = t.join().unwrap();
        got += n;
        sum += s;
    }
    finish(start, items, got, sum);
}

// a pool: the channel holds what is free
fn resource() {
    let (threads, resources) = (number(2, 1), number(3, 1));
    let each = number(4, 1000000) / threads;
    let (give, take) = crossbeam_channel::bounded::<Box<u64>>(resources as usize);
    (0..resources).for_each(|_| give.send(Box::new(0)).unwrap());
    let start = Instant::now();
    let users: Vec<_> = (0..threads)
        .map(|_| {
            let (give, take) = (give.clone(), take.clone());
            thread::spawn(move || {
                for _ in 0..each {
                    let mut r = take.recv().unwrap();
                    *r += 1;
                    give.send(r).unwrap();
                }
            })
        })
        .collect();
    users.into_iter().for_each(|t| t.join().unwrap());
    let took = start.elapsed();
    let total: u64 = (0..resources).map(|_| *take.recv().unwrap()).sum();
    if total != each * threads {
        wrong("the sum of uses", total);
    }
    report("ns/pair", took.as_nanos() as f64 / total as f64);
}

fn queue_std() {
    let p = number(2, 1);
    let (capacity, items) = (number(4, 1024) as usize, number(5, 1000000));
    let (to, from) = std::sync::mpsc::sync_channel::<u64>(capacity);
    let start = Instant::now();
    let consumer = thread::spawn(move || from.iter().fold((0u64, 0u64), |(n, s), v| (n + 1, s + v)));
    let producers: Vec<_> = (0..p)
        .map(|k| {
            let to = to.clone();
            thread::spawn(move || share(items, k, p).for_each(|v| to.send(v).unwrap()))
        })
        .collect();
    drop(to);
    producers.into_iter().for_each(|t| t.join().unwrap());
    let (got, sum) = consumer.join().unwrap();
    finish(start, items, got, sum);
}

fn finish(start: Instant, items: u64, got: u64, sum: u64) {
    let took = start.elapsed();
    if got != items || sum != items * (items - 1) / 2 {
        wrong("queue", got);
    }
    report("ns/item", took.as_nanos() as f64 / items as f64);
}

#[inline(never)]
fn work(mut x: u64, steps: u64) -> u64 {
    for _ in 0..steps {
        x = x.wrapping_mul(2862933555777941757).wrapping_add(3037000493);
        // as in C: no two steps may be merged
        unsafe {
            std::arch::asm!("/* {0} */", inout(reg) x, options(nomem, nostack, preserves_flags))
        };
    }
    x
}

// a thread for each of three stages
fn pipeline() {
    let (items, steps, capacity) = (number(2, 1000000), number(3, 70), number(4, 1024) as usize);
    let (to_b, from_a) = crossbeam_channel::bounded::<u64>(capacity);
    let (to_c, from_b) = crossbeam_channel::bounded::<u64>(capacity);
    let start = Instant::now();
    let a = thread::spawn(move || {
        (0..items).fold(0u64, |hash, i| {
            let hash = work(hash ^ i, steps);
            to_b.send(hash).unwrap();
            hash
        })
    });
    let b = thread::spawn(move || {
        from_a.iter().fold(0u64, |hash, v| {
            let hash = work(hash ^ v, steps);
            to_c.send(hash).unwrap();
            hash
        })
    });
    let hash = from_b.iter().fold(0u64, |hash, v| work(hash ^ v, steps));
    a.join().unwrap();
    b.join().unwrap();
    let took = start.elapsed();
    let (mut x, mut y, mut z) = (0u64, 0u64, 0u64);
    for i in 0..items {
        x = work(x ^ i, steps);
        y = work(y ^ x, steps);
        z = work(z ^ y, steps);
    }
    if hash != z {
        wrong("pipeline", 0);
    }
    report("ns/item", took.as_nanos() as f64 / items as f64);
}

fn main() {
    match env::args().nth(1).unwrap_or_default().as_str() {
        "queue" => queue(),
        "queue_std" => queue_std(),
        "resource" => resource(),
        "pipeline" => pipeline(),
        _ => exit(2),
    }
}
