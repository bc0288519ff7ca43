//! Whether other nodes are alive, judged by whether their counters move: pure, without I/O.

use std::{collections::HashMap, time::Duration};

use super::pace::Pace;

/// What one node saw of the others' counters.
///
/// An observer that cannot reach the database, or was itself suspended, has seen nothing of the
/// others meanwhile; it begins again, so that an outage makes nobody declare anybody dead.
pub(super) struct Watch {
    pace: Pace,
    seen: HashMap<i64, Seen>,
    /// When the last read was sent.
    sent: Option<Duration>,
}

struct Seen {
    beat: i64,
    /// Reads that found it unchanged.
    unchanged: u32,
    /// When the answer was there that showed this value first.
    since: Duration,
}

/// A successful heartbeat of the observer's own together with its read of the counters; times by
/// the clock that counts suspends.
#[derive(Debug, Clone, Copy)]
pub(super) struct Look {
    pub(super) sent: Duration,
    pub(super) replied: Duration,
}

impl Watch {
    pub(super) fn new(pace: Pace) -> Self {
        Self { pace, seen: HashMap::new(), sent: None }
    }

    /// A read or a heartbeat of the observer's own failed: all counts begin again.
    pub(super) fn restart(&mut self) {
        self.seen.clear();
        self.sent = None;
    }

    /// Takes the counters of the other nodes; which of them are dead, with the counter's last value.
    pub(super) fn look(&mut self, look: Look, others: &[(i64, i64)]) -> Vec<(i64, i64)> {
        let before = self.sent.unwrap_or(look.sent);
        if look.replied.saturating_sub(before) > self.pace.gap {
            self.restart();
        }
        self.sent = Some(look.sent);
        self.seen.retain(|id, _| others.iter().any(|(other, _)| other == id));
        let mut dead = Vec::new();
        for &(id, beat) in others {
            let first = Seen { beat, unchanged: 0, since: look.replied };
            let seen = match self.seen.entry(id) {
                std::collections::hash_map::Entry::Occupied(entry) => entry.into_mut(),
                std::collections::hash_map::Entry::Vacant(entry) => {
                    entry.insert(first);
                    continue;
                }
            };
            if seen.beat != beat {
                *seen = first;
                continue;
            }
            seen.unchanged += 1;
            // From the first answer to the last question: the least that the reads can span.
            let span = look.sent.saturating_sub(seen.since);
            if seen.unchanged >= self.pace.reads && span >= self.pace.span {
                dead.push((id, beat));
            }
        }
        dead
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// Looks each five seconds, each answered after 10 ms.
    struct Observer {
        watch: Watch,
        now: Duration,
    }

    impl Observer {
        fn new() -> Self {
            Self { watch: Watch::new(Pace::USUAL), now: 1000 * SECOND }
        }

        fn look(&mut self, others: &[(i64, i64)]) -> Vec<(i64, i64)> {
            self.now += 5 * SECOND;
            let look = Look { sent: self.now, replied: self.now + Duration::from_millis(10) };
            self.watch.look(look, others)
        }

        /// How many looks it takes until the node 1 with this counter is dead.
        fn looks_until_dead(&mut self, beat: i64) -> u32 {
            (1..100).find(|_| !self.look(&[(1, beat)]).is_empty()).expect("it is dead in the end")
        }
    }

    #[test]
    fn a_counter_that_stands_still_is_a_dead_node_after_nine_reads_and_45_seconds() {
        let mut observer = Observer::new();
        // One that shows it first, nine that find it unchanged, and the rest of the 45 s.
        assert_eq!(observer.looks_until_dead(7), 11);
        assert_eq!(observer.look(&[(1, 7)]), [(1, 7)], "and it stays dead while it is listed");
    }

    #[test]
    fn quick_reads_do_not_shorten_it() {
        let mut watch = Watch::new(Pace::USUAL);
        let mut looks = 0;
        let dead_at = (0..).map(|n| 100 * SECOND + n * SECOND).find(|&at| {
            looks += 1;
            !watch.look(Look { sent: at, replied: at }, &[(1, 7)]).is_empty()
        });
        assert_eq!((dead_at, looks), (Some(145 * SECOND), 46));
    }

    #[test]
    fn slow_reads_do_not_shorten_it_either() {
        let mut watch = Watch::new(Pace::USUAL);
        let mut at = Duration::ZERO;
        for _ in 0..9 {
            at += 9 * SECOND;
            assert!(watch.look(Look { sent: at, replied: at }, &[(1, 7)]).is_empty());
        }
        at += 9 * SECOND;
        assert_eq!(watch.look(Look { sent: at, replied: at }, &[(1, 7)]), [(1, 7)]);
    }

    #[test]
    fn one_beat_in_time_is_a_living_node() {
        let mut observer = Observer::new();
        for beat in 0..5 {
            for _ in 0..10 {
                assert!(observer.look(&[(1, beat), (2, 3 * beat)]).is_empty());
            }
        }
    }

    #[test]
    fn each_node_has_its_own_count() {
        let mut observer = Observer::new();
        let mut dead = Vec::new();
        for n in 0..11 {
            dead = observer.look(&[(1, 7), (2, n), (3, n.max(5))]);
        }
        assert_eq!(dead, [(1, 7)]);
    }

    #[test]
    fn an_outage_declares_nobody_dead() {
        let mut observer = Observer::new();
        for _ in 0..10 {
            observer.look(&[(1, 7)]);
        }
        // One failed read right before the last that was needed.
        observer.watch.restart();
        assert_eq!(observer.looks_until_dead(7), 11);
    }

    #[test]
    fn a_node_that_is_gone_and_another_that_comes_begin_anew() {
        let mut observer = Observer::new();
        for _ in 0..10 {
            observer.look(&[(1, 7)]);
        }
        assert!(observer.look(&[]).is_empty());
        assert_eq!(observer.looks_until_dead(7), 11);
    }

    #[test]
    fn an_observer_that_was_stopped_has_seen_nothing_meanwhile() {
        let mut observer = Observer::new();
        for _ in 0..10 {
            observer.look(&[(1, 7)]);
        }
        // SIGSTOP, or a suspended machine, between two heartbeats.
        observer.now += 600 * SECOND;
        assert_eq!(observer.looks_until_dead(7), 11);
    }

    #[test]
    fn an_observer_that_was_stopped_before_it_saw_the_answer_has_seen_nothing_either() {
        let mut observer = Observer::new();
        for _ in 0..10 {
            observer.look(&[(1, 7)]);
        }
        // The answer waited in its socket: what it says is ten minutes old.
        observer.now += 5 * SECOND;
        let late = Look { sent: observer.now, replied: observer.now + 600 * SECOND };
        assert!(observer.watch.look(late, &[(1, 7)]).is_empty());
        observer.now += 600 * SECOND;
        assert_eq!(observer.looks_until_dead(7), 11);
    }
}
