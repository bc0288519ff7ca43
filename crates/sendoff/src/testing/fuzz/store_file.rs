//! Files of stores with damage in them: each opens or is refused, and whatever is asked of one that
//! opened has an answer.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{Arc, LazyLock},
};

use tokio::runtime::Runtime;

use crate::{
    error::{Error, Result},
    job::{JobId, JobRecord},
    ports::{Claim, Filter, InsertBatch, NewJob, PageRequest, Prune, Settlement, Store},
    state::{Begun, Outcome, Resolution},
    store::{SqliteOptions, SqliteStore},
    testing::model::{at, job},
};

const JOBS: u64 = 24;

/// The files of a store that was closed, and of one that was killed with all in its log.
struct Sound {
    closed: Vec<u8>,
    killed: Vec<u8>,
    log: Vec<u8>,
}

static RUNTIME: LazyLock<Runtime> =
    LazyLock::new(|| tokio::runtime::Builder::new_current_thread().build().expect("a runtime"));
static SOUND: LazyLock<Sound> = LazyLock::new(|| RUNTIME.block_on(Sound::new()));

/// Which file is damaged (0: of a closed store, 1: of a killed one, 2: its log, odd above: cut off
/// behind the damage), and the damages: for each an offset of four bytes, a length, and so many bytes.
pub(super) fn store_file(data: &[u8]) {
    let Some((&which, mut damages)) = data.split_first() else { return };
    let (mut file, mut log) = match which % 3 {
        0 => (SOUND.closed.clone(), None),
        _ => (SOUND.killed.clone(), Some(SOUND.log.clone())),
    };
    let damaged = match &mut log {
        Some(log) if which % 3 == 2 => log,
        _ => &mut file,
    };
    while let Some((&[a, b, c, d, length], rest)) = damages.split_first_chunk() {
        let (bytes, rest) = rest.split_at(usize::from(length).min(rest.len()));
        damages = rest;
        let offset = u32::from_le_bytes([a, b, c, d]) as usize % damaged.len().max(1);
        let end = damaged.len().min(offset + bytes.len());
        damaged[offset..end].copy_from_slice(&bytes[..end - offset]);
        if which >= 128 {
            damaged.truncate(end);
        }
    }
    let place = Place::new();
    place.put(&file, log.as_deref());
    match SqliteStore::open(place.path(), roomy()) {
        Ok(store) => RUNTIME.block_on(asked(store)),
        Err(err) => {
            assert!(err.is_unusable() || err.is_full() || err.is_fatal(), "{err:?}");
            let words = err.to_string();
            assert!(words.contains("store"), "{words}");
            if log.is_none() && (err.is_newer() || words.contains("another program")) {
                assert!(
                    fs::read(place.path()).expect("it is there") == file,
                    "a refused file is left as it was"
                );
            }
        }
    }
}

/// Asks everything that a store can be asked.
async fn asked(store: SqliteStore) {
    let mut page = PageRequest { limit: 10, ..PageRequest::default() };
    for _ in 0..2 * JOBS {
        let Some(listed) = heard(store.list(Filter::default(), page).await) else { break };
        listed.records.iter().for_each(shown);
        // Whatever the file says, a listing goes on.
        assert!(listed.next.is_none() || listed.next > page.after, "{:?}", listed.next);
        page.after = listed.next;
        if page.after.is_none() {
            break;
        }
    }
    heard(store.counts().await);
    heard(store.queues().await);
    heard(store.bookmarks().await);
    heard(store.export(None, 100).await);
    heard(store.due(None, at(1_000), 100).await);
    for lane in heard(store.lanes(None, 10).await).into_iter().flatten() {
        heard(store.ready(lane, at(1_000), 10).await);
    }
    heard(store.reclaim(10, at(20)).await);
    let claim = Claim { node: "node".into(), now: at(30) };
    let ids = (1..=JOBS).map(JobId).collect();
    for claimed in heard(store.claim(ids, claim).await).into_iter().flatten().flatten() {
        let begun = Some(Begun { starting_at: at(40), clock_skew_us: 0 });
        let outcome = Outcome::Released { next_at: at(50), error: None };
        let settlement = Settlement { id: claimed.id, fence: claimed.fence, begun, outcome };
        heard(store.settle(vec![settlement], at(50)).await);
    }
    for n in 1..=3 {
        let guid = job(n).guid;
        heard(store.get(guid).await).flatten().iter().for_each(shown);
        heard(store.reschedule(guid, at(60), at(60)).await);
        heard(store.resolve(guid, Resolution::Failed, at(60)).await);
        heard(store.cancel(vec![guid], at(60)).await);
    }
    heard(store.insert(batch(JOBS + 1, JOBS + 3)).await);
    heard(store.expire(10, at(70)).await);
    heard(store.prune(Prune { before: at(80), submitted_by: None, unknown_too: true, limit: 10 }).await);
    heard(store.close().await);
}

/// An answer; an error has to be one of the file, not of a thread that is gone.
fn heard<T>(answer: Result<T>) -> Option<T> {
    answer.inspect_err(|err: &Error| assert!(!err.to_string().contains("thread"), "{err}")).ok()
}

fn shown(record: &JobRecord) {
    let json = serde_json::to_string(record).expect("a record has a JSON form");
    assert_eq!(serde_json::from_str::<JobRecord>(&json).expect(&json), *record);
}

impl Sound {
    async fn new() -> Self {
        let place = Place::new();
        let fill = || async {
            let store = SqliteStore::open(place.path(), roomy()).expect("a new store");
            store.insert(batch(1, JOBS)).await.expect("insert");
            let claim = Claim { node: "node".into(), now: at(10) };
            store.claim((1..=JOBS / 2).map(JobId).collect(), claim).await.expect("claim");
            store
                .cancel((JOBS / 2..JOBS).step_by(3).map(|n| job(n).guid).collect(), at(20))
                .await
                .expect("cancel");
            store
        };
        let read = || fs::read(place.path()).expect("it is there");
        fill().await.close().await.expect("close");
        let closed = read();
        fs::remove_file(place.path()).expect("it is there");
        fill().await.crash();
        let log = fs::read(place.log()).expect("a log");
        Self { closed, killed: read(), log }
    }
}

fn batch(first: u64, last: u64) -> InsertBatch {
    let jobs = (first..=last).map(|n| NewJob { job: Arc::new(job(n)), claim: None }).collect();
    InsertBatch { jobs, atomic: false, bookmark: Some(("b".to_owned(), vec![1])), now: at(0) }
}

fn roomy() -> SqliteOptions {
    SqliteOptions { keep_free_bytes: 0, cache_bytes: 1 << 20, ..SqliteOptions::default() }
}

/// A directory in memory, where there is one.
struct Place(PathBuf);

impl Place {
    fn new() -> Self {
        let memory = Path::new("/dev/shm");
        let parent = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
        let name = format!("sendoff-fuzz-{}-{:x}", std::process::id(), fastrand::u64(..));
        let directory = parent.join(name);
        fs::create_dir(&directory).expect("a directory");
        Self(directory)
    }

    fn path(&self) -> PathBuf {
        self.0.join("store.db")
    }

    fn log(&self) -> PathBuf {
        self.0.join("store.db-wal")
    }

    fn put(&self, file: &[u8], log: Option<&[u8]>) {
        fs::write(self.path(), file).expect("room");
        if let Some(log) = log {
            fs::write(self.log(), log).expect("room");
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
