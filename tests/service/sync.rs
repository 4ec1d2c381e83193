//! What a test and its handlers tell each other.

// Each test binary uses its own part of this.
#![allow(dead_code)]

use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;

use crate::common::PATIENCE;

/// A number that a test waits for.
#[derive(Clone, Default)]
pub struct Count(Arc<(Mutex<usize>, Condvar)>);

impl Count {
    pub fn current(&self) -> usize {
        *self.0.0.lock().expect("nobody panics with the lock")
    }

    pub fn add(&self, number: usize) {
        *self.0.0.lock().expect("nobody panics with the lock") += number;
        self.0.1.notify_all();
    }

    pub fn reset(&self) {
        *self.0.0.lock().expect("nobody panics with the lock") = 0;
    }

    fn subtract_one(&self) {
        *self.0.0.lock().expect("nobody panics with the lock") -= 1;
        self.0.1.notify_all();
    }

    /// Waits until the count is `wanted`.
    pub fn wait_for(&self, wanted: usize) {
        let count = self.0.0.lock().expect("nobody panics with the lock");
        let is_other = |count: &mut usize| *count != wanted;
        let waited = self.0.1.wait_timeout_while(count, PATIENCE, is_other);
        let (count, timeout) = waited.expect("nobody panics with the lock");
        assert!(!timeout.timed_out(), "{} and not {wanted}", *count);
    }

    /// Counts one until the guard is dropped.
    pub fn guard(&self) -> Counted {
        self.add(1);
        Counted(self.clone())
    }
}

/// One that is counted until it is dropped.
pub struct Counted(Count);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.subtract_one();
    }
}

/// Where handlers wait until the test lets them through.
#[derive(Clone)]
pub struct Gate(Arc<Semaphore>);

impl Gate {
    pub fn new() -> Self {
        Self(Arc::new(Semaphore::new(0)))
    }

    /// Lets `number` of handlers through.
    pub fn admit(&self, number: usize) {
        self.0.add_permits(number);
    }

    pub async fn pass(&self) {
        self.0.acquire().await.expect("never closed").forget();
    }

    /// Passes, and blocks the thread until then.
    pub fn pass_blocking(&self) {
        let deadline = Instant::now() + PATIENCE;
        while self.0.try_acquire().map(|permit| permit.forget()).is_err() {
            assert!(Instant::now() < deadline, "the gate was not opened");
            thread::sleep(Duration::from_millis(1));
        }
    }
}
