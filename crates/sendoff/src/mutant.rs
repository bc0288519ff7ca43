//! Mistakes to make on purpose, so that it can be seen that the simulation finds them
//! (`tests/it/simulation`). Without the feature `testing` the switch is the constant `false`.

/// Whether this mistake is planted on this thread.
macro_rules! mutated {
    ($mutant:ident) => {{
        #[cfg(feature = "testing")]
        let mutated = crate::mutant::Mutant::$mutant.is_planted();
        #[cfg(not(feature = "testing"))]
        let mutated = false;
        mutated
    }};
}

#[cfg(feature = "testing")]
pub use planting::Mutant;

#[cfg(feature = "testing")]
mod planting {
    use std::cell::Cell;

    thread_local! {
        static PLANTED: Cell<Option<Mutant>> = const { Cell::new(None) };
    }

    /// A mistake of the engine to plant.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    #[non_exhaustive]
    pub enum Mutant {
        /// A submit is answered before the store has it.
        AckBeforeCommit,
        /// An attempt begins although its node's lease ran out.
        BeginIgnoresLease,
        /// What was claimed under a lease begins under the one that followed it.
        BeginsUnderTheNextLease,
        /// An attempt begins past its job's deadline.
        BeginIgnoresDeadline,
        /// A deadline is judged by the earliest time that it may be, not by the latest.
        DeadlineByTheEarlierClock,
        /// An attempt that was given up as not begun begins all the same.
        BeginIgnoresStop,
        /// Rows that a lost answer left `starting` are not looked for.
        StraysForgotten,
        /// They are given back while an answer that names them may be under way.
        StraysWithCallsUnderWay,
        /// Attempts in flight are taken for such rows.
        StraysIncludeKnown,
        /// An outcome that the store did not take is forgotten.
        OutcomeNotRetried,
        /// A job whose claim failed is forgotten.
        FailedClaimForgotten,
        /// A claim that is lost keeps its permits.
        LostClaimKeepsPermits,
        /// A starting thing's place is not given back when it ends.
        RunEndForgotten,
        /// A retry of an at_most_once job whose attempt may have happened.
        AmbiguousTriedAgain,
        /// An attempt that certainly did not happen makes an at_most_once job unknown.
        NotStartedIsAmbiguous,
        /// A start that ran into its timeout did not happen.
        TimeoutIsNotStarted,
        /// A start whose starter panicked did not happen.
        PanicIsNotStarted,
        /// Attempts that have begun are given back at a shutdown as well.
        StopReleasesBegun,
        /// A shutdown does not wait for the last outcomes.
        StopLeavesStarting,
        /// Attempts given up at a shutdown did not happen.
        AbandonedIsNotStarted,
        /// An attempt that found no resources counts.
        PressureCounts,
        /// Attempts are not counted.
        AttemptsUnlimited,
        /// A job that waits for a time before which the wall clock stepped back is forgotten.
        StepBackForgets,
        /// A job that crashed sendoff twice is started like any other.
        PoisonNotAlone,
        /// A reschedule is not told to the loop.
        RescheduleNotTold,
        /// A queue's new limits are stored and not told to the loop.
        LimitsNotTold,
        /// What a crash left `starting` is not taken back at the next start.
        NoReclaimAtStart,
        /// One start more in flight than is allowed.
        OneInFlightTooMany,
        /// One start more to a destination than is allowed.
        OneToADestinationTooMany,
        /// A queue's limit of starts in flight is not looked at.
        QueueLimitIgnored,
        /// Cancels go to the store before the submits that came before them.
        CancelOvertakesSubmit,
        /// A job that was to start at once and was not inserted keeps its permits.
        WithdrawnKeepsPermits,
        /// A lease that was revoked holds again with the next heartbeat.
        RevokedLeaseRevives,
        /// A lease is measured by the wall clock.
        LeaseByWallClock,
        /// Another attempt of a job begins while the one before goes on in the same node.
        ClaimsNotDeferred,
        /// A claimed job is handed over although there is no place for it.
        HandedOverWithoutAPlace,
        /// A claimed job that found no place in time is forgotten.
        HeldForgotten,
        /// A retry after the wall clock stepped back is stamped before the time that was asked for.
        StampBeforeItsTime,
        /// An alarm rings a part of a microsecond before there is anything to do.
        AlarmTooEarly,
    }

    impl Mutant {
        /// All of them.
        pub const ALL: &[Self] = &[
            Self::AckBeforeCommit,
            Self::BeginIgnoresLease,
            Self::BeginsUnderTheNextLease,
            Self::BeginIgnoresDeadline,
            Self::DeadlineByTheEarlierClock,
            Self::BeginIgnoresStop,
            Self::StraysForgotten,
            Self::StraysWithCallsUnderWay,
            Self::StraysIncludeKnown,
            Self::OutcomeNotRetried,
            Self::FailedClaimForgotten,
            Self::LostClaimKeepsPermits,
            Self::RunEndForgotten,
            Self::AmbiguousTriedAgain,
            Self::NotStartedIsAmbiguous,
            Self::TimeoutIsNotStarted,
            Self::PanicIsNotStarted,
            Self::StopReleasesBegun,
            Self::StopLeavesStarting,
            Self::AbandonedIsNotStarted,
            Self::PressureCounts,
            Self::AttemptsUnlimited,
            Self::StepBackForgets,
            Self::PoisonNotAlone,
            Self::RescheduleNotTold,
            Self::LimitsNotTold,
            Self::NoReclaimAtStart,
            Self::OneInFlightTooMany,
            Self::OneToADestinationTooMany,
            Self::QueueLimitIgnored,
            Self::CancelOvertakesSubmit,
            Self::WithdrawnKeepsPermits,
            Self::RevokedLeaseRevives,
            Self::LeaseByWallClock,
            Self::ClaimsNotDeferred,
            Self::HandedOverWithoutAPlace,
            Self::HeldForgotten,
            Self::StampBeforeItsTime,
            Self::AlarmTooEarly,
        ];

        /// Plants this mistake, or none, for what runs on this thread.
        pub fn plant(mutant: Option<Self>) {
            PLANTED.set(mutant);
        }

        pub(crate) fn is_planted(self) -> bool {
            PLANTED.get() == Some(self)
        }
    }
}
