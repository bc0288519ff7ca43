//! T2 in queues with limits: those hold for the fleet, so the queue's row is locked while it is
//! counted what is starting, and for no longer.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use tokio_postgres::types::Type;

use super::{
    call::Work,
    claim::{claim_ids, claim_others, is_mine},
    rows::row_id,
    sql::Sql,
    transaction::{Stop, Transaction},
};
use crate::{
    job::{Lane, QueueLimits, Rate},
    ports::{ClaimVerdict, Wanted},
};

/// When to ask again for a place in a queue that is full: nobody tells when another node gives one back.
const FULL: Duration = Duration::from_millis(75);
const PAUSED: Duration = Duration::from_secs(1);

/// Which calls did not get jobs that are in queues with limits.
pub(super) async fn remain(
    tx: &Transaction<'_>,
    group: &[Work],
    calls: &[usize],
) -> Result<Vec<usize>, Stop> {
    let mut remaining: Vec<(usize, Vec<&str>)> = Vec::new();
    for &call in calls {
        let Work::ClaimWithin(claim) = &group[call] else { continue };
        let Some(Ok(verdicts)) = &claim.output else { continue };
        if is_mine(tx, &claim.input.1) {
            let lost = lost(&claim.input.0, verdicts);
            remaining.push((call, lost.into_iter().map(|(_, wanted)| &*wanted.lane.queue).collect()));
        }
    }
    let mut queues: Vec<&str> = remaining.iter().flat_map(|(_, queues)| queues).copied().collect();
    queues.sort_unstable();
    queues.dedup();
    if queues.is_empty() {
        return Ok(Vec::new());
    }
    let rows = tx.rows(Sql::Limited, &[(&queues, Type::TEXT_ARRAY)]).await?;
    let limited: Vec<&str> = rows.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?;
    remaining.retain(|(_, queues)| queues.iter().any(|queue| limited.contains(queue)));
    Ok(remaining.into_iter().map(|(call, _)| call).collect())
}

fn lost<'w>(wanted: &'w [Wanted], verdicts: &[ClaimVerdict]) -> Vec<(usize, &'w Wanted)> {
    let lost = |(item, _): &(usize, &Wanted)| matches!(verdicts[*item], ClaimVerdict::Lost);
    wanted.iter().enumerate().filter(lost).collect()
}

/// What a call has got so far.
pub(super) fn verdicts(work: &Work) -> Vec<ClaimVerdict> {
    match work {
        Work::ClaimWithin(call) => call.output.as_ref().and_then(|got| got.as_ref().ok()).cloned(),
        _ => None,
    }
    .unwrap_or_default()
}

pub(super) fn restore(work: &mut Work, verdicts: Vec<ClaimVerdict>) {
    if let Work::ClaimWithin(call) = work {
        call.set(verdicts);
    }
}

/// It cannot be told what became of those that were not claimed.
pub(super) fn hold(work: &mut Work) {
    if let Work::ClaimWithin(call) = work
        && let Some(Ok(verdicts)) = &mut call.output
    {
        for verdict in verdicts.iter_mut().filter(|verdict| matches!(verdict, ClaimVerdict::Lost)) {
            *verdict = ClaimVerdict::Held(PAUSED);
        }
    }
}

/// Claims within the limits of their queues what this call did not get; in a transaction of its own.
pub(super) async fn claim(tx: &Transaction<'_>, work: &mut Work) -> Result<(), Stop> {
    let Work::ClaimWithin(call) = work else { return Ok(()) };
    let Some(Ok(verdicts)) = &mut call.output else { return Ok(()) };
    let (wanted, by) = &call.input;
    let mut queues: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (item, wanted) in lost(wanted, verdicts) {
        queues.entry(&wanted.lane.queue).or_default().push(item);
    }
    let names: Vec<&str> = queues.keys().copied().collect();
    let locked = tx.rows(Sql::LockLimits, &[(&names, Type::TEXT_ARRAY)]).await?;
    // After the locks were given: what others claimed before is seen now.
    let names: Vec<&str> = locked.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?;
    let counts = tx.rows(Sql::InFlight, &[(&names, Type::TEXT_ARRAY)]).await?;
    let mut in_flight: HashMap<&str, (i64, i64)> = HashMap::new();
    for row in &counts {
        in_flight.insert(row.try_get(0)?, (row.try_get(1)?, row.try_get(2)?));
    }
    let (mut moved, mut arrivals) = (Vec::new(), Vec::new());
    for row in &locked {
        let queue: &str = row.try_get(0)?;
        let (limits, arrival): (&str, i64) = (row.try_get(1)?, row.try_get(2)?);
        // Whatever they were, nothing starts beyond them.
        let limits =
            serde_json::from_str(limits).unwrap_or(QueueLimits { paused: true, ..QueueLimits::default() });
        let (Some(items), Some(&(starting, now))) = (queues.get(queue), in_flight.get(queue)) else {
            continue;
        };
        let room = Room::of(&limits, starting, arrival, now);
        let got = take(tx, wanted, by.now, verdicts, items, room.starts).await?;
        let (arrival, retry) = room.after(&limits, got);
        moved.push(queue);
        arrivals.push(arrival);
        if let (true, Some(retry)) = (got >= room.starts, retry) {
            for &item in items {
                if matches!(verdicts[item], ClaimVerdict::Lost) {
                    verdicts[item] = ClaimVerdict::Held(retry);
                }
            }
        }
    }
    if !moved.is_empty() {
        tx.rows(Sql::MoveArrival, &[(&moved, Type::TEXT_ARRAY), (&arrivals, Type::INT8_ARRAY)]).await?;
    }
    Ok(())
}

/// Claims at most so many of these, or others of their lanes in the place of those that are gone.
async fn take(
    tx: &Transaction<'_>,
    wanted: &[Wanted],
    now: crate::time::Timestamp,
    verdicts: &mut [ClaimVerdict],
    items: &[usize],
    room: usize,
) -> Result<usize, Stop> {
    let tried: Vec<usize> = items.iter().copied().take(room).collect();
    let ids = tried.iter().map(|item| (row_id(wanted[*item].id), now.as_micros())).collect();
    let mut claimed = claim_ids(tx, ids).await?;
    let mut got = 0;
    let mut lanes: BTreeMap<&Arc<Lane>, Vec<usize>> = BTreeMap::new();
    for item in tried {
        if let Some(claimed) = claimed.remove(&wanted[item].id).flatten() {
            verdicts[item] = ClaimVerdict::Claimed(Box::new(claimed));
            got += 1;
        } else if !wanted[item].only {
            lanes.entry(&wanted[item].lane).or_default().push(item);
        }
    }
    for (lane, items) in lanes {
        let others = claim_others(tx, lane, now, items.len(), true).await?;
        for (item, other) in items.into_iter().zip(others) {
            verdicts[item] = ClaimVerdict::Claimed(Box::new(other));
            got += 1;
        }
    }
    Ok(got)
}

/// What a queue's limits leave, at an instant of the database's clock, in microseconds.
struct Room {
    /// Starts that may be claimed now.
    starts: usize,
    full: bool,
    arrival: i64,
    now: i64,
}

impl Room {
    fn of(limits: &QueueLimits, starting: i64, arrival: i64, now: i64) -> Self {
        let mut room = Self { starts: usize::MAX, full: false, arrival, now };
        if let Some(most) = limits.max_in_flight {
            room.starts = most.saturating_sub(usize::try_from(starting).unwrap_or(0));
            room.full = true;
        }
        if let Some(rate) = &limits.rate {
            // Under a changed rate one waits no longer than after a burst of that one.
            room.arrival = arrival.clamp(now, now.saturating_add(span(rate, u64::from(rate.burst))));
            let tokens = tokens(rate, now - room.arrival + span(rate, u64::from(rate.burst)));
            room.full &= room.starts <= tokens;
            room.starts = room.starts.min(tokens);
        }
        if limits.paused {
            room.starts = 0;
        }
        room
    }

    /// The arrival after so many starts, and when to ask for more; none if there is no limit.
    fn after(&self, limits: &QueueLimits, starts: usize) -> (i64, Option<Duration>) {
        let Some(rate) = &limits.rate else {
            let retry = if limits.paused { Some(PAUSED) } else { limits.max_in_flight.map(|_| FULL) };
            return (self.arrival, retry);
        };
        let arrival = self.arrival.saturating_add(span(rate, starts as u64));
        if limits.paused {
            return (arrival, Some(PAUSED));
        }
        let next = arrival - span(rate, u64::from(rate.burst)) + span(rate, 1) - self.now;
        let next = Duration::from_micros(u64::try_from(next).unwrap_or(0).max(1));
        (arrival, Some(if self.full { next.max(FULL) } else { next }))
    }
}

/// How long so many starts take.
fn span(rate: &Rate, starts: u64) -> i64 {
    let per = rate.per.duration().as_micros();
    i64::try_from(per.saturating_mul(u128::from(starts)) / u128::from(rate.starts.max(1)))
        .unwrap_or(i64::MAX / 4)
}

/// How many starts fit into so long.
fn tokens(rate: &Rate, micros: i64) -> usize {
    let micros = u128::try_from(micros).unwrap_or(0);
    // One more microsecond, since `span` rounds down.
    let tokens = ((micros + 1) * u128::from(rate.starts.max(1))).saturating_sub(1)
        / rate.per.duration().as_micros().max(1);
    usize::try_from(tokens).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many pass in a second if one is asked for at each millisecond.
    fn passed(rate: Rate) -> usize {
        let limits = QueueLimits { rate: Some(rate), ..QueueLimits::default() };
        let mut arrival = 0;
        let mut passed = 0;
        for now in (1_000_000..2_000_000).step_by(1_000) {
            let room = Room::of(&limits, 0, arrival, now);
            let got = room.starts.min(5);
            arrival = room.after(&limits, got).0;
            passed += got;
        }
        passed
    }

    #[test]
    fn a_rate_lets_a_burst_pass_and_then_its_pace() {
        let second = Duration::from_secs(1);
        assert_eq!(passed(Rate { starts: 10, per: second.into(), burst: 3 }), 12);
        assert_eq!(passed(Rate { starts: 300, per: second.into(), burst: 3 }), 302);
        // Without a burst to fall back on, who asks at each millisecond gets one at each fourth.
        assert_eq!(passed(Rate { starts: 300, per: second.into(), burst: 1 }), 250);
        assert_eq!(passed(Rate { starts: 1, per: (60 * second).into(), burst: 1 }), 1);
    }

    #[test]
    fn a_rate_says_when_to_ask_again() {
        let rate = Rate { starts: 10, per: Duration::from_secs(1).into(), burst: 2 };
        let limits = QueueLimits { rate: Some(rate), ..QueueLimits::default() };
        let room = Room::of(&limits, 0, 0, 5_000_000);
        assert_eq!(room.starts, 2);
        let (arrival, retry) = room.after(&limits, 2);
        assert_eq!(retry, Some(Duration::from_millis(100)));
        assert_eq!(Room::of(&limits, 0, arrival, 5_099_999).starts, 0);
        assert_eq!(Room::of(&limits, 0, arrival, 5_100_000).starts, 1);
    }

    #[test]
    fn what_is_starting_anywhere_takes_a_place() {
        let limits = QueueLimits { max_in_flight: Some(3), ..QueueLimits::default() };
        assert_eq!(Room::of(&limits, 1, 0, 1).starts, 2);
        assert_eq!(Room::of(&limits, 5, 0, 1).starts, 0);
        let paused = QueueLimits { paused: true, ..limits };
        assert_eq!(Room::of(&paused, 0, 0, 1).starts, 0);
        assert_eq!(Room::of(&paused, 0, 0, 1).after(&paused, 0).1, Some(PAUSED));
    }
}
