//! SIGKILL at random moments under load.

use std::{sync::atomic::Ordering, time::Duration};

use super::{
    Chance,
    caller::Caller,
    figure,
    jobs::Recipe,
    judge::{Case, Verdict},
    load::Load,
    records::ended,
    seed,
    witness::{Endpoint, Ledger},
};
use crate::harness::{Daemon, Place};

/// Starts under way at once, so the most that one crash leaves in doubt; the same as in [`flags`].
const MAX_IN_FLIGHT: usize = 128;

/// What a daemon that is judged by [`round`] is started with.
pub(super) fn flags() -> [&'static str; 4] {
    ["--max-in-flight", "128", "--log", "error"]
}

#[test]
fn nothing_is_lost_and_no_at_most_once_is_doubled() {
    let (kills, jobs_each) = (figure("SENDOFF_KILLS", 3), figure("SENDOFF_JOBS", 1_000));
    let seed = seed();
    let place = Place::new();
    let mut daemon = Daemon::start(&place, &flags());
    let mut total = Verdict::default();
    for number in 1..=kills {
        let (again, verdict) = round(&place, daemon, seed.wrapping_add(number as u64), jobs_each, |daemon| {
            daemon.kill();
            Daemon::start(&place, &flags())
        });
        daemon = again;
        total.add(verdict);
    }
    println!("{kills} kills, {total}");
}

/// Puts a daemon under a load of jobs, during which `down` ends it once at some moment and starts it again;
/// when all jobs have ended, judges what became of them.
pub(super) fn round(
    place: &Place,
    daemon: Daemon,
    seed: u64,
    jobs: usize,
    down: impl FnOnce(Daemon) -> Daemon + Send,
) -> (Daemon, Verdict) {
    let mut chance = Chance::nth(seed, usize::MAX - 1);
    let socket = place.path(daemon.ready["socket"].as_str().unwrap());
    let endpoint = Endpoint::open();
    let ledger = Ledger::new(place.path(&format!("ledger-{seed}")));
    let recipe = Recipe { seed, endpoint: endpoint.address, ledger: Some(ledger.path()), rich: false };
    let load = Load::new(&recipe, vec![socket.clone()], jobs);
    // Somewhere between the first submit and a while after the last.
    let moment = chance.below(jobs as u64 * 5 / 4) as usize;
    let after = Duration::from_micros(chance.below(100_000));
    let (acknowledged, daemon) = load.run(|| {
        while load.acknowledged.load(Ordering::Relaxed) < moment && !load.over() {
            std::thread::yield_now();
        }
        // The moment is chance, not order: nothing waits for it.
        std::thread::sleep(after);
        down(daemon)
    });
    let mut caller = Caller::new(socket);
    let guids = acknowledged.iter().map(|held| held.guid);
    let records = guids.map(|guid| (guid, ended(&mut caller, guid))).collect();
    let verdict = Case {
        recipe: &recipe,
        acknowledged: &acknowledged,
        records: &records,
        endpoint: &endpoint,
        ledger: Some(&ledger),
    }
    .judge();
    assert!(verdict.doubled <= MAX_IN_FLIGHT, "{} doubled by one crash", verdict.doubled);
    assert!(verdict.unknown <= MAX_IN_FLIGHT, "{} unknown by one crash", verdict.unknown);
    (daemon, verdict)
}
