//! The PostgreSQL store, sound and with planted faults, on a real server.

use futures_util::{FutureExt, future::BoxFuture};
use sendoff::{
    ports::Store,
    store::{
        PostgresOptions, PostgresStore,
        postgres::{FAULTS, Fault, Rehearsal},
    },
    testing::{
        conformance::{CASES, exercise, first_failure},
        model::{Factory, NODE, Subject},
    },
};

/// A database of its own for each store.
#[derive(Default)]
pub(super) struct OnServer {
    pub(super) fault: Option<Fault>,
    /// Stands between.
    pub(super) pooler: Option<testpg::Pooler>,
}

struct Opened {
    /// None only while it is opened again.
    store: Option<PostgresStore>,
    url: String,
    fault: Option<Fault>,
}

fn options() -> PostgresOptions {
    PostgresOptions {
        node: Some(NODE.to_owned()),
        hints: false,
        // The model says when rows are taken back.
        rehearsal: Rehearsal { reclaims: false, ..Rehearsal::default() },
        ..PostgresOptions::default()
    }
}

impl Opened {
    async fn open(&mut self) {
        let store = PostgresStore::connect_with_faults(&self.url, options(), self.fault.as_slice()).await;
        self.store = Some(store.expect("it opens"));
    }
}

impl Factory for OnServer {
    fn open(&self) -> BoxFuture<'_, Box<dyn Subject>> {
        async {
            let mut url = testpg::shared().new_database().expect("a database");
            if let Some(pooler) = &self.pooler {
                // It may be an old one, and stores crash here with requests under way.
                url = pooler.url(url.rsplit('/').next().expect("a name")) + "?prepare=off";
            }
            let mut opened = Opened { store: None, url, fault: self.fault };
            opened.open().await;
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
            self.open().await;
        }
        .boxed()
    }
}

#[tokio::test]
async fn the_postgres_store_conforms() {
    if testpg::wanted() {
        exercise(&OnServer::default()).await;
    }
}

#[test]
#[ignore = "takes minutes: cargo test -p sendoff --test it postgres_store -- --ignored"]
fn each_planted_fault_is_found() {
    if !testpg::wanted() {
        return;
    }
    const THREADS: usize = 4;
    let missed = std::sync::Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for first in 0..THREADS {
            let missed = &missed;
            scope.spawn(move || {
                let runtime =
                    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
                for fault in FAULTS.iter().skip(first).step_by(THREADS) {
                    let store = OnServer { fault: Some(*fault), pooler: None };
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
