//! How fast a fleet on one PostgreSQL is, beside bare PostgreSQL with the same table, indexes and
//! commits, all in one run.
//!
//! `cargo run --release -p sendoff --example fleet_load -- [--NAME VALUE]...`
//!
//! Starts a server of its own, or uses the empty database at `--url`. Each node is a process: this
//! program again. Names and defaults: `jobs 60000` of each measurement but the backlog's, `backlog
//! 200000`, `nodes 1,2,4`, `rounds 3` (their medians are shown), `delay 0` (milliseconds that each
//! start takes), `seconds 10` of 200 submits a second, `idle 20` seconds of doing nothing, `set
//! NAME=VALUE` of the server's own settings (may be given often), `only WORD` of the rows' names.

mod fleet;
mod node;
mod raw;
mod server;
mod table;

use fleet::{Fleet, Serves};
use raw::Raw;
use server::Server;
use table::Table;

/// A job's label, so that its request has about 200 bytes.
const PADDING: &str = "0000000000000000000000000000000000000000000000000000000000000000000000\
                       0000000000000000000000000000000000000000000000000000000000000000000000";
const BATCH: usize = 1_000;
const CALLERS: usize = 64;
const HOUR: u64 = 3_600;
/// Submits a second, all nodes together, where the wait is measured.
const PACE: usize = 200;
/// Far-future jobs beside which nodes are idle.
const ASLEEP: usize = 100_000;

struct Sizes {
    jobs: usize,
    backlog: usize,
    nodes: Vec<usize>,
    rounds: usize,
    delay: u64,
    seconds: usize,
    idle: u64,
    only: Option<String>,
}

impl Sizes {
    fn wants(&self, row: &str) -> bool {
        self.only.as_ref().is_none_or(|only| row.contains(only))
    }
}

fn main() {
    let mut args = std::env::args().skip(1);
    let mut sizes = Sizes {
        jobs: 60_000,
        backlog: 200_000,
        nodes: vec![1, 2, 4],
        rounds: 3,
        delay: 0,
        seconds: 10,
        idle: 20,
        only: None,
    };
    let (mut url, mut settings) = (None, Vec::new());
    while let Some(name) = args.next() {
        let value = args.next().unwrap_or_else(|| panic!("{name} needs a value"));
        let number = || value.parse().unwrap_or_else(|_| panic!("{name} takes a number, not {value}"));
        match name.as_str() {
            "node" => return node::run(&value, &args.next().expect("which queues it serves")),
            "--url" => url = Some(value),
            "--jobs" => sizes.jobs = number(),
            "--backlog" => sizes.backlog = number(),
            "--nodes" => {
                sizes.nodes =
                    value.split(',').map(|text| text.parse().expect("numbers with commas")).collect();
            }
            "--rounds" => sizes.rounds = number(),
            "--delay" => sizes.delay = number() as u64,
            "--seconds" => sizes.seconds = number(),
            "--idle" => sizes.idle = number() as u64,
            "--only" => sizes.only = Some(value),
            "--set" => {
                let (name, value) = value.split_once('=').expect("--set takes NAME=VALUE");
                settings.push((name.to_owned(), value.to_owned()));
            }
            other => panic!("{other} is none of the names that the head of this file explains"),
        }
    }
    let server = Server::new(url, &settings);
    println!("{}", server.version());
    let mut table = Table::default();
    for round in 1..=sizes.rounds {
        eprintln!("round {round} of {}", sizes.rounds);
        rates(&server, &sizes, &mut table);
        for nodes in [1, 3] {
            pace(&server, &sizes, nodes, &mut table);
        }
    }
    for nodes in [1, 3] {
        idle(&server, &sizes, nodes, &mut table);
    }
    table.print();
}

fn rates(server: &Server, sizes: &Sizes, table: &mut Table) {
    let raw = Raw::new(server);
    for &nodes in &sizes.nodes {
        let row = format!("lives/s, {nodes} node(s)");
        if sizes.wants(&row) {
            server.clean();
            table.raw(&row, raw.lives(nodes, sizes.jobs));
            lives(server, sizes, nodes, &row, table);
        }
    }
    for &nodes in &sizes.nodes {
        let row = format!("dispatch/s of a backlog, {nodes} node(s)");
        if sizes.wants(&row) {
            server.clean();
            raw.fill(sizes.backlog);
            table.raw(&row, raw.dispatch(nodes, sizes.backlog));
            dispatch(server, sizes, nodes, &row, table);
        }
    }
    let row = "submits/s, batches of 1,000";
    if sizes.wants(row) {
        server.clean();
        table.raw(row, raw.batches(sizes.jobs));
        server.clean();
        let mut fleet = Fleet::start(server.url(), 1, Serves::All);
        table.ours(row, fleet.submit("batches", sizes.jobs, HOUR, 1, 0));
    }
    let row = "submits/s, 64 callers, one by one";
    if sizes.wants(row) {
        server.clean();
        table.raw(row, raw.singles(sizes.jobs));
        server.clean();
        let mut fleet = Fleet::start(server.url(), 1, Serves::All);
        table.ours(row, fleet.submit("singles", sizes.jobs, HOUR, CALLERS, 0));
    }
}

/// From the first submit until all are started; the submits are spread over the nodes.
fn lives(server: &Server, sizes: &Sizes, nodes: usize, row: &str, table: &mut Table) {
    server.clean();
    let mut fleet = Fleet::start(server.url(), nodes, Serves::All);
    let (began, wal) = (server::elapsed(), server.wal());
    let jobs = fleet.begin_submit("batches", sizes.jobs, 0, 4, sizes.delay);
    server.wait_started(jobs);
    table.ours(row, jobs as f64 / (server::elapsed() - began).as_secs_f64());
    fleet.finish();
    table.note("bytes of WAL a life", (server.wal() - wal) / jobs as f64);
    table.note("bytes on disk a life, indexes and dead rows included", server.size() / jobs as f64);
    table.note("peak MiB of a node, lives", fleet.memory());
    table.note(&format!("claims beyond one a job, lives, {nodes} node(s)"), server.extra_claims());
}

/// From the first claim to the last outcome, of jobs that another node stored before.
fn dispatch(server: &Server, sizes: &Sizes, nodes: usize, row: &str, table: &mut Table) {
    server.clean();
    Fleet::start(server.url(), 1, Serves::Nothing).submit("batches", sizes.backlog, 0, 4, sizes.delay);
    let fleet = Fleet::start(server.url(), nodes, Serves::All);
    server.wait_started(sizes.backlog);
    table.ours(row, sizes.backlog as f64 / server.span_of_dispatch());
    table.note("peak MiB of a node, backlog", fleet.memory());
    table.note(&format!("claims beyond one a job, backlog, {nodes} node(s)"), server.extra_claims());
    if nodes > 1 {
        let share = server.largest_share() * nodes as f64;
        table.note(&format!("largest share of a backlog, even is 1, {nodes} node(s)"), share);
    }
}

fn pace(server: &Server, sizes: &Sizes, nodes: usize, table: &mut Table) {
    let row = format!("at {PACE} submits a second, {nodes} node(s)");
    if !sizes.wants(&row) {
        return;
    }
    server.clean();
    let mut fleet = Fleet::start(server.url(), nodes, Serves::All);
    let (wait, told) = fleet.pace(PACE, sizes.seconds);
    for (what, mut samples) in [("submit to start", wait), ("submit to told started", told)] {
        samples.sort_unstable();
        for percent in [50, 99] {
            let sample = samples[(samples.len() - 1) * percent / 100];
            table.note(&format!("ms {what}, p{percent}, {row}"), sample as f64 / 1e3);
        }
    }
}

fn idle(server: &Server, sizes: &Sizes, nodes: usize, table: &mut Table) {
    let row = format!("idle, {nodes} node(s)");
    if !sizes.wants(&row) || sizes.idle == 0 {
        return;
    }
    server.clean();
    let mut fleet = Fleet::start(server.url(), nodes, Serves::All);
    fleet.submit("batches", ASLEEP, 30 * 24 * HOUR, 4, 0);
    server.settle();
    let (cpu, statements) = server.spent(sizes.idle);
    if let Some(cpu) = cpu {
        table.note(&format!("% of one core, database, {row}"), cpu * 100.0);
    }
    table.note(&format!("transactions/s, {row}"), statements);
}
