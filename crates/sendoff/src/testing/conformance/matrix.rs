//! Every step of the machine, with every fence and outcome, in every state.

use super::words::{ALL, batch, begun, failed, released, retry, started, unknown};
use crate::{
    job::{Delivery, Job, JobId},
    ports::Inserted,
    state::{Outcome, Resolution},
    testing::model::{Model, at, job},
};

/// How jobs get where the step finds them.
struct Setup {
    /// What is different about the job.
    job: fn(Job) -> Job,
    /// Claimed, orphaned by a crash and reclaimed, before anything else.
    reclaimed: bool,
    then: &'static [Prepare],
}

enum Prepare {
    Claim,
    Settle(fn() -> Outcome),
    Cancel,
    Expire,
}

use Prepare::{Cancel, Claim, Expire, Settle};

const SETUPS: &[Setup] = &[
    // Pending: due, not yet, past the deadline, after each way back.
    Setup { job: |job| job, reclaimed: false, then: &[] },
    Setup { job: |job| Job { run_at: at(2_000), ..job }, reclaimed: false, then: &[] },
    Setup { job: |job| Job { expires_at: Some(at(900)), ..job }, reclaimed: false, then: &[] },
    Setup { job: |job| job, reclaimed: false, then: &[Claim, Settle(|| retry(100, false))] },
    Setup { job: |job| job, reclaimed: false, then: &[Claim, Settle(|| retry(100, true))] },
    Setup { job: |job| job, reclaimed: false, then: &[Claim, Settle(|| released(100))] },
    Setup { job: |job| job, reclaimed: true, then: &[] },
    // Starting: the first attempt, a second one, with a cancel, past the deadline.
    Setup { job: |job| job, reclaimed: false, then: &[Claim] },
    Setup { job: |job| job, reclaimed: false, then: &[Claim, Settle(|| retry(100, true)), Claim] },
    Setup { job: |job| job, reclaimed: true, then: &[Claim] },
    Setup { job: |job| job, reclaimed: false, then: &[Claim, Cancel] },
    Setup { job: |job| Job { expires_at: Some(at(900)), ..job }, reclaimed: false, then: &[Claim] },
    Setup { job: |job| Job { max_attempts: 1, ..job }, reclaimed: false, then: &[Claim] },
    // Final.
    Setup { job: |job| job, reclaimed: false, then: &[Claim, Settle(|| started(300))] },
    Setup { job: |job| job, reclaimed: false, then: &[Claim, Settle(|| failed(false))] },
    Setup { job: |job| job, reclaimed: false, then: &[Cancel] },
    Setup { job: |job| Job { expires_at: Some(at(100)), ..job }, reclaimed: false, then: &[Expire] },
    Setup { job: |job| job, reclaimed: false, then: &[Claim, Settle(unknown)] },
    Setup { job: |job| job, reclaimed: false, then: &[Claim, Cancel, Settle(unknown)] },
];

#[derive(Clone, Copy)]
enum Step {
    Claim,
    /// With the current fence plus so much.
    Settle(fn() -> Outcome, i64),
    Cancel,
    Reschedule,
    Resolve(Resolution),
    /// Left to the expire and the reclaim of all at the end.
    None,
}

fn steps() -> Vec<Step> {
    let outcomes: [fn() -> Outcome; 8] = [
        || started(1_001),
        || retry(1_100, true),
        || retry(1_100, false),
        || failed(true),
        || failed(false),
        unknown,
        || Outcome::Expired,
        || released(1_100),
    ];
    let mut steps = vec![Step::Claim, Step::Cancel, Step::Reschedule, Step::None];
    steps.extend([Resolution::Started, Resolution::Failed, Resolution::Pending].map(Step::Resolve));
    for outcome in outcomes {
        steps.extend([0, -1, 1].map(|other| Step::Settle(outcome, other)));
    }
    steps
}

pub(super) async fn every_step_in_every_state(model: &mut Model) {
    let steps = steps();
    for (which, delivery) in [(0, Delivery::AtLeastOnce), (1, Delivery::AtMostOnce)] {
        let mut prepared = Vec::new();
        // A crash meets whatever is starting, so what is to be reclaimed comes first.
        let (reclaimed, rest): (Vec<_>, Vec<_>) =
            (0..SETUPS.len()).partition(|place| SETUPS[*place].reclaimed);
        for place in reclaimed {
            let ids = insert(model, which, place, delivery, steps.len()).await;
            model.claim(&ids, at(10)).await;
            prepared.push((place, ids));
        }
        model.crash_and_reopen().await;
        model.reclaim(ALL, at(20)).await;
        for place in rest {
            prepared.push((place, insert(model, which, place, delivery, steps.len()).await));
        }
        for (place, ids) in &prepared {
            for preparation in SETUPS[*place].then {
                prepare(model, ids, preparation).await;
            }
        }
        for (_, ids) in &prepared {
            for (id, step) in ids.iter().zip(&steps) {
                take(model, *id, *step).await;
            }
        }
        model.verify(at(1_100)).await;
        model.expire(ALL, at(1_001)).await;
        model.crash_and_reopen().await;
        model.reclaim(ALL, at(1_002)).await;
        model.verify(at(1_100)).await;
    }
}

async fn insert(model: &mut Model, which: u64, place: usize, delivery: Delivery, count: usize) -> Vec<JobId> {
    let first = 100_000 * which + 1_000 * place as u64;
    let jobs = (first..).take(count).map(|n| Job { delivery, ..(SETUPS[place].job)(job(n)) });
    let verdicts = model.insert(batch(jobs, true)).await;
    let ids = verdicts.iter().map(|verdict| match verdict {
        Inserted::Created(id) => *id,
        other => panic!("not created: {other:?}"),
    });
    ids.collect()
}

async fn prepare(model: &mut Model, ids: &[JobId], preparation: &Prepare) {
    match preparation {
        Claim => {
            model.claim(ids, at(200)).await;
        }
        Settle(outcome) => {
            let settlements = ids.iter().map(|id| begun(*id, model.row(*id).life.fence, 250, outcome()));
            let settlements = settlements.collect();
            model.settle(settlements, at(300)).await;
        }
        Cancel => {
            let guids: Vec<_> = ids.iter().map(|id| model.guid(*id)).collect();
            model.cancel(&guids, at(400)).await;
        }
        Expire => {
            model.expire(ALL, at(500)).await;
        }
    }
}

async fn take(model: &mut Model, id: JobId, step: Step) {
    let guid = model.guid(id);
    match step {
        Step::Claim => {
            model.claim(&[id], at(1_000)).await;
        }
        Step::Settle(outcome, other) => {
            let fence = i64::from(model.row(id).life.fence) + other;
            let Ok(fence) = u32::try_from(fence) else { return };
            model.settle_one(begun(id, fence, 999, outcome()), at(1_000)).await;
        }
        Step::Cancel => {
            model.cancel(&[guid], at(1_000)).await;
        }
        Step::Reschedule => {
            model.reschedule(guid, at(1_500), at(1_000)).await;
        }
        Step::Resolve(to) => {
            model.resolve(guid, to, at(1_000)).await;
        }
        Step::None => {}
    }
}
