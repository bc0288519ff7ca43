//! The machine's steps and their guards.

use super::*;

fn at(micros: i64) -> Timestamp {
    Timestamp::from_micros(1_700_000_000_000_000 + micros).unwrap()
}

fn facts(delivery: Delivery) -> Facts {
    Facts { delivery, max_attempts: 3, queued_at: at(0), expires_at: None }
}

fn claim() -> Transition {
    Transition::Claim { node: "n".into() }
}

fn started(fence: u32) -> Transition {
    let outcome = Outcome::Started { started_at: at(20), receipt: Receipt::default() };
    Transition::Settle { fence, begun: Some(begin(at(10), at(0), at(5))), outcome }
}

fn release(fence: u32) -> Transition {
    Transition::Settle { fence, begun: None, outcome: Outcome::Released { next_at: at(30), error: None } }
}

#[test]
fn the_short_way_of_a_job() {
    let facts = facts(Delivery::AtLeastOnce);
    let mut life = Life::new(at(0));
    assert_eq!(life.apply(&facts, at(5), &claim()), Ok(State::Starting));
    assert_eq!((life.fence, life.attempt), (1, 1));
    assert_eq!(life.apply(&facts, at(20), &started(1)), Ok(State::Started));
    assert_eq!(life.past.unwrap().wait_us, Some(10));
}

#[test]
fn a_claim_needs_a_due_job_before_its_deadline() {
    let mut facts = facts(Delivery::AtLeastOnce);
    let mut life = Life::new(at(10));
    assert!(life.apply(&facts, at(9), &claim()).is_err());
    facts.expires_at = Some(at(10));
    assert!(life.apply(&facts, at(10), &claim()).is_err());
    assert_eq!(life.apply(&facts, at(10), &Transition::Expire), Ok(State::Expired));
}

#[test]
fn an_older_fence_changes_nothing() {
    let facts = facts(Delivery::AtLeastOnce);
    let mut life = Life::new(at(0));
    life.apply(&facts, at(1), &claim()).unwrap();
    life.apply(&facts, at(2), &Transition::Reclaim).unwrap();
    life.apply(&facts, at(3), &claim()).unwrap();
    let before = life.clone();
    assert_eq!(life.apply(&facts, at(4), &started(1)), Err(Refused { state: State::Starting, fence: 2 }));
    assert_eq!(life, before);
}

#[test]
fn a_late_outcome_settles_a_reclaimed_or_unknown_job() {
    for (delivery, between) in
        [(Delivery::AtLeastOnce, State::Pending), (Delivery::AtMostOnce, State::Unknown)]
    {
        let facts = facts(delivery);
        let mut life = Life::new(at(0));
        life.apply(&facts, at(1), &claim()).unwrap();
        assert_eq!(life.apply(&facts, at(2), &Transition::Reclaim), Ok(between));
        assert_eq!(life.apply(&facts, at(3), &started(1)), Ok(State::Started));
    }
}

#[test]
fn a_late_cancel_ends_every_way_back_to_pending() {
    for back in [release(1), Transition::Reclaim] {
        let facts = facts(Delivery::AtLeastOnce);
        let mut life = Life::new(at(0));
        life.apply(&facts, at(1), &claim()).unwrap();
        assert_eq!(life.apply(&facts, at(2), &Transition::Cancel), Ok(State::Starting));
        assert_eq!(life.apply(&facts, at(3), &back), Ok(State::Cancelled));
    }
}

#[test]
fn a_release_does_not_count_and_a_reclaim_does() {
    let facts = facts(Delivery::AtLeastOnce);
    let mut life = Life::new(at(0));
    life.apply(&facts, at(1), &claim()).unwrap();
    life.apply(&facts, at(2), &release(1)).unwrap();
    assert_eq!((life.attempt, life.fence, life.next_at), (0, 1, at(30)));
    life.apply(&facts, at(30), &claim()).unwrap();
    life.apply(&facts, at(31), &Transition::Reclaim).unwrap();
    assert_eq!((life.attempt, life.fence, life.possible_duplicate), (1, 2, true));
}

#[test]
fn crashing_alone_is_poison() {
    let mut facts = facts(Delivery::AtLeastOnce);
    facts.max_attempts = 100;
    let mut life = Life::new(at(0));
    for expected in [State::Pending, State::Pending, State::Failed] {
        life.apply(&facts, at(1), &claim()).unwrap();
        assert_eq!(life.apply(&facts, at(2), &Transition::Reclaim), Ok(expected));
    }
    assert_eq!(life.past.unwrap().last_error.unwrap().class, ErrorClass::Poison);
}

#[test]
fn final_is_final_but_for_unknown() {
    let facts = Facts { expires_at: Some(at(5)), ..facts(Delivery::AtMostOnce) };
    let steps = [
        claim(),
        started(1),
        release(1),
        Transition::Expire,
        Transition::Reclaim,
        Transition::Reschedule { run_at: at(9) },
    ];
    for state in State::ALL.into_iter().filter(|state| state.is_final() && *state != State::Unknown) {
        for step in &steps {
            let mut life = Life { state, fence: 1, ended_at: Some(at(1)), ..Life::new(at(0)) };
            assert_eq!(life.apply(&facts, at(9), step), Err(Refused { state, fence: 1 }), "{state} {step:?}");
        }
    }
}

#[test]
fn a_cancel_that_came_too_late_does_not_outlive_an_operators_decision() {
    let facts = facts(Delivery::AtMostOnce);
    let mut life = Life::new(at(0));
    life.apply(&facts, at(1), &claim()).unwrap();
    life.apply(&facts, at(2), &Transition::Cancel).unwrap();
    assert_eq!(life.apply(&facts, at(3), &Transition::Reclaim), Ok(State::Unknown));
    let again = Transition::Resolve { to: Resolution::Pending };
    assert_eq!(life.apply(&facts, at(4), &again), Ok(State::Pending));
    life.apply(&facts, at(5), &claim()).unwrap();
    assert_eq!(life.apply(&facts, at(6), &release(life.fence)), Ok(State::Pending));
}

#[test]
fn a_job_is_not_rescheduled_past_its_deadline() {
    let facts = Facts { expires_at: Some(at(10)), ..facts(Delivery::AtLeastOnce) };
    let mut life = Life::new(at(0));
    assert!(life.apply(&facts, at(1), &Transition::Reschedule { run_at: at(10) }).is_err());
    assert!(life.apply(&facts, at(1), &Transition::Reschedule { run_at: at(9) }).is_ok());
}

#[test]
fn stamps_ascend_whatever_the_wall_clock_does() {
    assert_eq!(begin(at(-5), at(0), at(0)), Begun { starting_at: at(1), clock_skew_us: 6 });
    assert_eq!(begin(at(7), at(0), at(9)), Begun { starting_at: at(9), clock_skew_us: 2 });
    assert_eq!(begin(at(10), at(0), at(9)), Begun { starting_at: at(10), clock_skew_us: 0 });
}

#[test]
fn codes_are_places() {
    for state in State::ALL {
        assert_eq!(State::from_code(state.code()), Some(state));
    }
    assert_eq!(State::from_code(7), None);
}
