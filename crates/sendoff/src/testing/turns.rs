//! The dispatcher alone, for benchmarks: no store, no tasks, no clock.

use std::{sync::Arc, time::Duration};

use crate::{
    dispatcher::{Action, AttemptEnd, Backoff, Dispatcher, Event, Limits, Now, StarterLimits, Verdict},
    job::{Header, JobId, Receipt},
    ports::{Claimed, Settled},
    state::{self, State},
    testing::model::{at, job},
};

/// Jobs of one lane whose lives are played through a dispatcher, again and again.
pub struct Turns {
    dispatcher: Dispatcher,
    jobs: Vec<Arc<Claimed>>,
}

impl Turns {
    /// So many jobs, all due, of which so many may be in flight at once.
    pub fn new(jobs: u64, max_in_flight: usize) -> Self {
        let jobs: Vec<_> = (0..jobs).map(claimed).collect();
        let starters = jobs.first().map(|claimed| StarterLimits {
            name: claimed.job.lane.starter.clone(),
            max_per_destination: usize::MAX,
            max_starting: usize::MAX,
            max_running: None,
        });
        let limits = Limits { max_in_flight, ..Limits::default() };
        let dispatcher = Dispatcher::new(limits, starters.as_slice(), 1);
        let mut turns = Self { dispatcher, jobs };
        turns.play(Event::Tick);
        turns
    }

    /// Inserts each job, claims it, starts it and settles it as started; how many were.
    pub fn lives(&mut self) -> usize {
        let pending = self.jobs.iter().map(|claimed| header(claimed)).collect();
        self.play(Event::Inserted { pending, deadline: None })
    }

    /// Answers each action until there is none left.
    fn play(&mut self, event: Event) -> usize {
        let now = Now { wall: at(1), elapsed: Duration::from_secs(1) };
        let mut started = 0;
        let mut events = vec![event];
        while let Some(event) = events.pop() {
            let mut ends = Vec::new();
            for action in self.dispatcher.handle(now, event) {
                match action {
                    Action::Claim(wanted) => {
                        let ids: Vec<_> = wanted.iter().map(|wanted| wanted.id).collect();
                        let claim = |id: &JobId| Verdict::Claimed(self.jobs[id.0 as usize].clone());
                        events.push(Event::Claimed { verdicts: ids.iter().map(claim).collect(), ids });
                    }
                    Action::Start(claimed) => ends.push(end(&claimed)),
                    Action::Settle(settlements) => {
                        started += settlements.len();
                        let settled = Settled { state: State::Started, applied: true };
                        events
                            .push(Event::Settled { verdicts: vec![settled; settlements.len()], settlements });
                    }
                    Action::Due { .. } => events.push(Event::Due(Some(Vec::new()))),
                    Action::Lanes { .. } => events.push(Event::Lanes(Some(Vec::new()))),
                    Action::Expire { .. } => events.push(Event::Expired(Ok(None))),
                    Action::Ready { lane, limit, .. } => {
                        events.push(Event::Ready { lane, limit, headers: Some(Vec::new()) });
                    }
                    Action::Queues | Action::Hint => {}
                }
            }
            if !ends.is_empty() {
                events.push(Event::Ended(ends));
            }
        }
        started
    }
}

fn claimed(number: u64) -> Arc<Claimed> {
    let job = job(number);
    Arc::new(Claimed {
        id: JobId(number),
        fence: 1,
        attempt: 1,
        claimed_at: at(1),
        run_at: job.run_at,
        crashes: 0,
        job: Arc::new(job),
    })
}

fn header(claimed: &Claimed) -> Header {
    let Claimed { id, job, run_at, .. } = claimed;
    Header { id: *id, lane: job.lane.clone(), priority: job.priority, next_at: *run_at, alone: false }
}

fn end(claimed: &Claimed) -> AttemptEnd {
    let begun = state::begin(at(1), claimed.job.queued_at, claimed.claimed_at);
    AttemptEnd {
        id: claimed.id,
        begun: Some((begun, at(1))),
        result: Ok(Receipt::default()),
        backoff: Backoff::default(),
    }
}
