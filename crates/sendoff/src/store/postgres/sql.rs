//! The statements, by name. Each transition is one guarded update that repeats
//! [`Life::apply`](crate::state::Life::apply): where its guard does not hold, no row changes. Every
//! write appends to the tally what it changed.

use std::borrow::Cow;

macro_rules! statements {
    ($($name:ident: $text:expr;)*) => {
        /// A statement's name.
        #[derive(Debug, Clone, Copy)]
        pub(super) enum Sql { $($name),* }

        const TEXTS: &[(&str, &str)] = &[$((stringify!($name), $text)),*];
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
            " LIMIT $2) AS page WHERE fits OR place >= $2 - 1 ORDER BY place LIMIT $3"
        )
    };
}

statements! {
    // Writes.

    // Nodes.

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
pub(super) struct Texts(Vec<Cow<'static, str>>);

impl Texts {
    pub(super) fn new() -> Self {
        Self(TEXTS.iter().map(|(_, text)| Cow::Borrowed(*text)).collect())
    }

    pub(super) fn text(&self, name: Sql) -> &str {
        &self.0[name as usize]
    }
}
