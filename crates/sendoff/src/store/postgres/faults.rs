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
    "a claim takes a job in any state": Claim "j.state = 0 AND" => "";
    "a claim takes a job before its time": Claim "AND j.next_at <= w.now" => "";
    "a claim at the very instant is refused": Claim "j.next_at <= w.now" => "j.next_at < w.now";
    "a claim takes a job past its deadline": Claim "j.expires_at > w.now" => "j.expires_at > 0";
    "a claim takes a job at its deadline": Claim "j.expires_at > w.now" => "j.expires_at >= w.now";
    "a claim keeps the fence": Claim "fence = j.fence + 1" => "fence = greatest(j.fence, 1)";
    "a claim is not counted": Claim "HAVING sum(m.n) <> 0" => "HAVING sum(m.n) > 0";
    "a start of any attempt is written": Started "AND j.fence = u.fence" => "";
    "a start is written whatever the state": Started "AND j.state = 1" => "";
    "a late start of an unknown job is dropped": LateStarted "j.state = 6" => "false";
    "a late start of a reclaimed job is dropped": LateStarted "AND j.possible_duplicate" => "AND false";
    "a start of a released attempt is written": LateStarted "AND j.possible_duplicate" => "";
    "a late start is counted as one in time": LateStarted "j.state, u.was" => "j.state, 1::smallint AS was";
    "the wait begins before the job was there": Started "greatest(j.run_at, j.queued_at)" => "j.run_at";
    "each attempt has its own wait": Started "coalesce(j.wait_us, u.begun - greatest(j.run_at, j.queued_at))" => "u.begun - greatest(j.run_at, j.queued_at)";
    "a start keeps the crashes": Started "crashes = 0," => "";
    "a job ends before it started": Started "greatest(u.now, u.started)" => "u.now";
    "a retry of any attempt is written": Retry "AND j.fence = u.fence" => "";
    "a retry forgets a late cancel": Retry "j.cancel_requested_at IS NULL" => "true";
    "a retry forgets a possible duplicate": Retry "j.possible_duplicate OR u.ambiguous" => "j.possible_duplicate AND u.ambiguous";
    "a failure is written whatever the state": Failed "AND j.state = 1" => "";
    "an unknown outcome is no possible duplicate": Unknown "possible_duplicate = true," => "";
    "a release counts as an attempt": Release "greatest(j.attempt - 1, 0)" => "j.attempt";
    "a release keeps the node": Release "THEN NULL ELSE j.node" => "THEN j.node ELSE j.node";
    "what may have happened expires as it begins": Overdue "j.possible_duplicate" => "false";
    "a cancel stops what is starting": Cancel "j.state = 0" => "j.state IN (0, 1)";
    "a late cancel moves with each call": LateCancel "coalesce(j.cancel_requested_at, u.now)" => "u.now + 1";
    "a deadline is inclusive": Expire "expires_at <= $1" => "expires_at < $1";
    "what may have happened expires": Expire "j.possible_duplicate" => "false";
    "a reclaim forgets a late cancel": Reclaim "j.cancel_requested_at IS NOT NULL" => "false";
    "a reclaim is no possible duplicate": Reclaim "j.crashes + 1, true" => "j.crashes + 1, j.possible_duplicate";
    "a reclaim repeats at_most_once": Reclaim "j.delivery = 0" => "false";
    "a reclaim goes on past the last attempt": Reclaim "j.attempt >= j.max_attempts" => "false";
    "a reclaim takes what the living hold": Reclaim "n.dead_at IS NOT NULL AND" => "";
    "a reschedule moves next_at only": Reschedule "run_at = $2, next_at" => "next_at";
    "a reschedule moves what is starting": Reschedule "state = 0 AND" => "state < 2 AND";
    "a reschedule goes past the deadline": Reschedule "expires_at > $2" => "expires_at > 0";
    "a resolve decides what is known": ResolveEnded "AND state = 6" => "AND state > 1";
    "a resolve keeps the fence": ResolvePending "fence = fence + 1," => "";
    "a resolve leaves no attempt": ResolvePending "greatest(max_attempts - 1, 0)" => "max_attempts";
    "a prune ignores the submitter": PruneEnded "submitted_by = $2)" => "true)";
    "a prune takes what ended at the instant": PruneEnded "ended_at < $1" => "ended_at <= $1";
    "a prune takes unknown jobs": PruneEnded "BETWEEN 2 AND 5" => "BETWEEN 2 AND 6";
    "what is pruned is still counted": PruneEnded "-1::bigint" => "0::bigint";
    "a job is stored without its grant": Insert "n.request, n.granted" => "n.request, NULL::integer";
    "an inserted job is not counted": Insert "HAVING sum(m.n) <> 0" => "HAVING false";
    "a claimed insert has no node": Insert "THEN $1 END" => "THEN $1 + 1 END";
    "whoever holds a key is not found": Holders "idempotency_key = ANY($2::text[])" => "idempotency_key = ANY($2::text[]) AND false";
    "a bookmark is not moved": SetBookmark "SET value = excluded.value" => "SET value = sendoff.bookmark.value";
    "the limits of a queue stay as they were": SetQueueLimits "limits = excluded.limits" => "limits = sendoff.queue_limits.limits";
    "the limits of all queues are forgotten": ForgetQueueLimits "queue = $1" => "queue = $1 OR true";
    "pages of due jobs repeat a row": Due "(next_at, id) > ($1, $2)" => "(next_at, id) >= ($1, $2)";
    "the end of a range is not due": Due "next_at <= $3" => "next_at < $3";
    "what is not due is ready": Ready "next_at <= $2" => "next_at <= $2 + 1000000000";
    "pages of records repeat one": List "id > $1" => "id >= $1";
    "pages from the newest repeat a record": ListNewest "id < $1" => "id <= $1";
}
