//! The one task that writes: takes everything that waits into one transaction (group commit), in the
//! order of the calls, and answers after the commit returned.

use std::{
    collections::{HashSet, VecDeque},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::{mpsc, oneshot},
    time::timeout,
};
use tokio_postgres::Client;

use super::{
    call::Work,
    change, claim,
    failure::{Failure, commit_unknown},
    insert, limited,
    link::Link,
    plan::{Step, plan},
    rows::row_id,
    settle,
    shared::Shared,
    sql::Sql,
    transaction::{Stop, Transaction},
};
use crate::error::{Error, ErrorKind};

/// A group takes no further call once it has this many rows or bytes.
const GROUP_ROWS: usize = 10_000;
const GROUP_BYTES: usize = 8 << 20;
/// How often the writer lets others go first while it expects more calls.
const YIELDS: u32 = 4;
/// After this long without an answer a connection is given up: what was sent may have been done.
const LIMIT: Duration = Duration::from_secs(10);
/// How often a group runs again after its connection was lost.
const CONNECTIONS: usize = 4;
/// How often it runs again after other transactions stood in its way.
const DEADLOCKS: usize = 16;
/// How many settlements without an answer are remembered at most.
const DOUBTS: usize = 100_000;

/// What can be in the writer's queue.
pub(super) enum Message {
    Write(Box<Work>),
    /// Told when every write before it is done.
    Written(oneshot::Sender<()>),
}

pub(super) struct Writer {
    queue: mpsc::UnboundedReceiver<Message>,
    /// Taken from the queue, to come before it.
    next: VecDeque<Message>,
    link: Arc<Link>,
    shared: Arc<Shared>,
    /// Writes called and not answered yet.
    waiting: Arc<AtomicU64>,
    /// Settlements that may have been done though nobody was told.
    doubtful: HashSet<(i64, u32)>,
    /// The connection of the last group.
    last: Option<Arc<Client>>,
}

impl Writer {
    pub(super) fn new(
        queue: mpsc::UnboundedReceiver<Message>,
        link: Arc<Link>,
        shared: Arc<Shared>,
        waiting: Arc<AtomicU64>,
    ) -> Self {
        Self { queue, next: VecDeque::new(), link, shared, waiting, doubtful: HashSet::new(), last: None }
    }

    /// Runs until nobody can call any more and every call is done.
    pub(super) async fn run(mut self) {
        let mut last = 0;
        loop {
            let first = match self.next.pop_front() {
                Some(first) => first,
                None => match self.queue.recv().await {
                    Some(first) => first,
                    None => return,
                },
            };
            let mut group = Vec::new();
            // Whoever is about to read waits a little longer than for what was written before it: ending
            // the group there would give each write a commit of its own where readers are many.
            let mut readers = Vec::new();
            let (mut rows, mut bytes) = (0_usize, 0_usize);
            let mut message = Some(first);
            let mut yields = 0;
            while let Some(taken) = message {
                match taken {
                    Message::Write(work) => {
                        // What comes by guid may run into a job that is claimed only after the group.
                        let late =
                            matches!(&*work, Work::Cancel(_) | Work::Reschedule(_) | Work::SetQueue(_))
                                && group.iter().any(|work| matches!(work, Work::ClaimWithin(_)));
                        if late {
                            self.next.push_front(Message::Write(work));
                            break;
                        }
                        rows = rows.saturating_add(work.rows());
                        bytes += work.bytes();
                        group.push(*work);
                    }
                    Message::Written(told) if group.is_empty() => drop(told.send(())),
                    Message::Written(told) => readers.push(told),
                }
                let room = rows < GROUP_ROWS && bytes < GROUP_BYTES;
                message = if room { self.taken() } else { None };
                // Those whom the last commit answered are about to call again: a group of one now
                // would make them wait for a commit of its own.
                while message.is_none() && room && group.len() < last / 2 && yields < YIELDS {
                    yields += 1;
                    tokio::task::yield_now().await;
                    message = self.taken();
                }
            }
            last = group.len();
            if !group.is_empty() {
                self.group(group).await;
            }
            for told in readers {
                // Who asked may have gone.
                let _ = told.send(());
            }
        }
    }

    /// What waits, without waiting for it.
    fn taken(&mut self) -> Option<Message> {
        self.next.pop_front().or_else(|| self.queue.try_recv().ok())
    }

    /// Answers all calls that wait that nothing was done, so that none waits for the patience of
    /// those before it and then for its own.
    fn turn_away(&mut self, err: &Error) {
        let (mut calls, mut written) = (Vec::new(), VecDeque::new());
        while let Some(message) = self.taken() {
            match message {
                Message::Write(work) => calls.push(*work),
                // Not every call before it is done: the one under way is not.
                Message::Written(_) => written.push_back(message),
            }
        }
        self.next = written;
        self.answer(calls, Some(err));
    }

    async fn group(&mut self, group: Vec<Work>) {
        // If one of them is to blame, each by itself.
        if let Some((group, repeated)) = self.attempt(group, false).await {
            for work in group {
                self.attempt(vec![work], repeated).await;
            }
        }
    }

    /// Answers calls with what they have got, or all with this error.
    fn answer(&self, calls: Vec<Work>, err: Option<&Error>) {
        // Before the answers: whoever has one may read at once.
        self.waiting.fetch_sub(calls.len() as u64, Ordering::AcqRel);
        for work in calls {
            match err {
                None => work.answer(),
                Some(err) => work.fail(err.again()),
            }
        }
    }

    /// Runs a group to its end and answers it, or gives it back to be run one by one. `repeated`: an
    /// earlier try may have been done.
    async fn attempt(&mut self, mut group: Vec<Work>, mut repeated: bool) -> Option<(Vec<Work>, bool)> {
        let (mut lost, mut deadlocks) = (0, 0);
        loop {
            let client = match self.link.client().await {
                Ok(client) => client,
                Err(err) => {
                    self.turn_away(&err);
                    if repeated && lost < CONNECTIONS {
                        lost += 1;
                        continue;
                    }
                    let err = if repeated { commit_unknown() } else { err };
                    self.answer(group, Some(&err));
                    return None;
                }
            };
            if !self.last.as_ref().is_some_and(|last| Arc::ptr_eq(last, &client)) {
                // It may lead to another server, which was promoted without the last texts.
                self.shared.interned.forget();
                self.last = Some(client.clone());
            }
            let decided = AtomicBool::new(false);
            let stop = match timeout(LIMIT, self.run_once(&client, &mut group, repeated, &decided)).await {
                Ok(Ok(remaining)) => {
                    self.forget_doubts(&group);
                    let (mut limited, mut done) = (Vec::new(), Vec::new());
                    for (call, work) in group.into_iter().enumerate() {
                        if remaining.contains(&call) { limited.push(work) } else { done.push(work) }
                    }
                    self.answer(done, None);
                    for work in limited {
                        self.limited(work).await;
                    }
                    return None;
                }
                Ok(Err(stop)) => Some(stop),
                Err(_) => None,
            };
            let failure = match &stop {
                None => Failure::Lost,
                Some(Stop::Failed(err)) => Failure::of(err),
                Some(Stop::Refused(_) | Stop::Undo) => Failure::Refused,
            };
            if failure == Failure::Lost {
                self.link.lost(&client);
                lost += 1;
                if decided.load(Ordering::Acquire) {
                    repeated = true;
                    self.doubt(&group);
                    group = self.give_up(group);
                }
                if group.is_empty() {
                    return None;
                }
                if lost > CONNECTIONS {
                    let broke = "the connection to the database broke again and again; nothing was done, try again in a moment";
                    let err =
                        if repeated { commit_unknown() } else { Error::new(ErrorKind::Unavailable, broke) };
                    self.answer(group, Some(&err));
                    return None;
                }
                continue;
            }
            self.roll_back(&client).await;
            match (failure, stop) {
                (Failure::Again, _) if deadlocks < DEADLOCKS => deadlocks += 1,
                (_, _) if group.len() > 1 => return Some((group, repeated)),
                (_, Some(Stop::Undo)) => {
                    self.answer(group, None);
                    return None;
                }
                // Not that nothing was done: the earlier try may have been.
                (_, Some(Stop::Refused(_) | Stop::Failed(_))) if repeated => {
                    self.answer(group, Some(&commit_unknown()));
                    return None;
                }
                (_, Some(Stop::Refused(err))) => {
                    self.answer(group, Some(&err));
                    return None;
                }
                (failure, Some(Stop::Failed(err))) => {
                    self.answer(group, Some(&failure.error(&err)));
                    return None;
                }
                (_, None) => return Some((group, repeated)),
            }
        }
    }

    /// One try; which calls still want something of queues with limits.
    async fn run_once(
        &self,
        client: &Client,
        group: &mut [Work],
        repeated: bool,
        decided: &AtomicBool,
    ) -> Result<Vec<usize>, Stop> {
        group.iter_mut().for_each(Work::reset);
        let me = self.shared.node.present();
        let tx =
            Transaction { client, shared: &self.shared, me, doubtful: &self.doubtful, repeated, decided };
        let ids = insert::prepare(&tx, group).await?;
        let steps = plan(group);
        if let [Step::Insert(calls)] = &steps[..]
            && insert::is_plain(group, calls)
        {
            decided.store(true, Ordering::Release);
            insert::insert(&tx, group, calls, &ids).await?;
            return Ok(Vec::new());
        }
        let mut claims = Vec::new();
        let mut steps = steps.into_iter();
        if let Some(first) = steps.next() {
            // The first statement does not wait for BEGIN's answer.
            let (begun, ran) = tokio::join!(biased; tx.begin(), step(&tx, group, &first, &ids));
            begun?;
            ran?;
            keep_claims(&mut claims, first);
        }
        for next in steps {
            step(&tx, group, &next, &ids).await?;
            keep_claims(&mut claims, next);
        }
        let remaining = limited::remain(&tx, group, &claims).await?;
        tx.commit().await?;
        Ok(remaining)
    }

    /// Claims what remains in queues with limits: those are locked for as short as can be, so in a
    /// transaction of its own.
    async fn limited(&self, mut work: Work) {
        let before = limited::verdicts(&work);
        for _ in 0..DEADLOCKS {
            limited::restore(&mut work, before.clone());
            let Ok(client) = self.link.client().await else { break };
            let decided = AtomicBool::new(false);
            let tx = self.transaction(&client, false, &decided);
            let run = async {
                tx.begin().await?;
                limited::claim(&tx, &mut work).await?;
                tx.commit().await.map_err(Stop::Failed)
            };
            let failure = match timeout(LIMIT, run).await {
                Ok(Ok(())) => return self.answer(vec![work], None),
                Ok(Err(Stop::Failed(err))) => Failure::of(&err),
                Ok(Err(Stop::Refused(_) | Stop::Undo)) => Failure::Refused,
                Err(_) => Failure::Lost,
            };
            match failure {
                Failure::Lost => {
                    self.link.lost(&client);
                    if decided.load(Ordering::Acquire) {
                        return self.answer(vec![work], Some(&commit_unknown()));
                    }
                }
                Failure::Again => self.roll_back(&client).await,
                Failure::Full | Failure::Refused => {
                    self.roll_back(&client).await;
                    break;
                }
            }
        }
        // What was claimed already is told all the same.
        limited::restore(&mut work, before);
        limited::hold(&mut work);
        self.answer(vec![work], None);
    }

    fn transaction<'a>(
        &'a self,
        client: &'a Client,
        repeated: bool,
        decided: &'a AtomicBool,
    ) -> Transaction<'a> {
        let me = self.shared.node.present();
        Transaction { client, shared: &self.shared, me, doubtful: &self.doubtful, repeated, decided }
    }

    /// Whatever a connection was in, there is no transaction any more.
    async fn roll_back(&self, client: &Arc<Client>) {
        let undo = client.batch_execute(self.shared.sql.text(Sql::Rollback));
        if !matches!(timeout(LIMIT, undo).await, Ok(Ok(()))) {
            self.link.lost(client);
        }
    }

    /// Answers what must not run twice, and gives back the rest.
    fn give_up(&self, group: Vec<Work>) -> Vec<Work> {
        let (again, unknown): (Vec<_>, Vec<_>) = group.into_iter().partition(Work::can_repeat);
        self.answer(unknown, Some(&commit_unknown()));
        again
    }

    fn doubt(&mut self, group: &[Work]) {
        let settlements = settlements(group);
        self.doubtful.extend(settlements);
        if self.doubtful.len() > DOUBTS {
            self.doubtful.clear();
        }
    }

    fn forget_doubts(&mut self, group: &[Work]) {
        if !self.doubtful.is_empty() {
            for settled in settlements(group) {
                self.doubtful.remove(&settled);
            }
        }
    }
}

fn settlements(group: &[Work]) -> impl Iterator<Item = (i64, u32)> {
    let of = |work: &Work| match work {
        Work::Settle(call) => {
            call.input.0.iter().map(|settlement| (row_id(settlement.id), settlement.fence)).collect()
        }
        _ => Vec::new(),
    };
    group.iter().flat_map(of)
}

fn keep_claims(claims: &mut Vec<usize>, step: Step) {
    if let Step::Claim(calls) = step {
        claims.extend(calls);
    }
}

async fn step(
    tx: &Transaction<'_>,
    group: &mut [Work],
    step: &Step,
    ids: &super::texts::Ids,
) -> Result<(), Stop> {
    match step {
        Step::Insert(calls) => insert::insert(tx, group, calls, ids).await,
        Step::Settle(items) => settle::settle(tx, group, items).await,
        Step::Claim(calls) => claim::claim(tx, group, calls).await,
        Step::Cancel(items) => change::cancel(tx, group, items).await,
        Step::Alone(call) => change::alone(tx, &mut group[*call]).await,
    }
}
