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

/// Starts under way at once, so the most that one kill leaves in doubt.
const MAX_IN_FLIGHT: usize = 128;

#[test]
fn nothing_is_lost_and_no_at_most_once_is_doubled() {
    let (kills, jobs_each) = (figure("SENDOFF_KILLS", 3), figure("SENDOFF_JOBS", 1_000));
    let seed = seed();
    let mut chance = Chance::nth(seed, 0);
    let place = Place::new();
    let flags = ["--max-in-flight", &MAX_IN_FLIGHT.to_string(), "--log", "error"];
    let mut daemon = Daemon::start(&place, &flags);
    let socket = place.path(daemon.ready["socket"].as_str().unwrap());
    let mut total = Verdict::default();
    for round in 1..=kills {
        let endpoint = Endpoint::open();
        let ledger = Ledger::new(place.path(&format!("ledger-{round}")));
        let recipe = Recipe {
            seed: seed.wrapping_add(round as u64),
            endpoint: endpoint.address,
            ledger: Some(ledger.path()),
            rich: false,
        };
        let load = Load::new(&recipe, vec![socket.clone()], jobs_each);
        // Somewhere between the first submit and a while after the last.
        let moment = chance.below(jobs_each as u64 * 5 / 4) as usize;
        let after = Duration::from_micros(chance.below(100_000));
        let (acknowledged, started) = load.run(|| {
            while load.acknowledged.load(Ordering::Relaxed) < moment && !load.over() {
                std::thread::yield_now();
            }
            // The moment is chance, not order: nothing waits for it.
            std::thread::sleep(after);
            daemon.kill();
            Daemon::start(&place, &flags)
        });
        daemon = started;
        let mut caller = Caller::new(socket.clone());
        let guids = acknowledged.iter().map(|held| held.guid);
        let records = guids.map(|guid| (guid, ended(&mut caller, guid))).collect();
        let ledger = Some(&ledger);
        let verdict = Case {
            recipe: &recipe,
            acknowledged: &acknowledged,
            records: &records,
            endpoint: &endpoint,
            ledger,
        }
        .judge();
        assert!(verdict.doubled <= MAX_IN_FLIGHT, "{} doubled by one kill", verdict.doubled);
        assert!(verdict.unknown <= MAX_IN_FLIGHT, "{} unknown by one kill", verdict.unknown);
        total.add(verdict);
    }
    println!("{kills} kills, {total}");
}
