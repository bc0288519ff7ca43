//! How often a node beats, and when that is too late.

use std::time::Duration;

/// The times of a node's life, in their fixed proportions.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(in super::super) struct Pace {
    /// Between two heartbeats, but for jitter.
    pub(super) heartbeat: Duration,
    /// How long a heartbeat may take; then its connection is made anew.
    pub(super) limit: Duration,
    /// Until the next attempt after one that failed.
    pub(super) retry: Duration,
    /// How long a heartbeat lets its node begin starts, counted from before it was sent.
    pub(super) lease: Duration,
    /// A node is dead after so many reads that found its counter unchanged,
    pub(super) reads: u32,
    /// which span at least this long,
    pub(super) span: Duration,
    /// with never more than this from sending one read to the answer of the next.
    pub(super) gap: Duration,
}

const SECOND: Duration = Duration::from_secs(1);

impl Pace {
    pub(in super::super) const USUAL: Self = Self {
        heartbeat: Duration::from_secs(5),
        limit: Duration::from_secs(5),
        retry: SECOND,
        lease: Duration::from_secs(20),
        reads: 9,
        span: Duration::from_secs(45),
        gap: Duration::from_secs(15),
    };

    /// All times multiplied, so that a test need not wait for a minute.
    #[cfg(feature = "testing")]
    pub(in super::super) fn scaled(factor: f64) -> Option<Self> {
        let of = |time: Duration| {
            Duration::try_from_secs_f64(time.as_secs_f64() * factor).ok().filter(|time| !time.is_zero())
        };
        let usual = Self::USUAL;
        Some(Self {
            heartbeat: of(usual.heartbeat)?,
            limit: of(usual.limit)?,
            retry: of(usual.retry)?,
            lease: of(usual.lease)?,
            reads: usual.reads,
            span: of(usual.span)?,
            gap: of(usual.gap)?,
        })
    }

    /// Until the next heartbeat: a tenth more or less, so that nodes do not beat in step.
    pub(super) fn next(&self, random: f64) -> Duration {
        self.heartbeat.mul_f64(0.9 + 0.2 * random)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dead_node_has_stopped_beginning_long_before() {
        let Pace { heartbeat, limit, lease, reads, span, gap, .. } = Pace::USUAL;
        assert!(lease >= heartbeat + limit + limit, "a failed heartbeat costs no lease");
        assert!(span >= 2 * lease);
        assert_eq!(span, reads * heartbeat);
        assert!(gap > heartbeat.mul_f64(1.1) + limit, "a slow heartbeat is no gap");
    }

    #[cfg(feature = "testing")]
    #[test]
    fn proportions_stay_at_every_pace() {
        let usual = Pace::USUAL;
        for factor in [0.001, 0.05, 1.0, 3.0] {
            let pace = Pace::scaled(factor).unwrap();
            for (time, scaled) in [
                (usual.heartbeat, pace.heartbeat),
                (usual.limit, pace.limit),
                (usual.retry, pace.retry),
                (usual.lease, pace.lease),
                (usual.span, pace.span),
                (usual.gap, pace.gap),
            ] {
                assert!(scaled.abs_diff(time.mul_f64(factor)) < Duration::from_micros(1), "{factor}");
            }
            assert_eq!(pace.reads, usual.reads);
        }
        for bad in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert_eq!(Pace::scaled(bad), None);
        }
    }
}
