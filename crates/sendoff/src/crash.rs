//! Named points at which a test can have the process die, so that it can be seen from outside what a
//! crash leaves behind (`crates/sendoff-cli/tests/it/proof/crash_points`). Without the feature
//! `crash-points` there are none.
//!
//! `SENDOFF_CRASH_AT=claim.before_commit:3:abort`: the third time that anything comes by.

/// Comes by a point.
#[cfg(feature = "crash-points")]
#[doc(hidden)]
#[macro_export]
macro_rules! crash_point {
    ($point:ident) => {
        $crate::crash::Point::$point.pass()
    };
}

/// Nothing.
#[cfg(not(feature = "crash-points"))]
#[doc(hidden)]
#[macro_export]
macro_rules! crash_point {
    ($point:ident) => {
        ()
    };
}

#[cfg(feature = "crash-points")]
pub use points::Point;

/// What a transaction does, as far as crashes before and after its commit have a name.
#[derive(Debug, Clone, Copy)]
#[cfg_attr(
    not(any(feature = "sqlite", feature = "postgres")),
    expect(dead_code, reason = "only stores with transactions")
)]
pub(crate) enum Deed {
    Submit,
    Claim,
    Outcome,
    Cancel,
    Reschedule,
    Expire,
    Prune,
    Reclaim,
}

/// The deeds of one transaction.
#[derive(Debug, Default, Clone, Copy)]
#[cfg_attr(
    not(any(feature = "sqlite", feature = "postgres")),
    expect(dead_code, reason = "only stores with transactions")
)]
pub(crate) struct Deeds {
    #[cfg(feature = "crash-points")]
    held: [bool; 8],
}

#[cfg(any(feature = "sqlite", feature = "postgres"))]
impl Deeds {
    /// Notes one that the transaction is to do.
    pub(crate) fn add(&mut self, deed: Deed) {
        #[cfg(feature = "crash-points")]
        {
            self.held[deed as usize] = true;
        }
        #[cfg(not(feature = "crash-points"))]
        let _ = deed;
    }

    /// Notes one that is done, and not committed yet.
    #[cfg(feature = "sqlite")]
    pub(crate) fn done(&mut self, deed: Deed) {
        self.add(deed);
        #[cfg(feature = "crash-points")]
        points::of(deed)[0].pass();
    }

    /// Some of the statements have run.
    #[cfg(feature = "postgres")]
    pub(crate) fn in_transaction(self) {
        #[cfg(feature = "crash-points")]
        self.pass(0);
    }

    pub(crate) fn before_commit(self) {
        #[cfg(feature = "crash-points")]
        self.pass(1);
    }

    /// Nobody was told yet.
    pub(crate) fn after_commit(self) {
        #[cfg(feature = "crash-points")]
        self.pass(2);
    }

    #[cfg(feature = "crash-points")]
    fn pass(self, which: usize) {
        use Deed::{Cancel, Claim, Expire, Outcome, Prune, Reclaim, Reschedule, Submit};
        for deed in [Submit, Claim, Outcome, Cancel, Reschedule, Expire, Prune, Reclaim] {
            if self.held[deed as usize] {
                points::of(deed)[which].pass();
            }
        }
    }
}

#[cfg(feature = "crash-points")]
mod points {
    use std::{
        io::Write,
        sync::{
            LazyLock,
            atomic::{AtomicU64, Ordering},
        },
    };

    use super::Deed;

    macro_rules! points {
        ($($point:ident: $name:literal,)*) => {
            /// A point.
            #[derive(Debug, Clone, Copy, PartialEq, Eq)]
            #[non_exhaustive]
            pub enum Point {
                $(#[doc = $name] $point,)*
            }

            impl Point {
                /// All of them.
                pub const ALL: &[Self] = &[$(Self::$point),*];

                /// As `SENDOFF_CRASH_AT` names it.
                pub const fn name(self) -> &'static str {
                    match self { $(Self::$point => $name),* }
                }
            }
        };
    }

    points! {
        SubmitReceived: "submit.received",
        SubmitInTransaction: "submit.in_transaction",
        SubmitBeforeCommit: "submit.before_commit",
        SubmitAfterCommit: "submit.after_commit",
        SubmitBeforeReply: "submit.before_reply",
        BatchBeforeReply: "batch.before_reply",
        ClaimInTransaction: "claim.in_transaction",
        ClaimBeforeCommit: "claim.before_commit",
        ClaimAfterCommit: "claim.after_commit",
        StartBeforeBegin: "start.before_begin",
        StartAfterBegin: "start.after_begin",
        SpawnBefore: "process.before_spawn",
        SpawnAfter: "process.after_spawn",
        HttpBeforeFirstByte: "http.before_first_byte",
        HttpAfterFirstByte: "http.after_first_byte",
        HttpAfterRequest: "http.after_request",
        HttpAfterAnswer: "http.after_answer",
        StartEnded: "start.ended",
        OutcomeInTransaction: "outcome.in_transaction",
        OutcomeBeforeCommit: "outcome.before_commit",
        OutcomeAfterCommit: "outcome.after_commit",
        CancelInTransaction: "cancel.in_transaction",
        CancelBeforeCommit: "cancel.before_commit",
        CancelAfterCommit: "cancel.after_commit",
        CancelBeforeReply: "cancel.before_reply",
        BulkCancelAfterChunk: "bulk_cancel.after_chunk",
        BulkCancelBeforeReply: "bulk_cancel.before_reply",
        RescheduleInTransaction: "reschedule.in_transaction",
        RescheduleBeforeCommit: "reschedule.before_commit",
        RescheduleAfterCommit: "reschedule.after_commit",
        RescheduleBeforeReply: "reschedule.before_reply",
        ExpireInTransaction: "expire.in_transaction",
        ExpireBeforeCommit: "expire.before_commit",
        ExpireAfterCommit: "expire.after_commit",
        PruneInTransaction: "prune.in_transaction",
        PruneBeforeCommit: "prune.before_commit",
        PruneAfterCommit: "prune.after_commit",
        ReclaimInTransaction: "reclaim.in_transaction",
        ReclaimBeforeCommit: "reclaim.before_commit",
        ReclaimAfterCommit: "reclaim.after_commit",
        CheckpointBefore: "checkpoint.before",
        CheckpointAfter: "checkpoint.after",
        StoreCreated: "store.created",
        MigrateBeforeCommit: "migrate.before_commit",
        MigrateAfterCommit: "migrate.after_commit",
        Recovered: "start_up.recovered",
        ReadyBefore: "start_up.before_ready",
        DrainBegun: "drain.begun",
        DrainBeforeClose: "drain.before_close",
        DrainClosed: "drain.closed",
        CloseBeforeCheckpoint: "close.before_checkpoint",
        CloseAfterCheckpoint: "close.after_checkpoint",
        RegisterBefore: "node.before_register",
        RegisterAfter: "node.after_register",
        BeatBefore: "node.before_heartbeat",
        BeatAfter: "node.after_heartbeat",
        DeclareDeadBefore: "node.before_declare_dead",
        DeclareDeadAfter: "node.after_declare_dead",
        ForgetBefore: "node.before_forget",
        ForgetAfter: "node.after_forget",
        LeaveBefore: "node.before_leave",
        LeaveAfter: "node.after_leave",
    }

    /// In a transaction, before its commit, after it.
    pub(super) const fn of(deed: Deed) -> [Point; 3] {
        use Point::*;
        match deed {
            Deed::Submit => [SubmitInTransaction, SubmitBeforeCommit, SubmitAfterCommit],
            Deed::Claim => [ClaimInTransaction, ClaimBeforeCommit, ClaimAfterCommit],
            Deed::Outcome => [OutcomeInTransaction, OutcomeBeforeCommit, OutcomeAfterCommit],
            Deed::Cancel => [CancelInTransaction, CancelBeforeCommit, CancelAfterCommit],
            Deed::Reschedule => [RescheduleInTransaction, RescheduleBeforeCommit, RescheduleAfterCommit],
            Deed::Expire => [ExpireInTransaction, ExpireBeforeCommit, ExpireAfterCommit],
            Deed::Prune => [PruneInTransaction, PruneBeforeCommit, PruneAfterCommit],
            Deed::Reclaim => [ReclaimInTransaction, ReclaimBeforeCommit, ReclaimAfterCommit],
        }
    }

    /// How to die.
    enum Manner {
        /// At once and from within.
        Abort,
        /// By a SIGKILL from outside, for which whoever came by waits: until then everything else goes
        /// on, which is the difference.
        Wait,
    }

    struct Armed {
        point: Point,
        left: AtomicU64,
        manner: Manner,
    }

    static ARMED: LazyLock<Option<Armed>> = LazyLock::new(|| {
        let text = std::env::var("SENDOFF_CRASH_AT").ok()?;
        let armed = Armed::parse(&text);
        Some(armed.unwrap_or_else(|| panic!("SENDOFF_CRASH_AT={text:?} is no POINT:COUNT:abort or :wait")))
    });

    impl Armed {
        fn parse(text: &str) -> Option<Self> {
            let mut parts = text.split(':');
            let name = parts.next()?;
            let point = *Point::ALL.iter().find(|point| point.name() == name)?;
            let left = AtomicU64::new(parts.next()?.parse().ok()?);
            let manner = match parts.next()? {
                "abort" => Manner::Abort,
                "wait" => Manner::Wait,
                _ => return None,
            };
            Some(Self { point, left, manner })
        }
    }

    impl Point {
        /// Comes by.
        pub fn pass(self) {
            if let Some(armed) = &*ARMED
                && armed.point == self
                && armed.left.fetch_sub(1, Ordering::Relaxed) == 1
            {
                // In one piece, for whoever waits for it. Nobody may.
                let _ = std::io::stderr().write_all(format!("at crash point {}\n", self.name()).as_bytes());
                match armed.manner {
                    Manner::Abort => std::process::abort(),
                    Manner::Wait => loop {
                        std::thread::park();
                    },
                }
            }
        }

        /// Whether it is the one to die at.
        #[cfg(feature = "http")]
        pub(crate) fn is_armed(self) -> bool {
            ARMED.as_ref().is_some_and(|armed| armed.point == self)
        }
    }
}
