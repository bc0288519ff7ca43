//! The one thread that writes: takes everything that waits into one transaction (group commit)
//! and answers after the commit returned.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    sync::{Arc, Mutex, PoisonError, atomic::Ordering, mpsc},
};

use rusqlite::{Connection, params};
use tokio::sync::oneshot;

use super::{
    SqliteOptions,
    change::STARTING,
    checkpoint::Checkpointer,
    failure::Failure,
    grants::Grants,
    lanes::{Actors, Lanes},
    names::Names,
    reader::Request,
    shared::Shared,
    space::Space,
    sql::{Several, Sql, Statements},
};
use crate::{
    crash::Deeds,
    error::{Error, ErrorKind, Result},
};

/// A transaction takes no further call once it has this many rows, so that no call waits long for
/// those that came with it.
const GROUP_ROWS: usize = 4_096;
/// How often the writer lets others go first while it expects more calls.
const YIELDS: u32 = 4;
/// The writer itself checkpoints after so many commits or pages of log, so that the log can begin
/// anew: one that is written while others checkpoint never ends.
const CHECKPOINT_COMMITS: u32 = 512;
const CHECKPOINT_PAGES: u32 = 8_192;

/// What can be in the writer's queue.
pub(super) enum Message {
    Write(Box<dyn Operation>),
    /// A read that was called after writes: it waits for their commit.
    Read(Request),
    Close(oneshot::Sender<Result<()>>),
}

/// One call of a method that writes.
pub(super) trait Operation: Send {
    fn rows(&self) -> usize;
    /// Does the work within a transaction. May be called again after that was undone.
    ///
    /// # Errors
    /// The transaction must be undone. A refusal of this call alone is an answer, not an error.
    fn run(&mut self, writer: &mut Writer<'_>) -> rusqlite::Result<()>;
    fn answer(self: Box<Self>, committed: Result<()>);
}

/// A method's work: `Err` within `Ok` refuses this call and leaves the transaction as it was.
pub(super) type Work<I, O> = fn(&mut Writer<'_>, &I) -> rusqlite::Result<Result<O>>;

/// The [`Operation`] that does some [`Work`].
pub(super) struct Call<I, O> {
    pub(super) rows: usize,
    pub(super) input: I,
    pub(super) work: Work<I, O>,
    pub(super) output: Option<Result<O>>,
    pub(super) reply: oneshot::Sender<Result<O>>,
}

impl<I: Send, O: Send> Operation for Call<I, O> {
    fn rows(&self) -> usize {
        self.rows
    }

    fn run(&mut self, writer: &mut Writer<'_>) -> rusqlite::Result<()> {
        self.output = Some((self.work)(writer, &self.input)?);
        Ok(())
    }

    fn answer(self: Box<Self>, committed: Result<()>) {
        let answer = match (committed, self.output) {
            (Ok(()), Some(output)) => output,
            (Ok(()), None) => return,
            (Err(err), _) => Err(err),
        };
        // Nobody may be waiting any more; the effect stands all the same.
        let _ = self.reply.send(answer);
    }
}

/// The writer's view of the database within one transaction.
pub(super) struct Writer<'c> {
    pub(super) st: Statements<'c>,
    pub(super) several: Several<'c>,
    pub(super) lanes: Lanes<'c>,
    pub(super) actors: Actors<'c>,
    pub(super) grants: Grants<'c>,
    pub(super) names: Names<'c>,
    pub(super) next_id: i64,
    /// Rows that are starting since this store was opened, with their lanes.
    pub(super) starting: HashMap<i64, i64>,
    /// Rows that were starting when the store was opened, with their fences.
    pub(super) left: VecDeque<(i64, i64)>,
    /// How many of them this transaction dealt with.
    pub(super) left_done: usize,
    /// What this transaction has done so far.
    pub(super) deeds: Deeds,
    shared: Arc<Shared>,
    pub(super) conn: &'c Connection,
    /// By lane and state: what this transaction adds to the counts. What is starting is counted where it
    /// is asked for.
    moved: BTreeMap<i64, [i64; 7]>,
    space: Space,
    poison: Option<Error>,
    commits: u32,
    log_grown: u32,
    log_pages: u32,
}

impl<'c> Writer<'c> {
    pub(super) fn new(
        conn: &'c Connection,
        shared: Arc<Shared>,
        options: &SqliteOptions,
    ) -> rusqlite::Result<Self> {
        let texts = &shared.texts;
        let mut st = Statements::prepare(conn, texts)?;
        let left = st[Sql::LeftStarting]
            .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
            .collect::<rusqlite::Result<_>>()?;
        let last_id: i64 = st[Sql::LastId].query_row([], |row| row.get(0))?;
        Ok(Self {
            lanes: Lanes::new(conn, texts)?,
            actors: Actors::new(conn, texts)?,
            grants: Grants::new(conn, texts)?,
            names: Names::open(conn, texts, options.names_in_memory)?,
            next_id: last_id + 1,
            starting: HashMap::new(),
            left,
            left_done: 0,
            deeds: Deeds::default(),
            st,
            several: Several::prepare(conn, texts)?,
            space: Space::new(shared.path.clone(), options),
            shared,
            conn,
            moved: BTreeMap::new(),
            poison: None,
            commits: 0,
            log_grown: 0,
            log_pages: 0,
        })
    }

    /// Notes that a row of this lane came into a state, went from one, or both.
    pub(super) fn moved(&mut self, lane: i64, from: Option<u8>, to: Option<u8>) -> rusqlite::Result<()> {
        let moved = self.moved.entry(lane).or_default();
        if let Some(from) = from {
            moved[usize::from(from)] -= 1;
        }
        if let Some(to) = to {
            moved[usize::from(to)] += 1;
            if to == 0 {
                self.lanes.busy(lane)?;
            }
        }
        Ok(())
    }

    /// Why new jobs are refused just now, if they are.
    pub(super) fn no_room(&mut self) -> Option<Error> {
        self.space.low().then(|| {
            Error::new(
                ErrorKind::Full,
                format!(
                    "too little room beside the store {} for new jobs; free some space",
                    self.shared.path.display()
                ),
            )
        })
    }

    /// Runs until the store is closed or dropped; the reply to the close, if there was one.
    pub(super) fn run(
        &mut self,
        queue: &mpsc::Receiver<Message>,
        checkpointer: &Checkpointer,
    ) -> Option<oneshot::Sender<Result<()>>> {
        let mut last = 0;
        while let Ok(first) = queue.recv() {
            let mut next = Some(first);
            let (mut calls, mut reads, mut rows, mut close) = (Vec::new(), Vec::new(), 0_usize, None);
            let mut yields = 0;
            while let Some(message) = next {
                match message {
                    Message::Write(call) => {
                        rows = rows.saturating_add(call.rows());
                        calls.push(call);
                    }
                    Message::Read(request) => reads.push(request),
                    Message::Close(reply) => {
                        close = Some(reply);
                        break;
                    }
                }
                next = if rows < GROUP_ROWS { queue.try_recv().ok() } else { None };
                // Those whom the last commit answered are about to call again: a group of one now
                // would make them wait for a sync of its own.
                while next.is_none() && rows < GROUP_ROWS && calls.len() < last / 2 && yields < YIELDS {
                    yields += 1;
                    std::thread::yield_now();
                    next = queue.try_recv().ok();
                }
            }
            last = calls.len();
            if self.shared.crashed.load(Ordering::Relaxed) {
                return None;
            }
            if let Some(err) = checkpointer.take_broken() {
                self.poisoned_by(err);
            }
            if !calls.is_empty() {
                self.group(calls);
                checkpointer.dirty();
            }
            for request in reads {
                self.shared.pool.push(request);
            }
            if close.is_some() {
                return close;
            }
            self.checkpoint();
        }
        None
    }

    /// Why nothing can be written any more.
    pub(super) fn poison(&self) -> Option<&Error> {
        self.poison.as_ref()
    }

    fn group(&mut self, mut calls: Vec<Box<dyn Operation>>) {
        match self.transaction(&mut calls) {
            Ok(()) => self.answer(calls, None),
            // A lock that was not given within the patience is not given call by call either.
            Err(err) if calls.len() == 1 || err.is_busy() || self.poison.is_some() => {
                self.answer(calls, Some(err));
            }
            // One of them is to blame: each by itself.
            Err(_) => {
                for call in calls {
                    let mut alone = vec![call];
                    let err = self.transaction(&mut alone).err();
                    self.answer(alone, err);
                }
            }
        }
    }

    fn answer(&self, calls: Vec<Box<dyn Operation>>, err: Option<Error>) {
        // Before the answers: whoever has one may read at once.
        self.shared.waiting.fetch_sub(calls.len() as u64, Ordering::AcqRel);
        for call in calls {
            call.answer(err.as_ref().map_or(Ok(()), |err| Err(err.again())));
        }
    }

    fn transaction(&mut self, calls: &mut [Box<dyn Operation>]) -> Result<()> {
        if let Some(poison) = &self.poison {
            return Err(poison.again());
        }
        self.deeds = Deeds::default();
        let failed = match self.work(calls) {
            Ok(()) => match self.st[Sql::Commit].execute([]) {
                Ok(_) => {
                    self.deeds.after_commit();
                    self.committed();
                    // Before the answers: what went into a file that is gone counts for nothing.
                    return self.shared.files.check().inspect_err(|err| {
                        tracing::error!(error = %err, "the store is poisoned");
                        self.poison = Some(err.again());
                    });
                }
                Err(err) => (Failure::of_commit(&err), err),
            },
            Err(err) => (Failure::of(&err), err),
        };
        let (mut failure, err) = failed;
        if !self.conn.is_autocommit() && self.conn.execute_batch("ROLLBACK").is_err() {
            failure = Failure::Fatal;
        }
        self.rolled_back();
        let err = failure.error(err, &self.shared.path);
        if failure == Failure::Fatal {
            tracing::error!(error = %err, "the store is poisoned");
            self.poison = Some(err.again());
        }
        Err(err)
    }

    fn work(&mut self, calls: &mut [Box<dyn Operation>]) -> rusqlite::Result<()> {
        self.st[Sql::Begin].execute([])?;
        self.tidy()?;
        for call in calls {
            call.run(self)?;
        }
        let mut counts = BTreeMap::new();
        for (lane, moved) in std::mem::take(&mut self.moved) {
            let Some(lane) = self.lanes.get(lane)? else { continue };
            let kept = |(state, n): &(usize, i64)| *n != 0 && *state != usize::from(STARTING);
            for (state, n) in moved.into_iter().enumerate().filter(kept) {
                *counts.entry((lane.queue.clone(), state as i64)).or_insert(0) += n;
            }
        }
        for ((queue, state), n) in counts {
            self.st[Sql::Count].execute(params![queue, state, n])?;
            if n < 0 {
                // A queue that is no more must not be read again at each count.
                self.st[Sql::ForgetCount].execute(params![queue, state])?;
            }
        }
        self.names.before_commit()?;
        self.deeds.before_commit();
        Ok(())
    }

    /// What the readers found.
    fn tidy(&mut self) -> rusqlite::Result<()> {
        for row in take(&self.shared.suspects) {
            self.st[Sql::Quarantine].execute([row])?;
        }
        for lane in take(&self.shared.idle_lanes) {
            if self.st[Sql::LaneIdle].execute([lane])? > 0 {
                self.lanes.idle(lane);
            }
        }
        Ok(())
    }

    fn committed(&mut self) {
        self.names.committed();
        self.left.drain(..std::mem::take(&mut self.left_done));
        self.commits += 1;
        let pages = self.shared.log_pages.load(Ordering::Relaxed);
        // A log that began anew is shorter than before.
        self.log_grown += pages.checked_sub(self.log_pages).unwrap_or(pages);
        self.log_pages = pages;
    }

    fn rolled_back(&mut self) {
        self.moved.clear();
        self.left_done = 0;
        self.starting.clear();
        self.lanes.forget();
        self.actors.forget();
        self.grants.forget();
        self.names.rolled_back();
    }

    fn checkpoint(&mut self) {
        if self.commits < CHECKPOINT_COMMITS && self.log_grown < CHECKPOINT_PAGES {
            return;
        }
        (self.commits, self.log_grown) = (0, 0);
        if let Err(err) = super::checkpoint::passive(self.conn)
            && Failure::of(&err) == Failure::Fatal
        {
            self.poisoned_by(err);
        }
    }

    fn poisoned_by(&mut self, err: rusqlite::Error) {
        let err = Failure::Fatal.error(err, &self.shared.path);
        tracing::error!(error = %err, "the store is poisoned");
        self.poison.get_or_insert(err);
    }
}

fn take(list: &Mutex<BTreeSet<i64>>) -> BTreeSet<i64> {
    std::mem::take(&mut *list.lock().unwrap_or_else(PoisonError::into_inner))
}
