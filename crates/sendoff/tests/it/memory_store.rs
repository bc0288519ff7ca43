//! The memory store, sound and with planted faults.

use futures_util::{FutureExt, future::BoxFuture};
use proptest::proptest;
use sendoff::{
    ports::Store,
    store::{MemoryStore, memory::Fault},
    testing::{
        conformance::{CASES, exercise, first_failure},
        model::{Factory, Subject},
    },
};

use crate::random_life;

struct InMemory(Option<Fault>);

struct Opened(MemoryStore);

impl Factory for InMemory {
    fn open(&self) -> BoxFuture<'_, Box<dyn Subject>> {
        let store = self.0.map_or_else(MemoryStore::new, MemoryStore::with_fault);
        async { Box::new(Opened(store)) as _ }.boxed()
    }
}

impl Subject for Opened {
    fn store(&self) -> &dyn Store {
        &self.0
    }

    fn crash_and_reopen(&mut self) -> BoxFuture<'_, ()> {
        async { self.0 = self.0.crash_and_reopen() }.boxed()
    }
}

#[tokio::test]
async fn the_memory_store_conforms() {
    exercise(&InMemory(None)).await;
}

#[tokio::test]
async fn each_planted_fault_is_found() {
    let mut missed = Vec::new();
    for fault in Fault::ALL {
        match first_failure(&InMemory(Some(*fault))).await {
            Some(failure) => println!("{fault:?} is found by {}", failure.case),
            None => missed.push(fault),
        }
    }
    assert!(missed.is_empty(), "{} cases do not find {missed:?}", CASES.len());
}

proptest! {
    #![proptest_config(random_life::cases(128))]

    #[test]
    fn random_lives_agree_with_the_model(ops in random_life::life(60)) {
        random_life::live(&InMemory(None), ops);
    }
}
