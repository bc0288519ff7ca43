//! How fast HTTP starts can go: POSTs of 256 bytes that are answered 204, in several ways beside one
//! another against the same server.
//!
//!     cargo run --release -p sendoff --features testing --example http_starts -- [--NAME VALUE]...
//!
//! As raw bytes over sockets, which no HTTP client can beat; over hyper connections that send one
//! prepared request; through `Starter::start` alone; and as jobs of the whole engine, with records, on
//! the memory store and on SQLite. The jobs are submitted to a paused queue, and the time counts from
//! its opening to the last outcome stored. Prints starts per second and this process's CPU time for one,
//! of each round and as medians, and the ratios to raw bytes.
//!
//! Names and defaults: `starts 100000`, `rounds 3`, `connections 64`, `delay 0` milliseconds that the
//! server waits before it answers, `threads 2` of the engine's runtime, `only WORD,WORD` of the ways'
//! names, and `against ADDRESS` of another server, which answers 204 to anything; without it one is
//! started, a process of its own that does nothing but answer.

mod ours;
mod raw;
mod server;

use std::{fmt, net::SocketAddr};

use sendoff::time::{Clock, SystemClock};
use server::Server;
use tokio::runtime::Runtime;

const BODY: usize = 256;
const WAYS: [&str; 5] = ["bytes", "hyper", "starter", "memory", "sqlite"];

/// What is asked for.
#[derive(Clone)]
struct Sizes {
    starts: usize,
    rounds: usize,
    connections: usize,
    delay: u64,
    threads: usize,
    only: Vec<String>,
    against: Option<SocketAddr>,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let mut sizes = Sizes {
        starts: 100_000,
        rounds: 3,
        connections: 64,
        delay: 0,
        threads: 2,
        only: Vec::new(),
        against: None,
    };
    while let Some(name) = arguments.next() {
        let value = arguments.next().ok_or_else(|| format!("{name} needs a value"))?;
        match name.as_str() {
            "serve" => return Ok(server::serve(value.parse()?)?),
            "--starts" => sizes.starts = value.parse()?,
            "--rounds" => sizes.rounds = value.parse()?,
            "--connections" => sizes.connections = value.parse()?,
            "--delay" => sizes.delay = value.parse()?,
            "--threads" => sizes.threads = value.parse()?,
            "--only" => sizes.only = value.split(',').map(str::to_owned).collect(),
            "--against" => sizes.against = Some(value.parse()?),
            other => return Err(format!("no such name: {other}").into()),
        }
    }
    let server = match sizes.against {
        None => Some(Server::start(sizes.delay)?),
        Some(_) => None,
    };
    let address = server.as_ref().map(|server| server.address).or(sizes.against).ok_or("no server")?;

    let wanted = |way: &&str| sizes.only.is_empty() || sizes.only.iter().any(|only| only == way);
    let ways: Vec<&str> = WAYS.into_iter().filter(wanted).collect();
    let mut all: Vec<Vec<Measured>> = vec![Vec::new(); ways.len()];
    for round in 1..=sizes.rounds {
        for (way, measured) in ways.iter().zip(&mut all) {
            let one = go(way, address, &sizes)?;
            println!("round {round}  {way:8} {one}");
            measured.push(one);
        }
    }
    let medians: Vec<Measured> = all.iter().map(|measured| median(measured)).collect();
    for (way, ours) in ways.iter().zip(&medians) {
        let (rate, cpu) = (ours.rate / medians[0].rate, ours.cpu - medians[0].cpu);
        println!("median   {way:8} {ours}   {rate:.3} of {} by rate, {cpu:+.2} us CPU", ways[0]);
    }
    Ok(())
}

fn go(way: &str, address: SocketAddr, sizes: &Sizes) -> Result<Measured, Box<dyn std::error::Error>> {
    let one = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (starts, connections) = (sizes.starts, sizes.connections);
    Ok(match way {
        "bytes" => measure(&one, starts, raw::bytes(address, starts, connections)),
        "hyper" => measure(&one, starts, raw::through_hyper(address, starts, connections)),
        "starter" => measure(&one, starts, ours::through_starter(address, starts, connections)),
        _ => {
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .worker_threads(sizes.threads)
                .enable_all()
                .build()?;
            let engine = runtime.block_on(ours::Engine::new(way, address, starts, connections))?;
            let measured = measure(&runtime, starts, engine.go());
            runtime.block_on(engine.check(starts))?;
            measured
        }
    })
}

/// Starts per second, and microseconds of this process's CPU time for each.
#[derive(Clone, Copy)]
struct Measured {
    rate: f64,
    cpu: f64,
}

impl fmt::Display for Measured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:>7.0}/s ({:>5.2} us CPU)", self.rate, self.cpu)
    }
}

fn measure(runtime: &Runtime, starts: usize, work: impl Future<Output = ()>) -> Measured {
    let cpu = || {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
        time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
    };
    let (wall_before, cpu_before) = (SystemClock.elapsed(), cpu());
    runtime.block_on(work);
    let (wall, cpu) = ((SystemClock.elapsed() - wall_before).as_secs_f64(), cpu() - cpu_before);
    Measured { rate: starts as f64 / wall, cpu: cpu * 1e6 / starts as f64 }
}

fn median(all: &[Measured]) -> Measured {
    let middle = |figure: fn(&Measured) -> f64| {
        let mut figures: Vec<f64> = all.iter().map(figure).collect();
        figures.sort_by(f64::total_cmp);
        figures[figures.len() / 2]
    };
    Measured { rate: middle(|one| one.rate), cpu: middle(|one| one.cpu) }
}
