//! Cancels against starts.

use std::{
    collections::HashMap,
    sync::atomic::{AtomicUsize, Ordering},
};

use serde_json::json;

use uuid::Uuid;

use super::{Chance, caller::Caller, figure, seed, witness::Endpoint};
use crate::harness::{Daemon, Place};

const CALLERS: usize = 16;

/// How a race ended for the caller.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Answer {
    Cancelled,
    TooLate,
}

#[test]
fn what_was_cancelled_is_never_called() {
    let races = figure("SENDOFF_RACES", 2_000);
    let seed = seed();
    let endpoint = Endpoint::open();
    let place = Place::new();
    let daemon = Daemon::start(&place, &["--log", "error"]);
    let socket = place.path(daemon.ready["socket"].as_str().unwrap());
    let left = AtomicUsize::new(races);
    let ended: Vec<(Uuid, Answer)> = std::thread::scope(|scope| {
        let callers: Vec<_> = (0..CALLERS)
            .map(|number| {
                let (left, socket, address) = (&left, socket.clone(), endpoint.address);
                let mut chance = Chance::nth(seed, number);
                scope.spawn(move || {
                    let (mut caller, mut ended) = (Caller::new(socket), Vec::new());
                    while left
                        .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1))
                        .is_ok()
                    {
                        ended.push(race(&mut caller, &mut chance, address));
                    }
                    ended
                })
            })
            .collect();
        callers.into_iter().flat_map(|caller| caller.join().unwrap()).collect()
    });

    let mut caller = Caller::new(socket);
    let mut counts: HashMap<Answer, usize> = HashMap::new();
    for (guid, answer) in &ended {
        let (_, record) = caller.ask("GET", &format!("/v1/jobs/{guid}?wait=60s"), "").unwrap();
        *counts.entry(*answer).or_default() += 1;
        match answer {
            Answer::Cancelled => assert_eq!(record["state"], "cancelled"),
            Answer::TooLate => assert_eq!(record["state"], "started", "{record}"),
        }
    }
    // Everything is final: whatever was to be called has been called.
    let calls = endpoint.counts();
    for (guid, answer) in &ended {
        let expected = usize::from(*answer == Answer::TooLate);
        assert_eq!(calls.get(guid).copied().unwrap_or(0), expected, "{guid} {answer:?}");
    }
    println!("{races} races: {counts:?}; every cancelled job has 0 calls, every other has 1");
    assert!(counts.len() == 2, "no race was close: {counts:?}");
}

fn race(caller: &mut Caller, chance: &mut Chance, address: std::net::SocketAddr) -> (Uuid, Answer) {
    let guid = chance.guid();
    let start = json!({"http": {"url": format!("http://{address}/")}});
    let delay = format!("{}us", chance.below(3) * chance.below(1_500));
    let job = json!({"start": start, "guid": guid, "delay": delay});
    let (status, record) = caller.ask("POST", "/v1/jobs", &job.to_string()).unwrap();
    assert_eq!(status, 201, "{record}");
    for _ in 0..chance.below(4) * chance.below(50) {
        std::thread::yield_now();
    }
    let (status, answer) = caller.ask("POST", &format!("/v1/jobs/{guid}:cancel"), "").unwrap();
    match status {
        200 => {
            assert_eq!((&answer["outcome"], &answer["maybe_started"]), (&"cancelled".into(), &false.into()));
            (guid, Answer::Cancelled)
        }
        409 => {
            assert_eq!(answer["type"], "/problems/too_late", "{answer}");
            (guid, Answer::TooLate)
        }
        _ => panic!("{status}: {answer}"),
    }
}
