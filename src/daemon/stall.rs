//! Notices when reading has waited for room without a break.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::ingest::Budget;

/// How often it is looked.
const LOOK: Duration = Duration::from_secs(1);

/// Looks in a row at which the budget was exhausted before intake is called stalled.
const STALLED_AFTER: u32 = 3;

/// Keeps `stalled` up to date until `stop`.
pub(super) fn watch(budget: Budget, stalled: Arc<AtomicBool>, stop: CancellationToken) {
    tokio::spawn(async move {
        let mut full_for = 0;
        while !stop.is_cancelled() {
            full_for = if budget.is_exhausted() { full_for + 1 } else { 0 };
            stalled.store(full_for >= STALLED_AFTER, Relaxed);
            tokio::time::sleep(LOOK).await;
        }
    });
}
