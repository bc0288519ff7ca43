//! What every store must do, case by case.
//!
//! A case drives a [`Model`], which compares each answer with the state machine, and adds literal
//! expectations where the contract has any. Each runs on a store of its own.
//!
//! ```
//! use futures_util::{FutureExt, future::BoxFuture};
//! use sendoff::{
//!     ports::Store,
//!     store::MemoryStore,
//!     testing::{
//!         conformance,
//!         model::{Factory, Subject},
//!     },
//! };
//!
//! struct InMemory;
//! struct Opened(MemoryStore);
//!
//! impl Factory for InMemory {
//!     fn open(&self) -> BoxFuture<'_, Box<dyn Subject>> {
//!         async { Box::new(Opened(MemoryStore::new())) as _ }.boxed()
//!     }
//! }
//!
//! impl Subject for Opened {
//!     fn store(&self) -> &dyn Store {
//!         &self.0
//!     }
//!
//!     fn crash_and_reopen(&mut self) -> BoxFuture<'_, ()> {
//!         async { self.0 = self.0.crash_and_reopen() }.boxed()
//!     }
//! }
//!
//! # futures_util::future::FutureExt::now_or_never(
//! conformance::exercise(&InMemory)
//! # ).unwrap();
//! ```

mod calls;
mod change;
mod deadline;
mod grants;
mod insert;
mod list;
mod matrix;
mod order;
mod panics;
mod prune;
mod queues;
mod reclaim;
mod steps;
mod words;

use std::fmt;

use futures_util::{FutureExt, future::LocalBoxFuture};

use super::model::{Factory, Model};

/// A named part of the contract.
#[derive(Clone, Copy)]
pub struct Case {
    /// Its module and function.
    pub name: &'static str,
    run: for<'a> fn(&'a mut Model) -> LocalBoxFuture<'a, ()>,
}

macro_rules! cases {
    ($($module:ident::{$($case:ident),+ $(,)?}),+ $(,)?) => {
        /// All cases.
        pub const CASES: &[Case] = &[$($(
            Case {
                name: concat!(stringify!($module), "::", stringify!($case)),
                run: |model| $module::$case(model).boxed_local(),
            },
        )+)+];
    };
}

cases! {
    insert::{
        a_new_job_is_pending, the_same_content_twice_is_one_job, other_content_is_a_conflict,
        guid_and_key_of_two_jobs_conflict, equal_items_of_a_batch_are_one_job,
        an_atomic_batch_is_all_or_none, an_itemised_batch_keeps_the_rest, a_bookmark_comes_with_its_batch,
        a_job_claimed_as_it_is_inserted, a_large_batch_keeps_its_order,
    },
    steps::{
        a_claim_needs_a_due_job, an_older_fence_changes_nothing, the_record_of_a_start, the_record_of_retries,
        stamps_follow_the_attempt, settling_twice_is_harmless, each_of_a_call_stands_alone,
        cancel_is_final, a_late_cancel_ends_every_way_back,
    },
    change::{a_reschedule_moves_the_job, only_pending_is_rescheduled, a_resolve_decides, only_unknown_is_resolved},
    deadline::{the_deadline_is_exclusive, expire_works_in_steps, an_attempt_that_may_have_happened_fails},
    reclaim::{
        only_what_was_starting, works_in_steps, keeps_the_fence, at_most_once_is_unknown, poison,
        not_what_was_claimed_since,
    },
    order::{due_by_time_then_insertion, ready_by_priority, ready_however_long_they_waited, lanes_come_and_go},
    list::{
        filters, a_suffix_of_the_guid, a_budget_of_rows, while_rows_come_and_go,
        newest_first_while_rows_come_and_go,
    },
    grants::{
        come_with_claims, nothing_is_not_everything, the_first_submit_grants, known_ones_are_found_again,
    },
    queues::{limits_are_kept, limits_are_replaced_and_forgotten, limits_follow_the_order_of_calls},
    prune::{only_final_and_only_before, unknown_only_if_asked, one_submitter, in_steps, a_pruned_guid_is_free},
    calls::{
        effects_follow_the_order_of_calls, a_dropped_answer_is_no_undo, a_crash_after_every_kind_of_write,
        unknown_names_are_no_error, after_close,
    },
    // The longest, and the one that would name all others' faults.
    matrix::{every_step_in_every_state},
}

/// A case that a store failed.
#[derive(Debug, Clone)]
pub struct Failure {
    /// The case's name.
    pub case: &'static str,
    /// What was expected and what came.
    pub message: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.case, self.message)
    }
}

impl Case {
    /// Runs this case on a new store.
    ///
    /// # Errors
    /// [`Failure`] if the store does otherwise.
    pub async fn run(&self, factory: &dyn Factory) -> Result<(), Failure> {
        let run = async {
            let mut model = Model::new(factory).await;
            (self.run)(&mut model).await;
        };
        panics::caught(run).await.map_err(|message| Failure { case: self.name, message })
    }
}

/// Runs all cases.
///
/// # Panics
/// If any fails, naming all that do.
pub async fn exercise(factory: &dyn Factory) {
    let mut failures = Vec::new();
    for case in CASES {
        if let Err(failure) = case.run(factory).await {
            failures.push(failure.to_string());
        }
    }
    assert!(
        failures.is_empty(),
        "{} of {} cases failed:\n{}",
        failures.len(),
        CASES.len(),
        failures.join("\n\n")
    );
}

/// Runs cases until one fails: for stores with a planted fault.
pub async fn first_failure(factory: &dyn Factory) -> Option<Failure> {
    for case in CASES {
        if let Err(failure) = case.run(factory).await {
            return Some(failure);
        }
    }
    None
}
