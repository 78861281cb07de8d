//! A query that is ended from another thread.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use adbc_core::CancelHandle;
use adbc_core::error::Status;

/// Ends what a connection asks. Clones are one and the same.
#[derive(Clone, Default)]
pub struct Interrupt(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    /// Nothing more is to be asked.
    is_ended: bool,
    /// What is asked.
    query: Option<Arc<dyn CancelHandle>>,
}

impl Interrupt {
    /// Tells what is asked from now on; whether it may be.
    pub(super) fn begin(&self, query: Box<dyn CancelHandle>) -> bool {
        let mut state = self.lock();
        if !state.is_ended {
            state.query = Some(query.into());
        }
        !state.is_ended
    }

    /// Tells that nothing is asked any more.
    pub fn over(&self) {
        self.lock().query = None;
    }

    /// Asks the database to end the query, and lets none begin from now on. A database may hear it too
    /// early, so it is to be asked again until it has done so. May block. Whether there is anything to be
    /// ended that can be.
    #[must_use]
    pub fn end(&self) -> bool {
        let query = {
            let mut state = self.lock();
            state.is_ended = true;
            state.query.clone()
        };
        // Any other failure may be one of this moment.
        let can_be = |query: Arc<dyn CancelHandle>| {
            query.try_cancel().err().is_none_or(|error| error.status != Status::NotImplemented)
        };
        query.is_some_and(can_be)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Interrupt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Interrupt").field("is_ended", &self.lock().is_ended).finish_non_exhaustive()
    }
}
