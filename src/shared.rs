//! What the accept loops and connections of all workers share.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use hyper::server::conn::http1;

use crate::head_timer::HeadTimer;
use crate::lifecycle::{Lifecycle, Stage};
use crate::limits::Limits;
use crate::memory::Freed;
use crate::slots::Slots;

pub(crate) struct Shared {
    pub(crate) limits: Limits,
    pub(crate) http1: http1::Builder,
    pub(crate) lifecycle: Arc<Lifecycle>,
    pub(crate) slots: Arc<Slots>,
    pub(crate) freed: Freed,
    /// When an accept error of the process's own was last logged.
    pub(crate) exhaustion_logged: Mutex<Option<Instant>>,
}

impl Shared {
    pub(crate) fn new(limits: Limits) -> Self {
        let mut http1 = http1::Builder::new();
        http1
            // Deadlines are kept in `connection`, one timer for all of them. This one never rings.
            .timer(HeadTimer::new())
            .header_read_timeout(Duration::ZERO)
            // Allow clients that say that they are done and still wait for their answer.
            .half_close(true)
            // The least that hyper allows. It is the longest head, and it bounds the buffers that a
            // client can make the server hold.
            .max_buf_size(8_192);
        let limits = limits.within_clock();
        Self {
            slots: Arc::new(Slots::new(limits.max_connections.get())),
            lifecycle: Arc::new(Lifecycle::new()),
            freed: Freed::default(),
            exhaustion_logged: Mutex::default(),
            limits,
            http1,
        }
    }

    /// Begins a stage, and wakes every connection so that it sees the stage.
    pub(crate) fn enter(&self, stage: Stage) {
        self.lifecycle.enter(stage);
        self.slots.wake_all();
    }
}
