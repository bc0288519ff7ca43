//! The one task that writes: takes everything that waits into one transaction (group commit), in the
//! order of the calls, and answers after the commit returned.

mod landing;

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
use tokio_postgres::{Client, Statement};

use super::{
    call::{Work, deeds},
    change, claim,
    failure::{Failure, commit_unknown},
    flight::{Airborne, Flight, Way},
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
/// Groups that are under way at once: while the server is at one, the next is there already.
const FLIGHTS: usize = 2;
/// With fewer rows than this a group waits for the one before it, and for more rows.
const FLIGHT_ROWS: usize = 256;
/// After a guid or key was taken that a group was sent with: so many groups are sent by the dearer
/// statement that lets the others of a group through.
const WARY: u32 = 64;
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
    /// Groups under way, the oldest first.
    flights: VecDeque<Airborne>,
    /// For so many groups a guid or a key is taken into account beforehand.
    wary: u32,
    /// The session that has the statement prepared that inserts.
    prepared: Option<(Arc<Client>, Statement)>,
    /// Whether sessions keep what was prepared: not behind every pooler.
    prepares: bool,
}

/// Calls that go into one group.
#[derive(Default)]
struct Gathered {
    group: Vec<Work>,
    readers: Vec<oneshot::Sender<()>>,
    rows: usize,
    bytes: usize,
    closed: bool,
}

impl Gathered {
    fn has_room(&self) -> bool {
        !self.closed && self.rows < GROUP_ROWS && self.bytes < GROUP_BYTES
    }
}

enum Event {
    Message(Message),
    /// A group under way was answered.
    Landed,
    /// Nobody can call any more.
    End,
}

fn tell(readers: Vec<oneshot::Sender<()>>) {
    for told in readers {
        // Who asked may have gone.
        let _ = told.send(());
    }
}

impl Writer {
    pub(super) fn new(
        queue: mpsc::UnboundedReceiver<Message>,
        link: Arc<Link>,
        shared: Arc<Shared>,
        waiting: Arc<AtomicU64>,
    ) -> Self {
        let prepares = link.prepares();
        Self {
            queue,
            next: VecDeque::new(),
            link,
            shared,
            waiting,
            doubtful: HashSet::new(),
            last: None,
            flights: VecDeque::new(),
            wary: 0,
            prepared: None,
            prepares,
        }
    }

    /// Runs until nobody can call any more and every call is done.
    pub(super) async fn run(mut self) {
        let mut last = 0;
        loop {
            let mut gathered = Gathered::default();
            let mut yields = 0;
            while gathered.has_room() {
                if let Some(message) = self.taken() {
                    self.add(&mut gathered, message);
                } else if gathered.group.is_empty() || !self.may_send(&gathered) {
                    match self.event().await {
                        Event::Message(message) => self.add(&mut gathered, message),
                        Event::Landed => {}
                        Event::End if gathered.group.is_empty() => return self.land_all().await,
                        Event::End => break,
                    }
                } else if self.flights.is_empty() && gathered.group.len() < last / 2 && yields < YIELDS {
                    // Those whom the last commit answered are about to call again: a group of one now
                    // would make them wait for a commit of its own.
                    yields += 1;
                    tokio::task::yield_now().await;
                } else {
                    break;
                }
            }
            last = gathered.group.len();
            self.send(gathered).await;
        }
    }

    /// Whether a group goes on its way at once: behind others only if it is worth a commit of its own.
    fn may_send(&self, gathered: &Gathered) -> bool {
        self.flights.is_empty()
            || (self.flights.len() < self.flights_at_once() && gathered.rows >= FLIGHT_ROWS)
    }

    /// One behind a pooler that would not stand another ([`Link::prepares`]).
    fn flights_at_once(&self) -> usize {
        if self.prepares { FLIGHTS } else { 1 }
    }

    /// What comes next: a call, or the end of the oldest group under way.
    async fn event(&mut self) -> Event {
        if let Some(oldest) = self.flights.front_mut() {
            tokio::select! {
                biased;
                () = oldest.landed() => {}
                message = self.queue.recv() => return message.map_or(Event::End, Event::Message),
            }
            self.land().await;
            return Event::Landed;
        }
        self.queue.recv().await.map_or(Event::End, Event::Message)
    }

    fn add(&mut self, gathered: &mut Gathered, message: Message) {
        match message {
            Message::Write(work) => {
                // What comes by guid may run into a job that is claimed only after the group.
                let late = matches!(&*work, Work::Cancel(_) | Work::Reschedule(_) | Work::SetQueue(_))
                    && gathered.group.iter().any(|work| matches!(work, Work::ClaimWithin(_)));
                if late {
                    self.next.push_front(Message::Write(work));
                    gathered.closed = true;
                    return;
                }
                gathered.rows = gathered.rows.saturating_add(work.rows());
                gathered.bytes += work.bytes();
                gathered.group.push(*work);
            }
            // Whoever is about to read waits a little longer than for what was written before it: ending
            // the group there would give each write a commit of its own where readers are many.
            Message::Written(told) if !gathered.group.is_empty() => gathered.readers.push(told),
            Message::Written(told) => match self.flights.back_mut() {
                Some(flight) => flight.readers.push(told),
                None => drop(told.send(())),
            },
        }
    }

    /// Sends a group on its way behind the others, or runs it to its end after them.
    async fn send(&mut self, gathered: Gathered) {
        let Gathered { group, readers, .. } = gathered;
        let group = match self.take_off(group).await {
            Ok(mut airborne) => {
                airborne.readers = readers;
                self.flights.push_back(airborne);
                return;
            }
            Err(group) => group,
        };
        self.land_all().await;
        self.group(group, false).await;
        tell(readers);
    }

    /// Sends a group, or gives it back if it has to be run with a look at each answer.
    async fn take_off(&mut self, mut group: Vec<Work>) -> Result<Airborne, Vec<Work>> {
        while self.flights.len() >= self.flights_at_once() {
            self.land().await;
        }
        let Some(client) = self.link.current() else { return Err(group) };
        if !self.is_last(&client) || settlements(&group).any(|settled| self.doubtful.contains(&settled)) {
            return Err(group);
        }
        group.iter_mut().for_each(Work::reset);
        let mut flight = Flight::of(group)?;
        if self.flights.iter().any(|other| other.meets(&flight)) {
            return Err(flight.group);
        }
        let decided = AtomicBool::new(false);
        let tx = self.transaction(&client, false, &decided);
        match timeout(LIMIT, insert::prepare(&tx, &mut flight.group)).await {
            Ok(Ok(ids)) => flight.ids = ids,
            _ => return Err(flight.group),
        }
        let me = tx.me;
        let way = match (self.wary > 0, flight.inserts.is_empty()) {
            (true, _) => Way::Careful,
            (false, true) => Way::All,
            (false, false) => self.way(&client).await,
        };
        self.wary = self.wary.saturating_sub(1);
        Ok(Airborne::start(flight, client, self.shared.clone(), me, way, LIMIT).await)
    }

    /// By a prepared statement, unless nobody keeps it: it is prepared once for each connection.
    async fn way(&mut self, client: &Arc<Client>) -> Way {
        if !self.prepares {
            return Way::All;
        }
        if let Some((on, statement)) = &self.prepared
            && Arc::ptr_eq(on, client)
        {
            return Way::Prepared(statement.clone());
        }
        match timeout(LIMIT, insert::prepare_statement(client, &self.shared.sql)).await {
            Ok(Ok(statement)) => {
                self.prepared = Some((client.clone(), statement.clone()));
                Way::Prepared(statement)
            }
            Ok(Err(err)) => {
                self.prepares &= Failure::of(&err) == Failure::Lost;
                Way::All
            }
            Err(_) => Way::All,
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

    /// Runs a group to its end. `repeated`: an earlier try may have been done.
    async fn group(&mut self, group: Vec<Work>, repeated: bool) {
        if group.is_empty() {
            return;
        }
        // If one of them is to blame, each by itself.
        if let Some((group, repeated)) = self.attempt(group, repeated).await {
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

    /// Whether the last group ran there.
    fn is_last(&self, client: &Arc<Client>) -> bool {
        self.last.as_ref().is_some_and(|last| Arc::ptr_eq(last, client))
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
            if !self.is_last(&client) {
                // It may lead to another server, which was promoted without the last texts.
                self.shared.interned.forget();
                self.last = Some(client.clone());
            }
            let decided = AtomicBool::new(false);
            let stop = match timeout(LIMIT, self.run_once(&client, &mut group, repeated, &decided)).await {
                Ok(Ok(remaining)) => {
                    self.forget_doubts(&group);
                    self.finish(group, &remaining).await;
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
        &mut self,
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
            deeds(group).before_commit();
            insert::insert(&tx, group, calls, &ids).await?;
            deeds(group).after_commit();
            return Ok(Vec::new());
        }
        let mut claims = Vec::new();
        let mut steps = steps.into_iter();
        if let Some(first) = steps.next() {
            // The first statement does not wait for BEGIN's answer.
            let (begun, ran) = tokio::join!(biased; tx.begin(), step(&tx, group, &first, &ids));
            begun?;
            ran?;
            deeds(group).in_transaction();
            keep_claims(&mut claims, first);
        }
        for next in steps {
            step(&tx, group, &next, &ids).await?;
            deeds(group).in_transaction();
            keep_claims(&mut claims, next);
        }
        let remaining = limited::remain(&tx, group, &claims).await?;
        deeds(group).before_commit();
        tx.commit().await?;
        deeds(group).after_commit();
        Ok(remaining)
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
    async fn roll_back(&mut self, client: &Arc<Client>) {
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
