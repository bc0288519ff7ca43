//! The statements, by name. Each transition is one guarded update that repeats
//! [`Life::apply`](crate::state::Life::apply): where its guard does not hold, no row changes. Every
//! write appends to the tally what it changed.
//!
//! Where rows are named, states are asked for by `state + 0`: the planner must not take a partial index
//! of that state for the shorter way because it last saw it empty.

#[cfg(feature = "testing")]
use super::faults::Fault;
use crate::store::statements;

macro_rules! statements {
    ($($name:ident: $text:expr;)*) => {
        /// A statement's name.
        #[derive(Debug, Clone, Copy)]
        pub(super) enum Sql { $($name),* }

        pub(super) const TEXTS: &[(&str, &str)] = &[$((stringify!($name), $text)),*];
    };
}

/// An instant in microseconds since 1970.
macro_rules! micros {
    ($instant:literal) => {
        concat!("(extract(epoch FROM ", $instant, ") * 1000000)::bigint")
    };
}

/// The database's clock as it runs on within a transaction.
macro_rules! database_now {
    () => {
        micros!("clock_timestamp()")
    };
}

/// The columns that [`rows::kept`](super::rows::kept) reads.
macro_rules! job_columns {
    () => {
        "id, state, lane, priority, delivery, fence, attempt, max_attempts, queued_at, run_at, \
         expires_at, submitted_by, own_guid, guid, idempotency_key, request, quarantined, crashes, granted"
    };
}

/// Those and the ones that [`rows::record`](super::rows::record) reads besides.
macro_rules! record_columns {
    () => {
        concat!(
            job_columns!(),
            ", possible_duplicate, next_at, ended_at, cancel_requested_at, claimed_at, node, \
             starting_at, started_at, wait_us, clock_skew_us, receipt_status, receipt_pid, \
             error_class, error_message, error_at"
        )
    };
}

/// What [`rows::header`](super::rows::header) reads.
macro_rules! header_columns {
    () => {
        "id, lane, priority, next_at, crashes"
    };
}

/// A page of records: the first $2 rows from row $1 on are looked at. Of them come those that fit,
/// and the last two, which say where the look ended and whether there is more; $3 in all at most.
macro_rules! list {
    ($which:literal, $order:literal) => {
        concat!(
            "SELECT ",
            record_columns!(),
            ", fits, place FROM (SELECT ",
            record_columns!(),
            ", row_number() OVER (ORDER BY ",
            $order,
            ") AS place, ",
            "($4::smallint IS NULL OR state = $4) AND (NOT $5::boolean OR state IN (0, 1))
             AND ($6::text IS NULL OR lane IN (SELECT l.id FROM sendoff.lane l WHERE l.queue = $6))
             AND ($7::integer IS NULL OR submitted_by IS NOT DISTINCT FROM $7)
             AND ($8::smallint IS NULL OR delivery = $8)
             AND ($9::text IS NULL OR right(replace(guid::text, '-', ''), length($9)) = $9)
             AND ($10::bigint IS NULL OR run_at >= $10) AND ($11::bigint IS NULL OR run_at < $11) AS fits
             FROM sendoff.job WHERE ",
            $which,
            " ORDER BY ",
            $order,
            // In the order of the rows below, so that no more of them are read than are wanted.
            " LIMIT $2) AS page WHERE fits OR place >= $2 - 1 ORDER BY ",
            $order,
            " LIMIT $3"
        )
    };
}

/// This node's row, if it is alive; it is not deleted, as it is once all that a dead node left was taken
/// back, before this transaction has ended.
macro_rules! me {
    () => {
        "me AS (SELECT 1 FROM sendoff.node WHERE id = $1 AND dead_at IS NULL FOR KEY SHARE)"
    };
}

/// Settlements: what all kinds have, then what this one has besides.
macro_rules! settlements {
    ($arrays:literal, $names:literal) => {
        concat!(
            "WITH u AS (SELECT * FROM unnest($1::bigint[], $2::integer[], $3::bigint[], $4::bigint[], $5::bigint[]",
            $arrays,
            ") AS u(id, fence, begun, skew, now",
            $names,
            ")), "
        )
    };
}

// `begun` is when the attempt began and `skew` by how much that was moved; both null if it did not begin.
macro_rules! begun {
    () => {
        "starting_at = coalesce(u.begun, j.starting_at), \
         wait_us = coalesce(j.wait_us, u.begun - greatest(j.run_at, j.queued_at)), \
         clock_skew_us = coalesce(u.skew, j.clock_skew_us)"
    };
}

macro_rules! failure {
    () => {
        "error_class = u.class, error_message = u.message, error_at = u.at"
    };
}

// The guard of an attempt's outcome.
macro_rules! mine {
    () => {
        " FROM u WHERE j.id = u.id AND j.fence = u.fence AND j.fence > 0 AND j.state + 0 = 1 \
         RETURNING j.id, j.lane, j.state, 1::smallint AS was"
    };
}

/// Appends to the tally what `done` says: `arrived` counts its rows' `state`, `left` takes off their
/// `was`.
macro_rules! tallied {
    (arrived) => {
        tallied!("SELECT lane, state, 1::bigint AS n FROM done")
    };
    (left) => {
        tallied!("SELECT lane, was AS state, -1::bigint AS n FROM done")
    };
    (moved) => {
        tallied!(
            "SELECT lane, state, 1::bigint AS n FROM done UNION ALL SELECT lane, was, -1::bigint FROM done"
        )
    };
    ($changes:literal) => {
        concat!(
            ", tallied AS (INSERT INTO sendoff.tally (queue, state, n) \
               SELECT l.queue, m.state, sum(m.n)::bigint FROM (SELECT lane, state, sum(n) AS n FROM (",
            $changes,
            ") AS c GROUP BY lane, state) AS m JOIN sendoff.lane l ON l.id = m.lane \
               GROUP BY l.queue, m.state HAVING sum(m.n) <> 0) "
        )
    };
}

/// Jobs from arrays, of which any may be shorter than the rest: NULL from there on.
macro_rules! jobs {
    () => {
        "INSERT INTO sendoff.job (state, lane, priority, delivery, fence, attempt, max_attempts,
                    queued_at, run_at, next_at, expires_at, claimed_at, node, submitted_by, own_guid, guid,
                    idempotency_key, request, granted)
                SELECT CASE WHEN n.claimed_at IS NULL THEN 0 ELSE 1 END, n.lane, n.priority, n.delivery,
                    CASE WHEN n.claimed_at IS NULL THEN 0 ELSE 1 END,
                    CASE WHEN n.claimed_at IS NULL THEN 0 ELSE 1 END, n.max_attempts, n.queued_at, n.run_at,
                    n.run_at, n.expires_at, n.claimed_at, CASE WHEN n.claimed_at IS NOT NULL THEN $1 END,
                    n.submitted_by, n.own_guid, n.guid, n.idempotency_key, n.request, n.granted
                FROM unnest($2::integer[], $3::smallint[], $4::smallint[], $5::integer[], $6::bigint[],
                    $7::bigint[], $8::bigint[], $9::bigint[], $10::integer[], $11::boolean[], $12::uuid[],
                    $13::text[], $14::text[], $15::integer[])
                    AS n(lane, priority, delivery, max_attempts, queued_at, run_at, expires_at, claimed_at,
                        submitted_by, own_guid, guid, idempotency_key, request, granted)
                WHERE $1 IS NULL OR EXISTS (SELECT FROM me) "
    };
}

statements! {
    // Writes.
    // Whatever the database's default is: the guards rest on seeing what others have committed.
    Begin: "BEGIN ISOLATION LEVEL READ COMMITTED";
    Commit: "COMMIT";
    Rollback: "ROLLBACK";

    // T1, and T2 with it. The ids follow the order of the arrays. A row of id 0 says that this node
    // is not alive, so that nothing was inserted.
    Insert: concat!("WITH ", me!(), ", done AS (", jobs!(), "ON CONFLICT DO NOTHING
                RETURNING id, guid, idempotency_key, lane, state)",
            tallied!(arrived), "
            SELECT id, guid, idempotency_key FROM done
            UNION ALL
            SELECT 0, NULL, NULL WHERE $1 IS NOT NULL AND NOT EXISTS (SELECT FROM me)
            ORDER BY id");
    // All or none, which costs less: no index is looked at before the row is in it, and what the tally
    // gets is known before. No row at all says that this node is not alive.
    InsertAll: concat!("WITH ", me!(), ", tallied AS (
                INSERT INTO sendoff.tally (queue, state, n)
                SELECT c.queue, c.state, c.n FROM unnest($16::text[], $17::smallint[], $18::bigint[])
                    AS c(queue, state, n)
                WHERE $1 IS NULL OR EXISTS (SELECT FROM me)) ", jobs!(), "RETURNING id");
    // Those who hold a guid or a key.
    Holders: "SELECT id, guid, idempotency_key, request, queued_at, state, fence, node FROM sendoff.job
              WHERE guid = ANY($1::uuid[])
              UNION ALL
              SELECT id, guid, idempotency_key, request, queued_at, state, fence, node FROM sendoff.job
              WHERE idempotency_key = ANY($2::text[]) AND NOT guid = ANY($1::uuid[])";
    SetBookmark: "INSERT INTO sendoff.bookmark (name, value) VALUES ($1, $2)
                  ON CONFLICT (name) DO UPDATE SET value = excluded.value";

    // T2 by id. What another holds locked is left to it. Unless $4 says so, jobs of queues with
    // limits are left alone.
    Claim: concat!("WITH ", me!(), ", free AS (
                SELECT j.id, w.now FROM unnest($2::bigint[], $3::bigint[]) AS w(id, now)
                JOIN sendoff.job j ON j.id = w.id
                WHERE j.state + 0 = 0 AND NOT j.quarantined AND j.next_at <= w.now
                    AND (j.expires_at IS NULL OR j.expires_at > w.now) AND EXISTS (SELECT FROM me)
                    AND ($4 OR NOT EXISTS (SELECT FROM sendoff.queue_limits)
                        OR NOT EXISTS (SELECT FROM sendoff.lane l
                            JOIN sendoff.queue_limits q ON q.queue = l.queue WHERE l.id = j.lane))
                FOR UPDATE OF j SKIP LOCKED),
            done AS (
                UPDATE sendoff.job j SET state = 1, fence = j.fence + 1, attempt = j.attempt + 1,
                    claimed_at = free.now, node = $1, starting_at = NULL
                FROM free WHERE j.id = free.id RETURNING j.*, 0::smallint AS was)",
            tallied!(moved), "SELECT ", job_columns!(), ", claimed_at FROM done");
    // T2 of the first due jobs of a lane.
    ClaimOthers: concat!("WITH ", me!(), ", free AS (
                SELECT ready.id FROM generate_series(9, 0, -1) AS step (p), LATERAL
                    (SELECT j.id FROM sendoff.job j
                     WHERE j.lane = $2 AND j.state = 0 AND NOT j.quarantined AND j.priority = p::smallint
                         AND j.next_at <= $3 AND (j.expires_at IS NULL OR j.expires_at > $3)
                         AND j.crashes < $6
                     ORDER BY j.next_at, j.id LIMIT $4 FOR UPDATE OF j SKIP LOCKED) AS ready
                WHERE EXISTS (SELECT FROM me)
                    AND ($5 OR NOT EXISTS (SELECT FROM sendoff.lane l
                        JOIN sendoff.queue_limits q ON q.queue = l.queue WHERE l.id = $2))
                LIMIT $4),
            done AS (
                UPDATE sendoff.job j SET state = 1, fence = j.fence + 1, attempt = j.attempt + 1,
                    claimed_at = $3, node = $1, starting_at = NULL
                FROM free WHERE j.id = free.id RETURNING j.*, 0::smallint AS was)",
            tallied!(moved), "SELECT ", job_columns!(), ", claimed_at FROM done
            ORDER BY priority DESC, next_at, id");
    // Undoes the claim of rows that nobody can read.
    PutBack: concat!("WITH done AS (
                UPDATE sendoff.job j SET state = 0, fence = j.fence - 1, attempt = j.attempt - 1,
                    node = NULL, claimed_at = NULL, quarantined = true
                WHERE j.id = ANY($1::bigint[]) AND j.state + 0 = 1
                RETURNING j.lane, j.state, 1::smallint AS was)",
            tallied!(moved), "SELECT 1");
    Quarantine: "UPDATE sendoff.job SET quarantined = true WHERE id = ANY($1::bigint[]) AND state + 0 = 0";
    // The limits of queues, locked in the order of their names.
    LockLimits: "SELECT queue, limits, arrival FROM sendoff.queue_limits WHERE queue = ANY($1::text[])
                 ORDER BY queue FOR UPDATE";
    Limited: "SELECT queue FROM sendoff.queue_limits WHERE queue = ANY($1::text[])";
    // What is starting in a queue, and the time of the database.
    InFlight: "SELECT q.queue, (SELECT count(*) FROM sendoff.lane l JOIN sendoff.job j ON j.lane = l.id
                   WHERE l.queue = q.queue AND j.state = 1),
                   (extract(epoch FROM clock_timestamp()) * 1000000)::bigint
               FROM unnest($1::text[]) AS q(queue)";
    MoveArrival: "UPDATE sendoff.queue_limits q SET arrival = u.arrival
                  FROM unnest($1::text[], $2::bigint[]) AS u(queue, arrival) WHERE q.queue = u.queue";

    // T3.
    Started: concat!(settlements!(", $6::bigint[], $7::integer[], $8::bigint[]", ", started, status, pid"),
            "done AS (UPDATE sendoff.job j SET state = 2, ", begun!(), ", started_at = u.started,
                receipt_status = u.status, receipt_pid = u.pid, crashes = 0,
                ended_at = greatest(u.now, u.started)", mine!(), ")", tallied!(moved),
            "SELECT id, state FROM done");
    // T3, late: it also settles what is unknown, and what was reclaimed and not claimed since.
    LateStarted: concat!(settlements!(", $6::bigint[], $7::integer[], $8::bigint[]", ", started, status, pid"),
            "late AS (SELECT j.id AS row, j.state AS was, u.* FROM u JOIN sendoff.job j ON j.id = u.id
                WHERE j.fence = u.fence AND j.fence > 0
                    AND (j.state = 6 OR (j.state = 0 AND j.possible_duplicate)) FOR UPDATE OF j),
            done AS (UPDATE sendoff.job j SET state = 2, ", begun!(), ", started_at = u.started,
                receipt_status = u.status, receipt_pid = u.pid, crashes = 0,
                ended_at = greatest(u.now, u.started)
                FROM late u WHERE j.id = u.row RETURNING j.id, j.lane, j.state, u.was)", tallied!(moved),
            "SELECT id, state FROM done");
    // T4, or the end if a cancel came meanwhile.
    Retry: concat!(settlements!(", $6::smallint[], $7::text[], $8::bigint[], $9::bigint[], $10::boolean[]",
                ", class, message, at, next, ambiguous"),
            "done AS (UPDATE sendoff.job j SET ", begun!(), ",
                state = CASE WHEN j.cancel_requested_at IS NULL THEN 0 ELSE 4 END,
                next_at = CASE WHEN j.cancel_requested_at IS NULL THEN u.next ELSE j.next_at END,
                node = CASE WHEN j.cancel_requested_at IS NULL THEN NULL ELSE j.node END,
                ended_at = CASE WHEN j.cancel_requested_at IS NULL THEN NULL ELSE u.now END,
                crashes = 0, possible_duplicate = (j.possible_duplicate OR u.ambiguous), ", failure!(),
            mine!(), ")", tallied!(moved), "SELECT id, state FROM done");
    // T5.
    Failed: concat!(settlements!(", $6::smallint[], $7::text[], $8::bigint[], $9::boolean[]",
                ", class, message, at, ambiguous"),
            "done AS (UPDATE sendoff.job j SET state = 3, ended_at = u.now, ", begun!(), ", crashes = 0,
                possible_duplicate = (j.possible_duplicate OR u.ambiguous), ", failure!(),
            mine!(), ")", tallied!(moved), "SELECT id, state FROM done");
    // T6.
    Unknown: concat!(settlements!(", $6::smallint[], $7::text[], $8::bigint[]", ", class, message, at"),
            "done AS (UPDATE sendoff.job j SET state = 6, ended_at = u.now, ", begun!(), ", crashes = 0,
                possible_duplicate = true, ", failure!(),
            mine!(), ")", tallied!(moved), "SELECT id, state FROM done");
    // T9 of an attempt that had not begun; an earlier one may have.
    Overdue: concat!(settlements!("", ""),
            "done AS (UPDATE sendoff.job j SET state = CASE WHEN j.possible_duplicate THEN 3 ELSE 5 END,
                ended_at = u.now, ", begun!(), mine!(), ")", tallied!(moved), "SELECT id, state FROM done");
    // T11, or the end if a cancel came meanwhile.
    Release: concat!(settlements!(", $6::smallint[], $7::text[], $8::bigint[], $9::bigint[]",
                ", class, message, at, next"),
            "done AS (UPDATE sendoff.job j SET ", begun!(), ",
                state = CASE WHEN j.cancel_requested_at IS NULL THEN 0 ELSE 4 END,
                next_at = CASE WHEN j.cancel_requested_at IS NULL THEN u.next ELSE j.next_at END,
                node = CASE WHEN j.cancel_requested_at IS NULL THEN NULL ELSE j.node END,
                ended_at = CASE WHEN j.cancel_requested_at IS NULL THEN NULL ELSE u.now END,
                attempt = greatest(j.attempt - 1, 0),
                error_class = coalesce(u.class, j.error_class),
                error_message = coalesce(u.message, j.error_message),
                error_at = coalesce(u.at, j.error_at)", mine!(), ")", tallied!(moved),
            "SELECT id, state FROM done");
    // Where jobs stand whose settlement was not applied.
    Standing: "SELECT id, state, fence, next_at, ended_at, started_at, error_at, error_class FROM sendoff.job
               WHERE id = ANY($1::bigint[])";

    // What calls by guid answer with.
    Records: concat!("SELECT ", record_columns!(), " FROM sendoff.job WHERE guid = ANY($1::uuid[])");
    HeaderOf: concat!("SELECT ", header_columns!(), " FROM sendoff.job
               WHERE guid = $1 AND state + 0 = 0 AND NOT quarantined");

    // T7.
    Cancel: concat!("WITH u AS (SELECT * FROM unnest($1::uuid[], $2::bigint[]) AS u(guid, now)),
            done AS (UPDATE sendoff.job j SET state = 4, ended_at = u.now
                FROM u WHERE j.guid = u.guid AND j.state + 0 = 0
                RETURNING j.id, j.guid, j.lane, j.state, 0::smallint AS was)", tallied!(moved),
            "SELECT id, guid FROM done");
    // T8.
    LateCancel: "UPDATE sendoff.job j SET cancel_requested_at = coalesce(j.cancel_requested_at, u.now)
                 FROM unnest($1::uuid[], $2::bigint[]) AS u(guid, now)
                 WHERE j.guid = u.guid AND j.state + 0 = 1 AND j.cancel_requested_at IS NULL";
    // T9 of jobs that wait. An attempt that may have happened is not "expired before a start".
    Expire: concat!("WITH past AS (
                SELECT id FROM sendoff.job WHERE state = 0 AND NOT quarantined AND expires_at <= $1
                ORDER BY expires_at, id LIMIT $2 FOR UPDATE SKIP LOCKED),
            done AS (UPDATE sendoff.job j SET state = CASE WHEN j.possible_duplicate THEN 3 ELSE 5 END,
                ended_at = $1 FROM past WHERE j.id = past.id
                RETURNING j.id, j.guid, j.lane, j.state, j.expires_at, 0::smallint AS was)", tallied!(moved),
            "SELECT id, guid, lane, state FROM done ORDER BY expires_at, id");
    NextDeadline: "SELECT (SELECT expires_at FROM sendoff.job
                       WHERE state = 0 AND NOT quarantined AND expires_at IS NOT NULL
                       ORDER BY expires_at LIMIT 1)";
    Reschedule: "UPDATE sendoff.job SET run_at = $2, next_at = $2
                 WHERE guid = $1 AND state + 0 = 0 AND NOT quarantined AND (expires_at IS NULL OR expires_at > $2)
                 RETURNING id";
    // T12.
    ResolveEnded: concat!("WITH done AS (UPDATE sendoff.job SET state = $3, ended_at = $2, fence = fence + 1,
                possible_duplicate = true
                WHERE guid = $1 AND state + 0 = 6 RETURNING id, lane, state, 6::smallint AS was)",
            tallied!(moved), "SELECT id FROM done");
    ResolvePending: concat!("WITH done AS (UPDATE sendoff.job SET state = 0, ended_at = NULL, next_at = $2,
                fence = fence + 1, cancel_requested_at = NULL, possible_duplicate = true,
                attempt = least(attempt, greatest(max_attempts - 1, 0))
                WHERE guid = $1 AND state + 0 = 6 RETURNING id, lane, state, 6::smallint AS was)",
            tallied!(moved), "SELECT id FROM done");
    // T13.
    PruneEnded: concat!("WITH old AS (
                SELECT id FROM sendoff.job WHERE state BETWEEN 2 AND 5 AND ended_at < $1
                    AND ($2::integer IS NULL OR submitted_by = $2)
                ORDER BY ended_at LIMIT $3 FOR UPDATE SKIP LOCKED),
            done AS (DELETE FROM sendoff.job j USING old WHERE j.id = old.id
                RETURNING j.lane, j.state AS was)", tallied!(left), "SELECT count(*) FROM done");
    PruneUnknown: concat!("WITH old AS (
                SELECT id FROM sendoff.job WHERE state = 6 AND ended_at < $1
                    AND ($2::integer IS NULL OR submitted_by = $2)
                ORDER BY ended_at LIMIT $3 FOR UPDATE SKIP LOCKED),
            done AS (DELETE FROM sendoff.job j USING old WHERE j.id = old.id
                RETURNING j.lane, j.state AS was)", tallied!(left), "SELECT count(*) FROM done");
    SetQueueLimits: "INSERT INTO sendoff.queue_limits (queue, limits) VALUES ($1, $2)
                     ON CONFLICT (queue) DO UPDATE SET limits = excluded.limits";
    ForgetQueueLimits: "DELETE FROM sendoff.queue_limits WHERE queue = $1";

    // Nodes.
    // A number that nobody had, also in a database that forgot some: a sequence would give those again
    // after a failover or a restore, and two living nodes would go by one number.
    Register: concat!("WITH named AS (INSERT INTO sendoff.node_name (id, name) OVERRIDING SYSTEM VALUE
                   SELECT (1 + random() * 4611686018427387904)::bigint, $1 RETURNING id)
               INSERT INTO sendoff.node
                   (id, host, pid, boot_id, pid_namespace, pid_started, version, queues)
               SELECT id, $2, $3, $4, $5, $6, $7, $8 FROM named
               RETURNING id, ", database_now!());
    Beat: concat!("UPDATE sendoff.node SET beat = beat + 1, beat_at = clock_timestamp(), in_flight = $2
           WHERE id = $1 AND dead_at IS NULL RETURNING ", database_now!());
    SeeNodes: concat!("SELECT id, beat, dead_at IS NOT NULL, pid, boot_id, pid_namespace, pid_started, ",
               database_now!(), " FROM sendoff.node");
    Settings: "SELECT current_setting('synchronous_standby_names'), current_setting('synchronous_commit'),
                   current_setting('fsync'), pg_is_in_recovery()";
    // Waits for no claim: one that saw the node alive commits into a dead node's name, and is taken
    // back with the rest, since the row stays until it can be locked.
    DeclareDead: "UPDATE sendoff.node n SET dead_at = clock_timestamp() FROM sendoff.node_name m
                  WHERE n.id = $1 AND n.beat = $2 AND n.dead_at IS NULL AND m.id = n.id RETURNING m.name";
    Leave: "UPDATE sendoff.node SET dead_at = clock_timestamp() WHERE id = $1 AND dead_at IS NULL";
    DeadNodes: "SELECT id FROM sendoff.node WHERE dead_at IS NOT NULL FOR UPDATE SKIP LOCKED";
    ForgetNodes: "DELETE FROM sendoff.node n WHERE n.id = ANY ($1) AND n.dead_at IS NOT NULL
                      AND NOT EXISTS (SELECT FROM sendoff.job j WHERE j.node = n.id AND j.state = 1)";
    // T10. Keeps the fence: only a claim raises it. What a living node has claimed since does not
    // match when it is looked at again under its lock.
    Reclaim: concat!("WITH orphaned AS (
                  SELECT j.id FROM sendoff.node n JOIN sendoff.job j ON j.node = n.id
                  WHERE n.dead_at IS NOT NULL AND j.state = 1
                  LIMIT $1 FOR UPDATE OF j SKIP LOCKED
              ),
            done AS (
                  UPDATE sendoff.job j SET (state, ended_at, node, error_class, error_message, error_at,
                      crashes, possible_duplicate) =
                      (SELECT after, CASE WHEN after <> 0 THEN $2::bigint END, CASE WHEN after <> 0 THEN j.node END,
                           CASE WHEN j.crashes >= $3 THEN $4::smallint ELSE $6::smallint END,
                           CASE WHEN j.crashes >= $3 THEN $5::text ELSE $7::text END, $2, j.crashes + 1, true
                       FROM (SELECT CASE WHEN j.delivery = 0 THEN 6
                                         WHEN j.crashes >= $3 OR j.attempt >= j.max_attempts THEN 3
                                         WHEN j.cancel_requested_at IS NOT NULL THEN 4
                                         ELSE 0 END::smallint AS after) AS decided)
                  FROM orphaned o WHERE j.id = o.id AND j.state + 0 = 1
                  RETURNING j.lane, j.state, 1::smallint AS was)",
            tallied!(moved), "SELECT count(*) FROM done");
    Mine: "SELECT id, fence FROM sendoff.job WHERE state = 1 AND node = $1 ORDER BY id + 0";
    Nodes: concat!("SELECT n.id, m.name, n.host, n.pid, n.version, ", micros!("n.started_at"), ", ",
            micros!("n.beat_at"), ", ", database_now!(), " - ", micros!("n.beat_at"), ", n.dead_at IS NOT NULL,
                n.in_flight, n.queues
            FROM sendoff.node n JOIN sendoff.node_name m ON m.id = n.id ORDER BY n.started_at, n.id");
    Listen: "LISTEN sendoff";
    Notify: "SELECT pg_notify('sendoff', $1)";

    // Jobs that come from another store, with all that happened to them there; how far that has come
    // is written in the same statement.
    Import: concat!("WITH done AS (
                INSERT INTO sendoff.job (next_at, expires_at, queued_at, run_at, ended_at,
                    cancel_requested_at, claimed_at, starting_at, started_at, wait_us, clock_skew_us, error_at,
                    node, lane, fence, attempt, max_attempts, crashes, receipt_status, receipt_pid,
                    submitted_by, granted, state, priority, delivery, error_class, quarantined,
                    possible_duplicate, own_guid, guid, idempotency_key, error_message, request)
                SELECT * FROM unnest($3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[],
                    $8::bigint[], $9::bigint[], $10::bigint[], $11::bigint[], $12::bigint[], $13::bigint[],
                    $14::bigint[], $15::bigint[], $16::integer[], $17::integer[], $18::integer[],
                    $19::integer[], $20::integer[], $21::integer[], $22::bigint[], $23::integer[],
                    $24::integer[], $25::smallint[], $26::smallint[], $27::smallint[], $28::smallint[],
                    $29::boolean[], $30::boolean[], $31::boolean[], $32::uuid[], $33::text[], $34::text[],
                    $35::text[])
                ON CONFLICT DO NOTHING
                RETURNING lane, state)",
            tallied!(arrived), ", marked AS (
                INSERT INTO sendoff.bookmark (name, value) VALUES ($1, $2)
                ON CONFLICT (name) DO UPDATE SET value = excluded.value)
            SELECT count(*) FROM done");
    // What comes with them. What is there already stays.
    ImportSettings: "WITH limited AS (
                INSERT INTO sendoff.queue_limits (queue, limits)
                SELECT queue, limits FROM unnest($3::text[], $4::text[]) AS n(queue, limits)
                ON CONFLICT DO NOTHING),
            noted AS (
                INSERT INTO sendoff.bookmark (name, value)
                SELECT name, value FROM unnest($5::text[], $6::bytea[]) AS n(name, value)
                ON CONFLICT DO NOTHING)
            INSERT INTO sendoff.bookmark (name, value) VALUES ($1, $2)
            ON CONFLICT (name) DO UPDATE SET value = excluded.value";
    ImportNodes: "WITH known AS (
                SELECT min(id) AS id, name FROM sendoff.node_name WHERE name = ANY($1::text[]) GROUP BY name),
            new AS (
                INSERT INTO sendoff.node_name (name)
                SELECT name FROM unnest($1::text[]) AS wanted (name)
                WHERE NOT EXISTS (SELECT FROM known WHERE known.name = wanted.name)
                RETURNING id, name)
            SELECT id, name FROM known UNION ALL SELECT id, name FROM new";
    Held: concat!("SELECT ", record_columns!(), " FROM sendoff.job WHERE guid = ANY($1::uuid[])");
    HeldKeys: "SELECT idempotency_key, guid FROM sendoff.job WHERE idempotency_key = ANY($1::text[])";
    // Where the tally says something else than the rows.
    Miscounted: "SELECT queue, state, sum(told)::bigint, sum(found)::bigint FROM (
                SELECT queue, state, n AS told, 0 AS found FROM sendoff.tally
                UNION ALL
                SELECT l.queue, j.state, 0, 1 FROM sendoff.job j JOIN sendoff.lane l ON l.id = j.lane) AS c
            GROUP BY queue, state HAVING sum(told) <> sum(found) ORDER BY queue, state";

    // Reads.
    Bookmark: "SELECT value FROM sendoff.bookmark WHERE name = $1";
    Record: concat!("SELECT ", record_columns!(), " FROM sendoff.job WHERE guid = $1");
    Due: concat!("SELECT ", header_columns!(), " FROM sendoff.job
                  WHERE state = 0 AND NOT quarantined AND (next_at, id) > ($1, $2) AND next_at <= $3
                  ORDER BY next_at, id LIMIT $4");
    // One seek for each priority: rows that are not due yet lie between.
    Ready: concat!("SELECT ", header_columns!(), " FROM generate_series(9, 0, -1) AS step (p), LATERAL
                        (SELECT ", header_columns!(), " FROM sendoff.job
                         WHERE state = 0 AND NOT quarantined AND lane = $1 AND priority = p::smallint
                             AND next_at <= $2
                         ORDER BY next_at, id LIMIT $3) AS ready
                    LIMIT $3");
    // From one lane to the next, whatever waits in each.
    BusyLanes: "WITH RECURSIVE walk (lane, n) AS (
                    (SELECT lane, 1 FROM sendoff.job
                     WHERE state = 0 AND NOT quarantined AND lane > $1 ORDER BY lane LIMIT 1)
                    UNION ALL
                    SELECT (SELECT j.lane FROM sendoff.job j
                            WHERE j.state = 0 AND NOT j.quarantined AND j.lane > walk.lane
                            ORDER BY j.lane LIMIT 1), n + 1
                    FROM walk WHERE lane IS NOT NULL AND n < $2)
                SELECT lane FROM walk WHERE lane IS NOT NULL LIMIT $2";
    List: list!("id > $1", "id");
    ListNewest: list!("id < $1", "id DESC");
    // What is starting is little; it has no index by number, and must not be looked for in that of
    // all jobs, hence the sum.
    ListStarting: list!("state = 1 AND id + 0 > $1", "id + 0");
    ListStartingNewest: list!("state = 1 AND id + 0 < $1", "id + 0 DESC");
    ListUnknown: list!("state = 6 AND id > $1", "id");
    ListUnknownNewest: list!("state = 6 AND id < $1", "id DESC");
    Counts: "SELECT queue, state, sum(n)::bigint FROM sendoff.tally GROUP BY queue, state";
    Quarantined: "SELECT count(*) FROM sendoff.job WHERE quarantined";
    QueueLimits: "SELECT queue, limits FROM sendoff.queue_limits";

    // A statement sees neither what others append meanwhile, nor again what another fold removed.
    Fold: "WITH folder AS MATERIALIZED (SELECT pg_try_advisory_xact_lock(8315173664654255618) AS mine),
               gone AS (DELETE FROM sendoff.tally WHERE (SELECT mine FROM folder) RETURNING queue, state, n)
           INSERT INTO sendoff.tally (queue, state, n)
           SELECT queue, state, sum(n) FROM gone GROUP BY queue, state HAVING sum(n) <> 0";

    // Texts that rows share.
    LaneIds: "SELECT l.id, l.queue, l.starter, l.destination
              FROM unnest($1::text[], $2::text[], $3::text[]) AS wanted (queue, starter, destination)
              JOIN sendoff.lane l USING (queue, starter, destination)";
    LaneTexts: "SELECT id, queue, starter, destination FROM sendoff.lane WHERE id = ANY ($1)";
    // Looks first: a conflict takes a number, too.
    NewLanes: "INSERT INTO sendoff.lane (queue, starter, destination)
               SELECT queue, starter, destination
               FROM unnest($1::text[], $2::text[], $3::text[]) AS wanted (queue, starter, destination)
               WHERE NOT EXISTS (SELECT FROM sendoff.lane l WHERE l.queue = wanted.queue
                                     AND l.starter = wanted.starter AND l.destination = wanted.destination)
               ON CONFLICT DO NOTHING";
    ActorIds: "SELECT id, name FROM sendoff.actor WHERE name = ANY ($1::text[])";
    ActorTexts: "SELECT id, name FROM sendoff.actor WHERE id = ANY ($1)";
    NewActors: "INSERT INTO sendoff.actor (name) SELECT name FROM unnest($1::text[]) AS wanted (name)
                WHERE NOT EXISTS (SELECT FROM sendoff.actor a WHERE a.name = wanted.name)
                ON CONFLICT DO NOTHING";
    GrantIds: "SELECT id, digest FROM sendoff.granted WHERE digest = ANY ($1)";
    GrantTexts: "SELECT id, reach FROM sendoff.granted WHERE id = ANY ($1)";
    NewGrants: "INSERT INTO sendoff.granted (digest, reach)
                SELECT digest, reach FROM unnest($1::bytea[], $2::text[]) AS wanted (digest, reach)
                WHERE NOT EXISTS (SELECT FROM sendoff.granted g WHERE g.digest = wanted.digest)
                ON CONFLICT DO NOTHING";
    NodeNames: "SELECT id, name FROM sendoff.node_name WHERE id = ANY ($1)";
}

/// The texts in use: those above, but for planted faults.
pub(super) struct Texts(statements::Texts);

impl Texts {
    pub(super) fn new() -> Self {
        Self(statements::Texts::of(TEXTS))
    }

    /// # Panics
    /// If the fault names no statement, or its text is not found there.
    #[cfg(feature = "testing")]
    pub(super) fn plant(&mut self, fault: &Fault) {
        self.0.plant(fault);
    }

    pub(super) fn text(&self, name: Sql) -> &str {
        self.0.at(name as usize)
    }
}
