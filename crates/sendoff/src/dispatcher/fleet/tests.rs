//! A dispatcher among others: exact actions at literal times.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use super::{
    super::{
        Action, AttemptEnd, Backoff, Dispatcher, Event, Limits, Now, StarterLimits, Verdict,
        tests::{at, claimed, header, inserted, lane, now, with_queue},
    },
    Sharing,
};
use crate::{
    job::{Header, JobId, Lane, QueueLimits, Receipt},
    ports::{Claimed, Settled, Settlement},
    state::State,
};

/// A dispatcher among others that has just looked at its empty store, and looks every 5 s.
fn dispatcher(limits: Limits, served: Option<&[&str]>) -> Dispatcher {
    let starters = [StarterLimits {
        name: "s".into(),
        max_per_destination: 2,
        max_starting: usize::MAX,
        max_running: None,
    }];
    let served = served.map(|served| served.iter().map(|queue| Arc::from(*queue)).collect::<BTreeSet<_>>());
    let sharing = Sharing { interval: Duration::from_secs(5), served };
    let mut dispatcher = Dispatcher::new(limits, &starters, 1).in_fleet(sharing);
    let asked = dispatcher.handle(now(0), Event::Tick);
    assert!(matches!(asked[..], [Action::Queues, Action::Lanes { .. }, Action::Expire { .. }]), "{asked:?}");
    dispatcher.handle(now(0), Event::Lanes(Some(vec![])));
    nothing_found(&mut dispatcher, now(0));
    dispatcher
}

/// Answers a look: there is nothing.
fn nothing_found(dispatcher: &mut Dispatcher, now: Now) {
    for event in [Event::QueuesRead(true), Event::Due(Some(vec![])), Event::Expired(Ok(None))] {
        assert!(dispatcher.handle(now, event).is_empty());
    }
}

/// The ids of all claims among the actions.
fn wanted(actions: &[Action]) -> Vec<u64> {
    let claims = actions.iter().filter_map(|action| match action {
        Action::Claim(wanted) => Some(wanted),
        _ => None,
    });
    claims.flatten().map(|wanted| wanted.id.0).collect()
}

fn hints(actions: &[Action]) -> bool {
    actions.iter().any(|action| matches!(action, Action::Hint))
}

fn verdict(id: u64, verdict: Verdict) -> Event {
    Event::Claimed { ids: vec![JobId(id)], verdicts: vec![verdict] }
}

fn ended(id: u64) -> Event {
    let backoff = Backoff::default();
    Event::Ended(vec![AttemptEnd { id: JobId(id), begun: None, result: Ok(Receipt::default()), backoff }])
}

fn settlements(actions: &[Action]) -> Vec<Settlement> {
    match actions {
        [Action::Settle(settlements), ..] => settlements.clone(),
        other => panic!("{other:?}"),
    }
}

fn settled(settlements: Vec<Settlement>, state: State) -> Event {
    let verdicts = settlements.iter().map(|_| Settled { state, applied: true }).collect();
    Event::Settled { settlements, verdicts }
}

fn max(max_in_flight: usize) -> QueueLimits {
    QueueLimits { max_in_flight: Some(max_in_flight), ..QueueLimits::default() }
}

#[test]
fn it_looks_for_jobs_of_others_at_least_every_interval_and_when_it_is_woken() {
    let mut dispatcher = dispatcher(Limits::default(), None);
    for seconds in [5, 10] {
        let wake = dispatcher.next_wake(now(seconds - 5)).unwrap();
        let wait = wake.micros_since(at(seconds as i64 - 5));
        assert!((3_750_000..=5_000_000).contains(&wait), "{wait} us");
        let asked = dispatcher.handle(now(seconds), Event::Tick);
        let until = at(seconds as i64 + 10);
        assert!(
            matches!(asked[..], [Action::Queues, Action::Due { until: to, .. }, Action::Expire { .. }] if to == until),
            "{asked:?}"
        );
        nothing_found(&mut dispatcher, now(seconds));
    }
    let asked = dispatcher.handle(now(11), Event::Woken { reconnected: false });
    assert_eq!(asked.len(), 3, "{asked:?}");
    assert!(dispatcher.handle(now(11), Event::Woken { reconnected: false }).is_empty(), "one look at a time");
    let q = lane("q");
    let found = vec![header(1, &q, 9), header(2, &q, 12)];
    let actions = dispatcher.handle(now(11), Event::Due(Some(found)));
    assert_eq!(wanted(&actions), [1]);
    assert!(actions.iter().any(|action| matches!(action, Action::Due { .. })), "the second wake's look");
    assert_eq!(dispatcher.next_wake(now(11)), Some(at(12)));
}

#[test]
fn a_job_claimed_in_place_of_another_has_its_permits() {
    let mut dispatcher = dispatcher(Limits { max_in_flight: 1, ..Limits::default() }, None);
    let q = lane("q");
    assert_eq!(wanted(&dispatcher.handle(now(0), inserted(vec![header(1, &q, 0)]))), [1]);
    let actions = dispatcher.handle(now(0), verdict(1, Verdict::Claimed(claimed(9, &q, 1))));
    assert!(matches!(&actions[..], [Action::Start(claimed)] if claimed.id == JobId(9)), "{actions:?}");
    assert!(dispatcher.has(JobId(9), 1) && !dispatcher.has(JobId(1), 1));
    assert!(wanted(&dispatcher.handle(now(0), inserted(vec![header(2, &q, 0)]))).is_empty());
    let settlements = settlements(&dispatcher.handle(now(1), ended(9)));
    assert_eq!(wanted(&dispatcher.handle(now(1), settled(settlements, State::Started))), [2]);
    dispatcher.handle(now(1), verdict(2, Verdict::Lost));
    assert!(dispatcher.is_blank() && dispatcher.in_flight() == 0);
}

#[test]
fn a_queue_that_is_held_takes_no_turn_until_it_may_ask_again() {
    let mut dispatcher = dispatcher(Limits::default(), None);
    let (q, other) = (lane("q"), lane("other"));
    assert_eq!(wanted(&dispatcher.handle(now(0), inserted(vec![header(1, &q, 0)]))), [1]);
    let held = verdict(1, Verdict::Held(Duration::from_secs(2)));
    assert!(dispatcher.handle(now(0), held).is_empty());
    let jobs = vec![header(2, &q, 0), header(3, &other, 0)];
    assert_eq!(wanted(&dispatcher.handle(now(1), inserted(jobs))), [3], "the other queue goes on");
    assert_eq!(dispatcher.next_wake(now(1)), Some(at(2)));
    assert_eq!(wanted(&dispatcher.handle(now(2), Event::Tick)), [1, 2]);
}

#[test]
fn the_end_of_an_attempt_lets_a_full_queue_ask_earlier() {
    let mut dispatcher = dispatcher(with_queue("q", max(5)), None);
    let q = lane("q");
    assert_eq!(
        wanted(&dispatcher.handle(now(0), inserted(vec![header(1, &q, 0), header(2, &q, 0)]))),
        [1, 2]
    );
    let verdicts = vec![Verdict::Claimed(claimed(1, &q, 1)), Verdict::Held(Duration::from_secs(60))];
    dispatcher.handle(now(0), Event::Claimed { ids: vec![JobId(1), JobId(2)], verdicts });
    let actions = dispatcher.handle(now(1), ended(1));
    assert!(wanted(&actions).is_empty(), "not before the store knows: {actions:?}");
    assert_eq!(wanted(&dispatcher.handle(now(1), settled(settlements(&actions), State::Started))), [2]);
}

#[test]
fn a_job_that_must_start_alone_is_asked_for_by_itself_and_waits_if_it_is_held() {
    let mut dispatcher = dispatcher(Limits::default(), None);
    let q = lane("q");
    let alone = Header { alone: true, ..header(1, &q, 0) };
    let actions = dispatcher.handle(now(0), inserted(vec![alone]));
    assert!(matches!(&actions[..], [Action::Claim(wanted)] if wanted[0].only), "{actions:?}");
    assert!(dispatcher.handle(now(0), verdict(1, Verdict::Held(Duration::from_secs(2)))).is_empty());
    assert_eq!(dispatcher.next_wake(now(0)), Some(at(2)));
    assert_eq!(wanted(&dispatcher.handle(now(2), Event::Tick)), [1]);
}

#[test]
fn a_job_that_turns_out_to_be_poison_is_given_back_and_then_started_alone() {
    let mut dispatcher = dispatcher(Limits::default(), None);
    let q = lane("q");
    dispatcher.handle(now(0), inserted(vec![header(1, &q, 0)]));
    let poison = Arc::new(Claimed { crashes: 2, ..(*claimed(9, &q, 3)).clone() });
    let actions = dispatcher.handle(now(0), verdict(1, Verdict::Claimed(poison)));
    let settlements = settlements(&actions);
    assert_eq!(actions.len(), 1, "not started: {actions:?}");
    let actions = dispatcher.handle(now(0), settled(settlements, State::Pending));
    assert!(
        matches!(&actions[..], [Action::Claim(wanted), Action::Hint] | [Action::Claim(wanted)]
            if wanted[0].id == JobId(9) && wanted[0].only),
        "{actions:?}"
    );
}

#[test]
fn what_this_node_cannot_start_at_once_is_a_hint_for_the_others() {
    let mut dispatcher = dispatcher(Limits { max_in_flight: 1, ..Limits::default() }, Some(&["q"]));
    let (q, theirs) = (lane("q"), lane("theirs"));
    let foreign = Arc::new(Lane { queue: "q".into(), starter: "foreign".into(), destination: None });
    let mut insert = |seconds, header: Header| dispatcher.handle(now(seconds), inserted(vec![header]));
    assert!(!hints(&insert(0, header(1, &q, 0))), "it is claimed");
    assert!(hints(&insert(0, header(2, &q, 0))), "there is no permit for it");
    assert!(!hints(&insert(0, header(3, &q, 4))), "perhaps there will be one");
    assert!(hints(&insert(0, header(4, &theirs, 4))));
    assert!(hints(&insert(0, header(5, &foreign, 0))));
    assert!(!hints(&insert(0, header(6, &theirs, 11))), "they look in time");
}

#[test]
fn only_what_is_served_here_and_has_no_limits_is_claimed_as_it_is_inserted() {
    let mut dispatcher = dispatcher(with_queue("limited", max(9)), Some(&["q", "limited"]));
    assert!(dispatcher.admit(now(0), &lane("q"), at(0), None));
    assert!(!dispatcher.admit(now(0), &lane("limited"), at(0), None));
    assert!(!dispatcher.admit(now(0), &lane("theirs"), at(0), None));
}

#[test]
fn a_claim_that_is_known_before_its_jobs_last_attempt_is_settled_waits_for_that() {
    let mut dispatcher = dispatcher(Limits::default(), None);
    let q = lane("q");
    dispatcher.handle(now(0), inserted(vec![header(1, &q, 0), header(2, &q, 0)]));
    dispatcher.handle(now(0), verdict(1, Verdict::Claimed(claimed(1, &q, 1))));
    let first = settlements(&dispatcher.handle(now(1), ended(1)));
    let actions = dispatcher.handle(now(1), verdict(2, Verdict::Claimed(claimed(1, &q, 2))));
    assert!(actions.is_empty() && dispatcher.has(JobId(1), 2), "{actions:?}");
    let actions = dispatcher.handle(now(1), settled(first, State::Starting));
    assert!(matches!(&actions[..], [Action::Start(claimed)] if claimed.fence == 2), "{actions:?}");
    let second = settlements(&dispatcher.handle(now(2), ended(1)));
    dispatcher.handle(now(2), settled(second, State::Started));
    assert!(dispatcher.is_blank() && dispatcher.in_flight() == 0);
}

#[test]
fn refills_that_help_nothing_are_not_asked_for_again_before_the_next_look() {
    let mut dispatcher = dispatcher(Limits { max_in_flight: 2_048, ..Limits::default() }, None);
    let q = lane("q");
    dispatcher.handle(now(5), Event::Tick);
    // A page of due jobs, of a queue that another node has emptied since: the lanes are listed.
    let page: Vec<_> = (1..=4_096).map(|id| header(id, &lane("gone"), 2)).collect();
    let mut actions = dispatcher.handle(now(5), Event::Due(Some(page)));
    let (mut listed, mut refills, mut next) = (false, 0, 10_000);
    while let Some(action) = actions.pop() {
        // The store shows due jobs, and others are always quicker.
        actions.extend(match action {
            Action::Lanes { .. } => {
                assert!(!std::mem::replace(&mut listed, true));
                dispatcher.handle(now(5), Event::Lanes(Some(vec![q.clone()])))
            }
            Action::Ready { lane, limit, .. } => {
                refills += usize::from(lane == q);
                assert!(refills < 10, "again and again");
                let headers = (next..next + limit as u64).map(|id| header(id, &lane, 1)).collect();
                next += limit as u64;
                dispatcher.handle(now(5), Event::Ready { lane, limit, headers: Some(headers) })
            }
            Action::Claim(wanted) => {
                let ids = wanted.iter().map(|wanted| wanted.id).collect();
                let verdicts = vec![Verdict::Lost; wanted.len()];
                dispatcher.handle(now(5), Event::Claimed { ids, verdicts })
            }
            _ => Vec::new(),
        });
    }
    assert!(listed && refills == 2, "{refills}");
}

#[test]
fn a_look_at_a_long_backlog_refills_no_lane_that_has_jobs() {
    let paused = QueueLimits { paused: true, ..QueueLimits::default() };
    let mut dispatcher = dispatcher(with_queue("q", paused), None);
    let q = lane("q");
    let page = |dispatcher: &mut Dispatcher, seconds| {
        dispatcher.handle(now(seconds), Event::Tick);
        dispatcher.handle(now(seconds), Event::QueuesRead(true));
        dispatcher.handle(now(seconds), Event::Expired(Ok(None)));
        let page: Vec<_> = (1..=4_096).map(|id| header(id, &q, 0)).collect();
        let actions = dispatcher.handle(now(seconds), Event::Due(Some(page)));
        assert!(matches!(actions[..], [Action::Lanes { .. }]), "{actions:?}");
        dispatcher.handle(now(seconds), Event::Lanes(Some(vec![q.clone()])))
    };
    for seconds in [5, 10, 15] {
        let actions = page(&mut dispatcher, seconds);
        assert!(matches!(actions[..], [Action::Due { .. }]), "from now on: {actions:?}");
        dispatcher.handle(now(seconds), Event::Due(Some(vec![])));
    }
}
