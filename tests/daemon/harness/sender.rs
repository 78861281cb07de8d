//! A sender that keeps what was acknowledged.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use super::{events, ids, request};

/// Sends batches until somebody says stop; the names that were acknowledged.
pub(crate) fn send_until(
    stop: &AtomicBool,
    to: SocketAddr,
    prefix: &str,
    preferences: &[(&str, bool)],
) -> Vec<String> {
    let mut acknowledged = Vec::new();
    for batch in 0.. {
        if stop.load(Relaxed) {
            break;
        }
        let body = events(&format!("{prefix}-{batch}"), 10, 100, preferences);
        match request(to, "POST", "/v1/events", "", body.as_bytes()) {
            Ok(answer) if answer.status == 200 => {
                let lines: Vec<String> = body.lines().map(str::to_owned).collect();
                acknowledged.extend(ids(&lines));
            }
            // The daemon is gone, or has no room.
            Ok(_) | Err(_) => {}
        }
    }
    acknowledged
}
