//! What all parts of a store share.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use super::{fleet::Node, sql::Texts, texts::Interned};
use crate::{
    error::{Error, ErrorKind},
    ports::Durability,
};

pub(super) struct Shared {
    pub(super) sql: Arc<Texts>,
    pub(super) interned: Interned,
    pub(super) node: Node,
    /// The URL names several servers, and nobody said that a failover may forget.
    forgetful: bool,
    closed: AtomicBool,
}

impl Shared {
    pub(super) fn new(sql: Arc<Texts>, node: Node, forgetful: bool) -> Self {
        Self { sql, interned: Interned::default(), node, forgetful, closed: AtomicBool::new(false) }
    }

    /// Whether a failover may forget what was acknowledged, so that an at_most_once job could start
    /// twice.
    pub(super) fn refuses_at_most_once(&self) -> bool {
        self.forgetful && self.node.durability() < Durability::Replicated
    }

    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::Release);
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// Why a call gets no answer.
    pub(super) fn ended(&self) -> Error {
        if self.is_closed() {
            Error::new(ErrorKind::Closed, "the store is closed")
        } else {
            Error::new(ErrorKind::Fatal, "the store's writer ended; stop this process")
        }
    }
}
