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

/// A page of records: from row $1 on, $2 at most.
macro_rules! list {
    ($which:literal) => {
        concat!("SELECT ", record_columns!(), " FROM sendoff.job WHERE ", $which, " LIMIT $2")
    };
}

statements! {
    // Writes.

    // Nodes.

    // Reads.
    Bookmark: "SELECT value FROM sendoff.bookmark WHERE name = $1";
    Record: concat!("SELECT ", record_columns!(), " FROM sendoff.job WHERE guid = $1");
    Counts: "SELECT queue, state, sum(n)::bigint FROM sendoff.tally GROUP BY queue, state";
    Quarantined: "SELECT count(*) FROM sendoff.job WHERE quarantined";
    QueueLimits: "SELECT queue, limits FROM sendoff.queue_limits";

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
