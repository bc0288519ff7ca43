//! The SQLite store, sound and with planted faults.

use futures_util::{FutureExt, future::BoxFuture};
use proptest::proptest;
use sendoff::{
    ports::Store,
    store::{
        SqliteOptions, SqliteStore,
        sqlite::{FAULTS, Fault},
    },
    testing::{
        conformance::{CASES, exercise, first_failure},
        model::{Factory, Subject},
    },
};

use crate::random_life;

/// At most so many of the clients' names stay out of their index: few, so that some are moved.
struct OnDisk {
    names: usize,
    fault: Option<Fault>,
}

struct Opened {
    /// None only while it is opened again.
    store: Option<SqliteStore>,
    directory: tempfile::TempDir,
    options: SqliteOptions,
    fault: Option<Fault>,
}

impl Opened {
    fn open(&mut self) {
        let path = self.directory.path().join("store.db");
        let store = SqliteStore::open_with_faults(path, self.options.clone(), self.fault.as_slice());
        self.store = Some(store.expect("it opens"));
    }
}

/// In memory where there is such a place: what is tested here does not depend on the disk, and
/// thousands of syncs take minutes.
fn directory() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).expect("a directory")
}

impl Factory for OnDisk {
    fn open(&self) -> BoxFuture<'_, Box<dyn Subject>> {
        let mut opened = Opened {
            store: None,
            directory: directory(),
            options: SqliteOptions {
                names_in_memory: self.names,
                keep_free_bytes: 0,
                ..SqliteOptions::default()
            },
            fault: self.fault,
        };
        async {
            opened.open();
            Box::new(opened) as _
        }
        .boxed()
    }
}

impl Subject for Opened {
    fn store(&self) -> &dyn Store {
        self.store.as_ref().expect("it is open")
    }

    fn crash_and_reopen(&mut self) -> BoxFuture<'_, ()> {
        async {
            self.store.take().expect("it is open").crash();
            self.open();
        }
        .boxed()
    }
}

#[tokio::test]
async fn the_sqlite_store_conforms() {
    for names in [1, 5, 100_000] {
        exercise(&OnDisk { names, fault: None }).await;
    }
}

#[test]
fn each_planted_fault_is_found() {
    // Most of the time goes into waiting for threads to take turns.
    const THREADS: usize = 8;
    let missed = std::sync::Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for first in 0..THREADS {
            let missed = &missed;
            scope.spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
                for fault in FAULTS.iter().skip(first).step_by(THREADS) {
                    let store = OnDisk { names: 3, fault: Some(*fault) };
                    match runtime.block_on(first_failure(&store)) {
                        Some(failure) => println!("{} is found by {}", fault.name, failure.case),
                        None => missed.lock().expect("no panic").push(fault.name),
                    }
                }
            });
        }
    });
    let missed = missed.into_inner().expect("no panic");
    assert!(missed.is_empty(), "{} cases do not find {missed:#?}", CASES.len());
}

proptest! {
    #![proptest_config(random_life::cases(32))]

    #[test]
    fn random_lives_agree_with_the_model(ops in random_life::life(60)) {
        random_life::live(&OnDisk { names: 4, fault: None }, ops);
    }
}
