//! Mistakes to plant in the statements, so that it can be seen that the conformance suite finds them.

/// A deliberate mistake: in the statement of this name, the first `from` becomes `to`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fault {
    /// What goes wrong.
    pub name: &'static str,
    /// The statement's name.
    pub statement: &'static str,
    /// Part of its text.
    pub from: &'static str,
    /// What stands there instead.
    pub to: &'static str,
}

macro_rules! faults {
    ($($name:literal: $statement:ident $from:literal => $to:literal;)*) => {
        /// Each of these must make the conformance suite fail.
        pub const FAULTS: &[Fault] = &[$(
            Fault { name: $name, statement: stringify!($statement), from: $from, to: $to },
        )*];
    };
}

faults! {
    "a claim takes a job in any state": Claim "AND state = 0" => "";
    "a claim takes a job before its time": Claim "AND next_at <= ?2" => "";
    "a claim at the very instant is refused": Claim "next_at <= ?2" => "next_at < ?2";
    "a claim takes a job past its deadline": Claim "expires_at > ?2" => "expires_at > 0";
    "a claim takes a job at its deadline": Claim "expires_at > ?2" => "expires_at >= ?2";
    "a claim keeps the fence": Claim "fence = fence + 1," => "fence = max(fence, 1),";
    "a start of any attempt is written": Started "fence = ?2 AND" => "";
    "a start is written whatever the state": Started "state IN (1, 6)" => "state >= 0";
    "a late start of an unknown job is dropped": Started "state IN (1, 6)" => "state = 1";
    "a late start of a reclaimed job is dropped": Started "state = 0 AND possible_duplicate = 1" => "0";
    "a start of a released attempt is written": Started "state = 0 AND possible_duplicate = 1" => "state = 0";
    "the wait begins before the job was there": Started "max(run_at, queued_at)" => "run_at";
    "each attempt has its own wait": Started "coalesce(wait_us, ?3 - max(run_at, queued_at))" => "?3 - max(run_at, queued_at)";
    "a start keeps the crashes": Started "crashes = 0," => "";
    "a retry of any attempt is written": Retry "fence = ?2 AND" => "";
    "a retry forgets a late cancel": Retry "cancel_requested_at IS NULL" => "1";
    "a retry forgets a possible duplicate": Retry "possible_duplicate | ?7" => "(possible_duplicate & ?7)";
    "a failure is written whatever the state": Failed "AND state = 1" => "";
    "an unknown outcome is no possible duplicate": Unknown "possible_duplicate = 1," => "";
    "a release counts as an attempt": Release "attempt = max(attempt - 1, 0)" => "attempt = attempt";
    "a release keeps the node": Release "node = iif(cancel_requested_at IS NULL, NULL, node)," => "";
    "a cancel stops what is starting": Cancel "state = 0" => "state IN (0, 1)";
    "a late cancel moves with each call": LateCancel "coalesce(cancel_requested_at, ?2)" => "?2";
    "a deadline is inclusive": Expire "expires_at <= ?2" => "expires_at < ?2";
    "what may have happened expires": Expire "possible_duplicate = 1" => "0";
    "what may have happened expires as it begins": Overdue "possible_duplicate = 1" => "0";
    "a reclaim forgets a late cancel": Reclaim "cancel_requested_at IS NOT NULL" => "0";
    "a reclaim is no possible duplicate": Reclaim "crashes + 1, 1" => "crashes + 1, possible_duplicate";
    "a reclaim forgets the crash": Reclaim "crashes + 1, 1" => "crashes, 1";
    "a reclaim repeats at_most_once": Reclaim "delivery = 0" => "0";
    "a reclaim goes on past the last attempt": Reclaim "attempt >= max_attempts" => "0";
    "a reclaim takes what was claimed since": Reclaim "fence = ?2 AND" => "";
    "a reschedule moves next_at only": Reschedule "run_at = ?2," => "";
    "a reschedule moves what is starting": Reschedule "state = 0" => "state < 2";
    "a resolve decides what is known": ResolveEnded "AND state = 6" => "AND state > 1";
    "a resolve keeps the fence": ResolvePending "fence = fence + 1," => "";
    "a resolve leaves no attempt": ResolvePending "max(max_attempts - 1, 0)" => "max_attempts";
    "a prune ignores the submitter": Ended "submitted_by = ?2" => "1";
    "a prune takes what ended at the instant": Ended "ended_at < ?1" => "ended_at <= ?1";
    "a prune takes unknown jobs": Ended "BETWEEN 2 AND 5" => "BETWEEN 2 AND 6";
    "pages of due jobs repeat a row": DueSame "id > ?2" => "id >= ?2";
    "the end of a range is not due": DueLater "next_at <= ?2" => "next_at < ?2";
    "what is not due is ready": Ready "next_at <= ?3" => "next_at <= ?3 + 1000000000";
    "jobs of one instant come in any order": Ready "next_at, id" => "next_at, id DESC";
    "pages of lanes repeat one": BusyLanes ") > (" => ") >= (";
    "a lane without pending jobs is listed": BusyLanes "state = 0 AND" => "";
    "pages of records repeat one": List "id > ?1" => "id >= ?1";
    "pages from the newest repeat a record": ListNewest "id < ?1" => "id <= ?1";
    "the newest come last": ListNewest "ORDER BY id DESC" => "ORDER BY id";
    "pages of starting jobs repeat one": ListStarting "id > ?1" => "id >= ?1";
    "a list of starting jobs has none from the newest on": ListStartingNewest "state = 1" => "state = 2";
    "a list of unknown jobs has others": ListUnknown "state = 6" => "state = 3";
    "pages of unknown jobs from the newest repeat one": ListUnknownNewest "id < ?1" => "id <= ?1";
    "a job is stored without its grant": Insert "?17, ?18)" => "?17, iif(?18, NULL, NULL))";
    "a job has another's grant": GrantText "WHERE id = ?1" => "WHERE id <= ?1 ORDER BY id";
    "a grant is taken for another": GrantId "reach = ?1" => "reach <= ?1 ORDER BY reach";
    "the limits of a queue stay as they were": SetQueueLimits "limits = excluded.limits" => "limits = limits";
    "the limits of a queue are not forgotten": ForgetQueueLimits "queue = ?1" => "queue = ?1 AND 0";
    "the limits of all queues are forgotten": ForgetQueueLimits "queue = ?1" => "queue = ?1 OR 1";
    "counts hold the last change only": Count "n = n + excluded.n" => "n = excluded.n";
    "a bookmark is not moved": SetBookmark "SET value = excluded.value" => "SET value = value";
    "a name is never found again": JobNamed "name = ?1" => "name = ?1 AND 0";
    "what waits for its index is lost": NameLog "ORDER BY seq" => "WHERE 0";
}
