//! The statements, by name. Each transition is one guarded update that repeats
//! [`Life::apply`](crate::state::Life::apply): where its guard does not hold, no row changes.

use std::ops::{Index, IndexMut};

use rusqlite::{Connection, PrepFlags, Statement};

#[cfg(feature = "testing")]
use super::faults::Fault;
use crate::store::statements;

macro_rules! statements {
    ($($name:ident: $text:expr;)*) => {
        /// A statement's name.
        #[derive(Debug, Clone, Copy)]
        pub(super) enum Sql { $($name),* }

        const TEXTS: &[(&str, &str)] = &[$((stringify!($name), $text)),*];
        const ALL: &[Sql] = &[$(Sql::$name),*];
    };
}

/// The columns that [`rows::kept`](super::rows::kept) reads, but for the grant.
macro_rules! job_columns {
    () => {
        "id, state, lane, priority, delivery, fence, attempt, max_attempts, queued_at, run_at, \
         expires_at, submitted_by, own_guid, guid, idempotency_key, request, quarantined, crashes"
    };
}

/// Those and the ones that [`rows::record`](super::rows::record) reads besides.
macro_rules! record_columns {
    () => {
        concat!(
            job_columns!(),
            ", possible_duplicate, next_at, ended_at, cancel_requested_at, \
             claimed_at, node, starting_at, started_at, wait_us, clock_skew_us, receipt_status, \
             receipt_pid, error_class, error_message, error_at, granted"
        )
    };
}

/// A page of records: from row ?1 on, ?2 at most.
macro_rules! list {
    ($which:literal) => {
        concat!("SELECT ", record_columns!(), " FROM job WHERE ", $which, " LIMIT ?2")
    };
}

// What may be ready, by its two indexes, in their words: another condition would not find them.
macro_rules! soon {
    () => {
        "INDEXED BY job_soon WHERE state = 0 AND quarantined = 0 AND next_at <= queued_at + 60000000"
    };
}
macro_rules! later {
    () => {
        "INDEXED BY job_later WHERE state = 0 AND quarantined = 0 AND next_at > queued_at + 60000000"
    };
}

// ?3 is when the attempt began and ?4 by how much that was moved; both null if it did not begin.
macro_rules! begun {
    () => {
        "starting_at = coalesce(?3, starting_at), \
         wait_us = coalesce(wait_us, ?3 - max(run_at, queued_at)), \
         clock_skew_us = coalesce(?4, clock_skew_us)"
    };
}

// The guard of an attempt's outcome.
macro_rules! mine {
    () => {
        "WHERE id = ?1 AND fence = ?2 AND fence > 0 AND state = 1"
    };
}

statements! {
    Begin: "BEGIN IMMEDIATE";
    Commit: "COMMIT";

    // Look-ups.
    Peek: "SELECT state, lane FROM job WHERE id = ?1";
    Identity: "SELECT guid, own_guid, idempotency_key, request FROM job WHERE id = ?1";
    OwnGuid: "SELECT id FROM job WHERE guid = ?1 AND own_guid = 1";
    Job: concat!("SELECT ", job_columns!(), ", granted FROM job WHERE id = ?1");
    Record: concat!("SELECT ", record_columns!(), " FROM job WHERE id = ?1");
    Fence: "SELECT fence FROM job WHERE id = ?1";
    Header: "SELECT id, lane, priority, next_at, crashes FROM job
             WHERE id = ?1 AND state = 0 AND quarantined = 0";

    // T1, and T2 with it.
    Insert: "INSERT INTO job (id, state, lane, priority, delivery, fence, attempt, max_attempts,
                 queued_at, run_at, next_at, expires_at, claimed_at, node, submitted_by,
                 own_guid, guid, idempotency_key, request, granted)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?6, ?7, ?8, ?9, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18)";
    // T2.
    Claim: "UPDATE job SET state = 1, fence = fence + 1, attempt = attempt + 1,
                claimed_at = ?2, node = ?3, starting_at = NULL
            WHERE id = ?1 AND state = 0 AND quarantined = 0 AND next_at <= ?2
                AND (expires_at IS NULL OR expires_at > ?2)";
    // T3. Late, it also settles what is unknown, and what was reclaimed and not claimed since.
    Started: concat!("UPDATE job SET state = 2, ", begun!(), ",
                started_at = ?5, receipt_status = ?6, receipt_pid = ?7, crashes = 0,
                ended_at = max(?8, ?5)
            WHERE id = ?1 AND fence = ?2 AND fence > 0
                AND (state IN (1, 6) OR (state = 0 AND possible_duplicate = 1))");
    // T4, or the end if a cancel came meanwhile.
    Retry: concat!("UPDATE job SET ", begun!(), ",
                state = iif(cancel_requested_at IS NULL, 0, 4),
                next_at = iif(cancel_requested_at IS NULL, ?5, next_at),
                node = iif(cancel_requested_at IS NULL, NULL, node),
                ended_at = iif(cancel_requested_at IS NULL, NULL, ?6),
                crashes = 0, possible_duplicate = possible_duplicate | ?7,
                error_class = ?8, error_message = ?9, error_at = ?10 ", mine!(), " RETURNING state");
    // T5.
    Failed: concat!("UPDATE job SET state = 3, ended_at = ?5, ", begun!(), ",
                crashes = 0, possible_duplicate = possible_duplicate | ?6,
                error_class = ?7, error_message = ?8, error_at = ?9 ", mine!());
    // T6.
    Unknown: concat!("UPDATE job SET state = 6, ended_at = ?5, ", begun!(), ",
                crashes = 0, possible_duplicate = 1,
                error_class = ?6, error_message = ?7, error_at = ?8 ", mine!());
    // T9 of an attempt that had not begun; an earlier one may have.
    Overdue: concat!("UPDATE job SET state = iif(possible_duplicate = 1, 3, 5), ended_at = ?5, ", begun!(), " ",
                mine!(), " RETURNING state");
    // T11, or the end if a cancel came meanwhile.
    Release: concat!("UPDATE job SET ", begun!(), ",
                state = iif(cancel_requested_at IS NULL, 0, 4),
                next_at = iif(cancel_requested_at IS NULL, ?5, next_at),
                node = iif(cancel_requested_at IS NULL, NULL, node),
                ended_at = iif(cancel_requested_at IS NULL, NULL, ?6),
                attempt = max(attempt - 1, 0),
                error_class = coalesce(?7, error_class), error_message = coalesce(?8, error_message),
                error_at = coalesce(?9, error_at) ", mine!(), " RETURNING state");
    // T7.
    Cancel: "UPDATE job SET state = 4, ended_at = ?2 WHERE id = ?1 AND state = 0";
    // T8.
    LateCancel: "UPDATE job SET cancel_requested_at = coalesce(cancel_requested_at, ?2)
                 WHERE id = ?1 AND state = 1";
    // T9 of a job that waits. An attempt that may have happened is not "expired before a start".
    Expire: "UPDATE job SET state = iif(possible_duplicate = 1, 3, 5), ended_at = ?2
             WHERE id = ?1 AND state = 0 AND quarantined = 0 AND expires_at <= ?2 RETURNING state";
    // T10. Keeps the fence: only a claim raises it.
    Reclaim: "UPDATE job SET (state, ended_at, node, error_class, error_message, error_at, crashes,
                  possible_duplicate) =
                  (SELECT after, iif(after = 0, NULL, ?3), iif(after = 0, NULL, node),
                       iif(crashes >= ?4, ?5, ?7), iif(crashes >= ?4, ?6, ?8), ?3, crashes + 1, 1
                   FROM (SELECT CASE WHEN delivery = 0 THEN 6
                                     WHEN crashes >= ?4 OR attempt >= max_attempts THEN 3
                                     WHEN cancel_requested_at IS NOT NULL THEN 4
                                     ELSE 0 END AS after))
              WHERE id = ?1 AND fence = ?2 AND state = 1 RETURNING state, lane";
    Reschedule: "UPDATE job SET run_at = ?2, next_at = ?2
                 WHERE id = ?1 AND state = 0 AND quarantined = 0
                     AND (expires_at IS NULL OR expires_at > ?2)";
    // T12.
    ResolveEnded: "UPDATE job SET state = ?3, ended_at = ?2, fence = fence + 1, possible_duplicate = 1
                   WHERE id = ?1 AND state = 6";
    ResolvePending: "UPDATE job SET state = 0, ended_at = NULL, next_at = ?2, fence = fence + 1,
                         cancel_requested_at = NULL, possible_duplicate = 1, attempt = min(attempt, max(max_attempts - 1, 0))
                     WHERE id = ?1 AND state = 6";
    // T13.
    Delete: "DELETE FROM job WHERE id = ?1 AND state > 1
             RETURNING lane, state, own_guid, guid, idempotency_key";
    Quarantine: "UPDATE job SET quarantined = 1 WHERE id = ?1";

    // Which rows a bounded step takes.
    PastDeadline: "SELECT id, guid, lane FROM job
                   WHERE state = 0 AND quarantined = 0 AND expires_at <= ?1
                   ORDER BY expires_at LIMIT ?2";
    NextDeadline: "SELECT min(expires_at) FROM job
                   WHERE state = 0 AND quarantined = 0 AND expires_at IS NOT NULL";
    Ended: "SELECT id FROM job WHERE state BETWEEN 2 AND 5 AND ended_at < ?1
                AND (?2 IS NULL OR submitted_by = ?2)
            ORDER BY ended_at LIMIT ?3";
    EndedUnknown: "SELECT id FROM job INDEXED BY job_unknown WHERE state = 6 AND ended_at < ?1
                       AND (?2 IS NULL OR submitted_by = ?2)
                   ORDER BY ended_at LIMIT ?3";
    LeftStarting: "SELECT id, fence FROM job WHERE state = 1 ORDER BY id";
    LastId: "SELECT coalesce(max(id), 0) FROM job";

    // What the dispatcher reads. Two statements for one order, so that each is one seek: many rows
    // may share a next_at.
    DueSame: "SELECT id, lane, priority, next_at, crashes FROM job
              WHERE state = 0 AND quarantined = 0 AND next_at = ?1 AND id > ?2 ORDER BY id";
    DueLater: "SELECT id, lane, priority, next_at, crashes FROM job
               WHERE state = 0 AND quarantined = 0 AND next_at > ?1 AND next_at <= ?2
               ORDER BY next_at, id";
    Ready: concat!("SELECT id, lane, priority, next_at, crashes FROM job ", soon!(),
            " AND lane = ?1 AND priority = ?2 AND next_at <= ?3
            UNION ALL
            SELECT id, lane, priority, next_at, crashes FROM job ", later!(),
            " AND lane = ?1 AND priority = ?2 AND next_at <= ?3
            ORDER BY next_at, id");
    NextPriority: concat!("SELECT max(priority) FROM
                   (SELECT max(priority) AS priority FROM job ", soon!(), " AND lane = ?1 AND priority < ?2
                    UNION ALL
                    SELECT max(priority) FROM job ", later!(), " AND lane = ?1 AND priority < ?2)");
    BusyLanes: concat!("SELECT id, queue, starter, destination,
                    EXISTS (SELECT 1 FROM job ", soon!(), " AND lane = l.id)
                    OR EXISTS (SELECT 1 FROM job ", later!(), " AND lane = l.id)
                FROM lane l WHERE busy = 1 AND (queue, starter, destination) > (?1, ?2, ?3)
                ORDER BY queue, starter, destination");

    // What people read.
    List: list!("id > ?1 ORDER BY id");
    ListNewest: list!("id < ?1 ORDER BY id DESC");
    // States with an index in the order of insertion: few rows among many.
    ListStarting: list!("state = 1 AND id > ?1 ORDER BY id");
    ListStartingNewest: list!("state = 1 AND id < ?1 ORDER BY id DESC");
    ListUnknown: list!("state = 6 AND id > ?1 ORDER BY id");
    ListUnknownNewest: list!("state = 6 AND id < ?1 ORDER BY id DESC");
    // What is starting is not kept as a number: two changes more for each job, to count few rows.
    Counts: "SELECT queue, state, n FROM counts WHERE n <> 0 AND state <> 1
             UNION ALL
             SELECT lane.queue, 1, 1 FROM job CROSS JOIN lane ON lane.id = job.lane WHERE job.state = 1";
    Quarantined: "SELECT count(*) FROM job WHERE quarantined = 1";
    QueueLimits: "SELECT queue, limits FROM queue_limits";
    SetQueueLimits: "INSERT INTO queue_limits (queue, limits) VALUES (?1, ?2)
                     ON CONFLICT (queue) DO UPDATE SET limits = excluded.limits";
    ForgetQueueLimits: "DELETE FROM queue_limits WHERE queue = ?1";
    Bookmark: "SELECT value FROM bookmark WHERE name = ?1";
    Bookmarks: "SELECT name, value FROM bookmark ORDER BY name";
    SetBookmark: "INSERT INTO bookmark (name, value) VALUES (?1, ?2)
                  ON CONFLICT (name) DO UPDATE SET value = excluded.value";
    Count: "INSERT INTO counts (queue, state, n) VALUES (?1, ?2, ?3)
            ON CONFLICT (queue, state) DO UPDATE SET n = n + excluded.n";
    ForgetCount: "DELETE FROM counts WHERE queue = ?1 AND state = ?2 AND n = 0";

    // Texts that rows share.
    LaneId: "SELECT id, busy FROM lane WHERE queue = ?1 AND starter = ?2 AND destination = ?3";
    LaneText: "SELECT queue, starter, destination, busy FROM lane WHERE id = ?1";
    NewLane: "INSERT INTO lane (queue, starter, destination) VALUES (?1, ?2, ?3)";
    LaneBusy: "UPDATE lane SET busy = 1 WHERE id = ?1";
    LaneIdle: concat!("UPDATE lane SET busy = 0 WHERE id = ?1
                   AND NOT EXISTS (SELECT 1 FROM job ", soon!(), " AND lane = ?1)
                   AND NOT EXISTS (SELECT 1 FROM job ", later!(), " AND lane = ?1)");
    ActorId: "SELECT id FROM actor WHERE name = ?1";
    ActorText: "SELECT name FROM actor WHERE id = ?1";
    NewActor: "INSERT INTO actor (name) VALUES (?1)";
    GrantId: "SELECT id FROM granted WHERE reach = ?1";
    GrantText: "SELECT reach FROM granted WHERE id = ?1";
    NewGrant: "INSERT INTO granted (reach) VALUES (?1)";

    // Names that clients chose.
    JobNamed: "SELECT job FROM name_index WHERE name = ?1";
    PutName: "INSERT INTO name_index (name, job) VALUES (?1, ?2)
              ON CONFLICT (name) DO UPDATE SET job = excluded.job";
    DropName: "DELETE FROM name_index WHERE name = ?1";
    LogName: "INSERT INTO name_log (seq, name, job) VALUES (?1, ?2, ?3)";
    NameLog: "SELECT seq, name, job FROM name_log ORDER BY seq";
    CutNameLog: "DELETE FROM name_log WHERE seq BETWEEN ?1 AND ?2";
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

    fn text(&self, name: Sql) -> &str {
        self.0.at(name as usize)
    }

    /// Prepares a statement that is kept: SQLite's hint for that leaves the connection's small store
    /// of quick memory to what runs, which is a tenth of its time.
    pub(super) fn prepare<'c>(&self, conn: &'c Connection, name: Sql) -> rusqlite::Result<Statement<'c>> {
        conn.prepare_with_flags(self.text(name), PrepFlags::SQLITE_PREPARE_PERSISTENT)
    }
}

/// Jobs of one [`Several::insert`].
pub(super) const TOGETHER: usize = 20;

/// Statements for several rows, made of those for one: SQLite then opens the table and its indexes
/// once for all of them, which is a quarter of the time.
pub(super) struct Several<'c> {
    /// Insert for [`TOGETHER`] jobs: the parameters of each follow those of the one before.
    pub(super) insert: Statement<'c>,
    /// Claim for the rows from ?1 to ?4.
    pub(super) claim: Statement<'c>,
}

impl<'c> Several<'c> {
    pub(super) fn prepare(conn: &'c Connection, texts: &Texts) -> rusqlite::Result<Self> {
        let prepare = |text: &str| conn.prepare_with_flags(text, PrepFlags::SQLITE_PREPARE_PERSISTENT);
        let (insert, claim) = (texts.text(Sql::Insert), texts.text(Sql::Claim));
        Ok(Self { insert: prepare(&insert_many(insert))?, claim: prepare(&claim_many(claim))? })
    }
}

fn claim_many(claim: &str) -> String {
    claim.replace("id = ?1", "id BETWEEN ?1 AND ?4")
}

fn insert_many(insert: &str) -> String {
    let (into, row) = insert.split_once("VALUES").unwrap_or((insert, ""));
    let highest = row.split('?').skip(1).filter_map(number).max().unwrap_or(0);
    let rows = (0..TOGETHER).map(|place| {
        let mut parts = row.split('?');
        let mut text = parts.next().unwrap_or("").to_owned();
        for part in parts {
            let number = number(part).unwrap_or(0);
            let rest = part.trim_start_matches(|c: char| c.is_ascii_digit());
            text += &format!("?{}{rest}", number + place * highest);
        }
        text
    });
    format!("{into}VALUES {}", rows.collect::<Vec<_>>().join(","))
}

/// The number at the beginning of a text.
fn number(text: &str) -> Option<usize> {
    text.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

/// All statements, prepared once for one connection.
pub(super) struct Statements<'c>(Vec<Statement<'c>>);

impl<'c> Statements<'c> {
    pub(super) fn prepare(conn: &'c Connection, texts: &Texts) -> rusqlite::Result<Self> {
        ALL.iter().map(|name| texts.prepare(conn, *name)).collect::<Result<_, _>>().map(Self)
    }
}

impl<'c> Index<Sql> for Statements<'c> {
    type Output = Statement<'c>;

    fn index(&self, name: Sql) -> &Statement<'c> {
        &self.0[name as usize]
    }
}

impl<'c> IndexMut<Sql> for Statements<'c> {
    fn index_mut(&mut self, name: Sql) -> &mut Statement<'c> {
        &mut self.0[name as usize]
    }
}

#[cfg(test)]
mod tests {
    use rusqlite::config::DbConfig;

    use super::{super::open::MIGRATIONS, *};

    /// Cost must not grow with the number of jobs, nor a step sort what it does not return.
    #[test]
    fn every_statement_on_jobs_is_a_search_in_the_order_of_an_index() {
        let conn = Connection::open_in_memory().unwrap();
        conn.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true).unwrap();
        for migration in MIGRATIONS {
            conn.execute_batch(migration).unwrap();
        }
        let mut searched = 0;
        for (name, text) in TEXTS.iter().filter(|(_, text)| text.contains(" job")) {
            let mut explain = conn.prepare(&format!("EXPLAIN QUERY PLAN {text}")).unwrap();
            let count = explain.parameter_count();
            for parameter in 1..=count {
                explain.raw_bind_parameter(parameter, 1).unwrap();
            }
            let mut steps = explain.raw_query();
            while let Some(step) = steps.next().unwrap() {
                let step: String = step.get(3).unwrap();
                let walks = step.contains("SCAN job") || step.contains("TEMP B-TREE");
                assert!(!walks, "{name}: {step}");
                searched += usize::from(step.contains("SEARCH job"));
            }
        }
        assert!(searched > 20, "{searched}");
    }

    #[test]
    fn a_claim_of_several_rows_looks_at_them_alone() {
        let claim = claim_many(Texts::new().text(Sql::Claim));
        let conn = Connection::open_in_memory().unwrap();
        for migration in MIGRATIONS {
            conn.execute_batch(migration).unwrap();
        }
        let plan = format!("EXPLAIN QUERY PLAN {claim}");
        let plan: String = conn.query_row(&plan, [1; 4], |step| step.get(3)).unwrap();
        assert_eq!(plan, "SEARCH job USING INTEGER PRIMARY KEY (rowid>? AND rowid<?)");
    }

    #[test]
    fn an_insert_of_several_rows_numbers_on() {
        let one = "INSERT INTO t (a, b, c) VALUES (?1, ?2, iif(?2, ?10, ?1))";
        let several = insert_many(one);
        assert!(
            several.starts_with("INSERT INTO t (a, b, c) VALUES  (?1, ?2, iif(?2, ?10, ?1)), (?11, ?12, iif")
        );
        assert_eq!(several.matches("iif").count(), TOGETHER);
        assert!(several.ends_with(&format!("?{}, ?{}))", 10 * TOGETHER, 10 * TOGETHER - 9)));
    }

    #[test]
    fn numbers_of_parameters_have_no_gap() {
        for (name, text) in TEXTS {
            let used = |n: usize| text.contains(&format!("?{n}"));
            let highest = (1..20).rev().find(|n| used(*n)).unwrap_or(0);
            assert!((1..=highest).all(used), "{name}");
        }
    }
}
