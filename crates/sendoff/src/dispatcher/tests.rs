//! The dispatcher driven by hand: exact actions at literal times, all short sequences of events,
//! long random ones.

use std::{panic, sync::Arc, time::Duration};

use super::{
    Action, AttemptEnd, Backoff, Dispatcher, Event, Limits, Now, StarterLimits, Verdict,
    world::{Op, World},
};
use crate::{
    guid::Guid,
    job::{Delivery, Header, Job, JobId, Lane, QueueLimits, Rate, Receipt},
    ports::{Claimed, Settled, StartError},
    state::{self, Outcome, State},
    time::Timestamp,
};

pub(super) fn at(seconds: i64) -> Timestamp {
    Timestamp::from_micros(1_700_000_000_000_000 + seconds * 1_000_000).unwrap()
}

pub(super) fn now(seconds: u64) -> Now {
    Now { wall: at(seconds as i64), elapsed: Duration::from_secs(1_000 + seconds) }
}

pub(super) fn lane(queue: &str) -> Arc<Lane> {
    Arc::new(Lane { queue: queue.into(), starter: "s".into(), destination: None })
}

fn to(queue: &str, destination: &str) -> Arc<Lane> {
    Arc::new(Lane { queue: queue.into(), starter: "s".into(), destination: Some(destination.into()) })
}

pub(super) fn header(id: u64, lane: &Arc<Lane>, seconds: i64) -> Header {
    Header { id: JobId(id), lane: lane.clone(), priority: 0, next_at: at(seconds), alone: false }
}

pub(super) fn claimed(id: u64, lane: &Arc<Lane>, attempt: u32) -> Arc<Claimed> {
    let job = Job {
        guid: Guid::from_bytes([id as u8; 16]),
        own_guid: true,
        idempotency_key: None,
        lane: lane.clone(),
        priority: 0,
        delivery: Delivery::AtLeastOnce,
        max_attempts: 3,
        queued_at: at(0),
        run_at: at(0),
        expires_at: None,
        request: "{}".into(),
        submitted_by: None,
        grant: None,
    };
    Arc::new(Claimed {
        id: JobId(id),
        job: Arc::new(job),
        fence: attempt,
        attempt,
        claimed_at: at(0),
        run_at: at(0),
        crashes: 0,
    })
}

/// A dispatcher that has looked at its empty store.
fn dispatcher(limits: Limits) -> Dispatcher {
    let starters = [StarterLimits {
        name: "s".into(),
        max_per_destination: 2,
        max_starting: usize::MAX,
        max_running: None,
    }];
    let mut dispatcher = Dispatcher::new(limits, &starters, 1);
    let asked = dispatcher.handle(now(0), Event::Tick);
    assert!(matches!(asked[..], [Action::Lanes { .. }, Action::Expire { .. }]), "{asked:?}");
    assert!(matches!(dispatcher.handle(now(0), Event::Lanes(Some(vec![])))[..], [Action::Due { .. }]));
    assert!(dispatcher.handle(now(0), Event::Due(Some(vec![]))).is_empty());
    assert!(dispatcher.handle(now(0), Event::Expired(Ok(None))).is_empty());
    dispatcher
}

pub(super) fn with_queue(name: &str, limits: QueueLimits) -> Limits {
    let mut all = Limits::default();
    all.queues.insert(name.into(), limits);
    all
}

pub(super) fn inserted(pending: Vec<Header>) -> Event {
    Event::Inserted { pending, deadline: None }
}

/// The ids of the one claim among the actions, which must be the only action.
fn claims(actions: &[Action]) -> Vec<u64> {
    match actions {
        [] => Vec::new(),
        [Action::Claim(wanted)] => wanted.iter().map(|wanted| wanted.id.0).collect(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_due_job_is_claimed_at_once_and_a_later_one_when_it_is_due() {
    let mut dispatcher = dispatcher(Limits::default());
    let lane = lane("q");
    let actions = dispatcher.handle(now(0), inserted(vec![header(1, &lane, 0), header(2, &lane, 7)]));
    assert_eq!(claims(&actions), [1]);
    assert_eq!(dispatcher.next_wake(now(0)), Some(at(7)));
    assert!(dispatcher.handle(now(6), Event::Tick).is_empty());
    assert_eq!(claims(&dispatcher.handle(now(7), Event::Tick)), [2]);
    assert_eq!(dispatcher.next_wake(now(7)), None);
}

#[test]
fn priority_then_time_then_insertion() {
    let mut dispatcher = dispatcher(Limits::default());
    let lane = lane("q");
    let jobs = vec![
        header(1, &lane, -1),
        header(2, &lane, -2),
        Header { priority: 9, ..header(3, &lane, 0) },
        header(4, &lane, -2),
    ];
    assert_eq!(claims(&dispatcher.handle(now(0), inserted(jobs))), [3, 2, 4, 1]);
}

#[test]
fn queues_take_turns() {
    let mut dispatcher = dispatcher(Limits { max_in_flight: 4, ..Limits::default() });
    let (a, b) = (lane("a"), lane("b"));
    let mut jobs: Vec<_> = (1..=100).map(|id| header(id, &a, -10)).collect();
    jobs.extend([header(101, &b, 0), header(102, &b, 0)]);
    assert_eq!(claims(&dispatcher.handle(now(0), inserted(jobs))), [1, 101, 2, 102]);
}

#[test]
fn a_full_destination_and_a_full_queue_delay_nobody_else() {
    let limits = with_queue("slow", QueueLimits { max_in_flight: Some(1), ..QueueLimits::default() });
    let mut dispatcher = dispatcher(limits);
    let (dead, alive, slow) = (to("a", "dead:1"), to("a", "alive:1"), lane("slow"));
    let mut jobs: Vec<_> = (1..=5).map(|id| header(id, &dead, -10)).collect();
    jobs.extend((6..=7).map(|id| header(id, &alive, 0)));
    jobs.extend((8..=9).map(|id| header(id, &slow, -20)));
    let mut ids = claims(&dispatcher.handle(now(0), inserted(jobs)));
    ids.sort_unstable();
    assert_eq!(ids, [1, 2, 6, 7, 8], "two of each destination, one of the slow queue");
}

#[test]
fn a_permit_that_comes_back_goes_to_who_waits_for_it() {
    let mut dispatcher = dispatcher(Limits::default());
    let (a, b) = (to("a", "x:1"), to("b", "x:1"));
    let jobs = vec![header(1, &a, 0), header(2, &a, 0), header(3, &b, 0), header(4, &b, 0)];
    assert_eq!(claims(&dispatcher.handle(now(0), inserted(jobs))), [1, 3]);
    let claim = Event::Claimed { ids: vec![JobId(1)], verdicts: vec![Verdict::Claimed(claimed(1, &a, 1))] };
    assert!(matches!(dispatcher.handle(now(0), claim)[..], [Action::Start(_)]));
    let end =
        AttemptEnd { id: JobId(1), begun: None, result: Ok(Receipt::default()), backoff: Backoff::default() };
    match &dispatcher.handle(now(1), Event::Ended(vec![end]))[..] {
        [Action::Settle(settlements), Action::Claim(wanted)] => {
            assert_eq!((settlements.len(), wanted.len(), wanted[0].id), (1, 1, JobId(2)));
        }
        other => panic!("{other:?}"),
    }
}

/// A destination of two places with 3 and 4 under way and 5 held: a place came back during the claim
/// of 3, so one job more was claimed.
fn with_one_held() -> Dispatcher {
    let mut dispatcher = dispatcher(Limits::default());
    let lane = to("a", "x:1");
    let jobs = (1..=6).map(|id| header(id, &lane, 0)).collect();
    assert_eq!(claims(&dispatcher.handle(now(0), inserted(jobs))), [1, 2]);
    assert_eq!(told(&dispatcher.handle(now(0), got(&[1, 2], &lane))), ["start 1", "start 2"]);
    assert_eq!(told(&dispatcher.handle(now(0), over(1))), ["settle 1", "claim 3"]);
    assert_eq!(told(&dispatcher.handle(now(0), over(2))), ["settle 2", "claim 4"]);
    assert_eq!(told(&dispatcher.handle(now(0), got(&[3], &lane))), ["start 3", "claim 5"]);
    assert_eq!(told(&dispatcher.handle(now(0), got(&[4], &lane))), ["start 4"]);
    assert_eq!(told(&dispatcher.handle(now(0), got(&[5], &lane))), [] as [&str; 0], "no place for it");
    dispatcher
}

fn got(ids: &[u64], lane: &Arc<Lane>) -> Event {
    let verdicts = ids.iter().map(|id| Verdict::Claimed(claimed(*id, lane, 1))).collect();
    Event::Claimed { ids: ids.iter().copied().map(JobId).collect(), verdicts }
}

fn over(id: u64) -> Event {
    let result = Ok(Receipt::default());
    Event::Ended(vec![AttemptEnd { id: JobId(id), begun: None, result, backoff: Backoff::default() }])
}

/// What the actions are, one for each job.
fn told(actions: &[Action]) -> Vec<String> {
    let jobs = |action: &Action| match action {
        Action::Start(claimed) => vec![format!("start {}", claimed.id.0)],
        Action::Claim(wanted) => wanted.iter().map(|wanted| format!("claim {}", wanted.id.0)).collect(),
        Action::Settle(settlements) => {
            settlements.iter().map(|settlement| format!("settle {}", settlement.id.0)).collect()
        }
        other => panic!("{other:?}"),
    };
    actions.iter().flat_map(jobs).collect()
}

#[test]
fn as_many_are_claimed_ahead_as_places_came_back_during_a_claim() {
    let mut dispatcher = with_one_held();
    // Nothing came back during the claim of 5, so there is no other one ahead.
    assert_eq!(told(&dispatcher.handle(now(0), over(4))), ["settle 4", "start 5"]);
    assert_eq!(told(&dispatcher.handle(now(0), over(3))), ["settle 3", "claim 6"]);
}

#[test]
fn a_job_that_finds_no_place_in_time_is_given_back_and_none_is_claimed_ahead() {
    let mut dispatcher = with_one_held();
    let overdue = Duration::from_millis(100);
    let later = Now { wall: at(0).saturating_add(overdue), elapsed: now(0).elapsed + overdue };
    assert_eq!(dispatcher.next_wake(now(0)), Some(later.wall));
    let actions = dispatcher.handle(later, Event::Tick);
    let [Action::Settle(settlements)] = &actions[..] else { panic!("{actions:?}") };
    assert!(matches!(settlements[0].outcome, Outcome::Released { .. }), "{settlements:?}");
    let verdicts = vec![Settled { state: State::Pending, applied: true }];
    let settled = Event::Settled { settlements: settlements.clone(), verdicts };
    assert!(dispatcher.handle(later, settled).is_empty());
    assert_eq!(told(&dispatcher.handle(later, over(3))), ["settle 3", "claim 5"], "it is the first again");
}

#[test]
fn a_stop_hands_over_what_is_held_to_be_given_back() {
    let mut dispatcher = with_one_held();
    assert_eq!(told(&dispatcher.handle(now(0), Event::Stop)), ["start 5"]);
    for id in [3, 4, 5] {
        assert_eq!(told(&dispatcher.handle(now(0), over(id))), [format!("settle {id}")]);
    }
}

#[test]
fn a_rate_lets_its_burst_pass_and_wakes_for_the_next() {
    let rate = Rate { starts: 1, per: Duration::from_secs(10).into(), burst: 2 };
    let mut dispatcher =
        dispatcher(with_queue("q", QueueLimits { rate: Some(rate), ..QueueLimits::default() }));
    let lane = lane("q");
    let jobs = (1..=4).map(|id| header(id, &lane, 0)).collect();
    assert_eq!(claims(&dispatcher.handle(now(0), inserted(jobs))), [1, 2]);
    assert_eq!(dispatcher.next_wake(now(0)), Some(at(10)));
    assert_eq!(claims(&dispatcher.handle(now(10), Event::Tick)), [3]);
    assert_eq!(claims(&dispatcher.handle(now(20), Event::Tick)), [4]);
}

#[test]
fn an_ambiguous_end_is_retried_within_the_backoff_until_the_attempts_are_spent() {
    let mut dispatcher = dispatcher(Limits::default());
    let lane = lane("q");
    let backoff = Backoff { min: Duration::from_secs(4), max: Duration::from_secs(5) };
    for (attempt, longest) in [(1, 4), (2, 5)] {
        dispatcher.handle(now(0), Event::InsertedClaimed(vec![claimed(1, &lane, attempt)]));
        let key = dispatcher.board.lane_key(&lane);
        assert!(dispatcher.board.admit(&lane, now(0).elapsed), "the permit of the claim above");
        let _ = key;
        let begun = state::begin(at(1), at(0), at(0));
        let result = Err(StartError::ambiguous("no answer"));
        let end = AttemptEnd { id: JobId(1), begun: Some((begun, at(2))), result, backoff };
        let actions = dispatcher.handle(now(2), Event::Ended(vec![end]));
        let [Action::Settle(settlements)] = &actions[..] else { panic!("{actions:?}") };
        let Outcome::Retry { next_at, ambiguous: true, .. } = settlements[0].outcome else {
            panic!("{settlements:?}")
        };
        assert!(next_at >= at(2) && next_at <= at(2 + longest), "{next_at}");
        let verdicts = vec![Settled { state: State::Pending, applied: true }];
        dispatcher.handle(now(2), Event::Settled { settlements: settlements.clone(), verdicts });
        assert_eq!(dispatcher.next_wake(now(2)).map(|wake| wake.max(at(2))), Some(next_at.max(at(2))));
        assert_eq!(claims(&dispatcher.handle(now(10), Event::Tick)), [1]);
        // The claim is lost, for the next round of this test.
        dispatcher.handle(now(10), Event::Claimed { ids: vec![JobId(1)], verdicts: vec![Verdict::Lost] });
    }
}

#[test]
fn a_job_that_crashed_sendoff_twice_starts_alone() {
    let mut dispatcher = dispatcher(Limits::default());
    let lane = lane("q");
    assert_eq!(claims(&dispatcher.handle(now(0), inserted(vec![header(1, &lane, 0)]))), [1]);
    let alone = Header { alone: true, ..header(2, &lane, 0) };
    assert!(
        dispatcher.handle(now(0), inserted(vec![alone, header(3, &lane, 0)])).is_empty(),
        "1 is in flight"
    );
    let lost = Event::Claimed { ids: vec![JobId(1)], verdicts: vec![Verdict::Lost] };
    assert_eq!(claims(&dispatcher.handle(now(1), lost)), [2]);
    assert!(
        dispatcher.handle(now(2), inserted(vec![header(4, &lane, 0)])).is_empty(),
        "2 is in flight alone"
    );
    let lost = Event::Claimed { ids: vec![JobId(2)], verdicts: vec![Verdict::Lost] };
    assert_eq!(claims(&dispatcher.handle(now(3), lost)), [3, 4]);
}

#[test]
fn after_a_stop_nothing_is_claimed() {
    let mut dispatcher = dispatcher(Limits::default());
    let lane = lane("q");
    assert!(dispatcher.handle(now(0), Event::Stop).is_empty());
    assert!(dispatcher.handle(now(0), inserted(vec![header(1, &lane, 0)])).is_empty());
    assert!(!dispatcher.admit(now(0), &lane, at(0), None));
    assert!(dispatcher.is_drained());
}

fn ready(actions: &[Action]) -> usize {
    actions.iter().filter(|action| matches!(action, Action::Ready { .. })).count()
}

#[test]
fn a_lane_listed_during_its_refill_is_refilled_again() {
    let starters = [StarterLimits {
        name: "s".into(),
        max_per_destination: 2,
        max_starting: usize::MAX,
        max_running: None,
    }];
    let mut dispatcher = Dispatcher::new(Limits::default(), &starters, 1);
    let lane = lane("q");
    dispatcher.handle(now(0), Event::Tick);
    assert_eq!(ready(&dispatcher.handle(now(0), Event::Lanes(Some(vec![lane.clone()])))), 1);
    // The refill is under way when so much has become due that the lanes are listed again.
    let far: Vec<_> = (1..=4_096).map(|id| header(id, &self::lane("gone"), 2)).collect();
    let asked = dispatcher.handle(now(3), Event::Due(Some(far)));
    assert!(asked.iter().any(|action| matches!(action, Action::Lanes { .. })), "{asked:?}");
    dispatcher.handle(now(3), Event::Lanes(Some(vec![lane.clone()])));
    let empty = Event::Ready { lane, limit: 2_048, headers: Some(Vec::new()) };
    assert_eq!(ready(&dispatcher.handle(now(3), empty)), 1, "the first showed what was due at 0 only");
}

#[test]
fn a_job_found_due_again_during_its_claim_is_not_forgotten() {
    let mut dispatcher = dispatcher(Limits::default());
    let lane = lane("q");
    assert_eq!(claims(&dispatcher.handle(now(0), inserted(vec![header(1, &lane, 0)]))), [1]);
    let again = Event::Rescheduled { header: header(1, &lane, 1), deadline: None };
    assert!(dispatcher.handle(now(2), again).is_empty());
    let lost = Event::Claimed { ids: vec![JobId(1)], verdicts: vec![Verdict::Lost] };
    assert_eq!(claims(&dispatcher.handle(now(2), lost.clone())), [1]);
    assert!(dispatcher.handle(now(2), lost).is_empty(), "once");
}

#[test]
fn what_is_no_longer_due_after_a_step_back_waits_once_more() {
    let mut dispatcher = dispatcher(Limits { max_in_flight: 1, ..Limits::default() });
    let lane = lane("q");
    assert_eq!(
        claims(&dispatcher.handle(now(9), inserted(vec![header(1, &lane, 0), header(2, &lane, 8)]))),
        [1]
    );
    let lost = Event::Claimed { ids: vec![JobId(1)], verdicts: vec![Verdict::Lost] };
    let back = Now { wall: at(5), elapsed: now(9).elapsed };
    assert!(dispatcher.handle(back, lost).is_empty(), "a claim now would be refused");
    assert_eq!(dispatcher.next_wake(back), Some(at(8)));
    assert_eq!(claims(&dispatcher.handle(now(8), Event::Tick)), [2]);
}

#[test]
fn while_it_stops_it_wakes_for_nothing_but_outcomes() {
    let mut dispatcher = dispatcher(Limits::default());
    let lane = lane("q");
    dispatcher.handle(now(0), inserted(vec![header(1, &lane, 0), header(2, &lane, 5)]));
    dispatcher.handle(now(0), Event::ClaimFailed(vec![JobId(1)]));
    dispatcher.handle(now(0), Event::Stop);
    assert_eq!(dispatcher.next_wake(now(9)), None);
}

#[test]
fn a_failed_claim_is_tried_again_after_a_pause() {
    let mut dispatcher = dispatcher(Limits::default());
    let lane = lane("q");
    assert_eq!(claims(&dispatcher.handle(now(0), inserted(vec![header(1, &lane, 0)]))), [1]);
    assert!(dispatcher.handle(now(0), Event::ClaimFailed(vec![JobId(1)])).is_empty());
    assert!(dispatcher.next_wake(now(0)).unwrap() > at(0));
    assert_eq!(claims(&dispatcher.handle(now(1), Event::Tick)), [1]);
}

/// Runs a world through these steps, then lets it heal; a failure prints them.
fn play(seed: u64, in_fleet: bool, ops: impl IntoIterator<Item = Op>) {
    let mut trace = Vec::new();
    let result = panic::catch_unwind(panic::AssertUnwindSafe(|| {
        let mut world = World::new(seed, in_fleet);
        for op in ops {
            world.step(op);
            trace.clone_from(&world.trace);
        }
        world.heal();
    }));
    if let Err(cause) = result {
        eprintln!("seed {seed}, in a fleet: {in_fleet}, after: {}", trace.join(", "));
        panic::resume_unwind(cause);
    }
}

#[test]
fn all_pairs_and_triples_of_events() {
    // Two situations to begin with: nothing known yet, and more jobs than permits.
    let busy =
        [Op::SubmitA, Op::SubmitB, Op::SubmitA, Op::SubmitB, Op::SubmitA, Op::SubmitA, Op::SubmitLater];
    let answered = [Op::Answer; 12];
    let situations: [Vec<Op>; 3] = [Vec::new(), busy.to_vec(), [&busy[..], &answered, &busy].concat()];
    for (in_fleet, ops) in [(false, &Op::ALL[..]), (true, &Op::IN_FLEET[..])] {
        for situation in &situations {
            let play = |next: &[Op]| play(0, in_fleet, situation.iter().chain(next).copied());
            for first in ops {
                for second in ops {
                    play(&[*first, *second]);
                    for third in ops {
                        play(&[*first, *second, *third]);
                    }
                }
            }
        }
    }
}

#[test]
fn long_random_sequences_of_events() {
    let seeds = std::env::var("SENDOFF_SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(500);
    for (in_fleet, ops) in [(false, &Op::ALL[..]), (true, &Op::IN_FLEET[..])] {
        for seed in 0..seeds {
            let mut random = fastrand::Rng::with_seed(seed);
            play(seed, in_fleet, (0..200).map(|_| ops[random.usize(..ops.len())]).collect::<Vec<_>>());
        }
    }
}
