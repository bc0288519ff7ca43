//! What all parts of a store share.

use std::sync::{
    Arc, PoisonError, RwLock,
    atomic::{AtomicBool, Ordering},
};

use super::{sql::Texts, texts::Interned};
use crate::{
    error::{Error, ErrorKind},
    ports::Lease,
};

/// This node's registration: another one follows when it was declared dead.
pub(super) struct Me {
    /// Its row in `sendoff.node` and `sendoff.node_name`.
    pub(super) id: i64,
    pub(super) lease: Arc<Lease>,
}

pub(super) struct Shared {
    pub(super) sql: Texts,
    pub(super) interned: Interned,
    me: RwLock<Option<Arc<Me>>>,
    /// A failover may forget what was acknowledged, and nobody said that this may be.
    refuses_at_most_once: AtomicBool,
    closed: AtomicBool,
}

impl Shared {
    pub(super) fn new(sql: Texts) -> Self {
        Self {
            sql,
            interned: Interned::default(),
            me: RwLock::default(),
            refuses_at_most_once: AtomicBool::new(false),
            closed: AtomicBool::new(false),
        }
    }

    /// This node, once it is registered.
    pub(super) fn me(&self) -> Option<Arc<Me>> {
        self.me.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn set_me(&self, me: Me) {
        *self.me.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(me));
    }

    pub(super) fn refuses_at_most_once(&self) -> bool {
        self.refuses_at_most_once.load(Ordering::Acquire)
    }

    pub(super) fn refuse_at_most_once(&self, refuse: bool) {
        self.refuses_at_most_once.store(refuse, Ordering::Release);
    }

    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::Release);
    }

    /// Why a call gets no answer.
    pub(super) fn ended(&self) -> Error {
        if self.closed.load(Ordering::Acquire) {
            Error::new(ErrorKind::Closed, "the store is closed")
        } else {
            Error::new(ErrorKind::Fatal, "the store's writer ended; stop this process")
        }
    }
}
