//! Raw NDJSON over TCP: one listener per destination.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};

use super::{Account, lock};

const BUFFERS_BYTES_MAX: usize = 16 * 1024 * 1024;

/// All buffers together stay in bounds however many destinations there are.
pub(super) fn buffer_bytes(destinations: usize) -> usize {
    (BUFFERS_BYTES_MAX / destinations.max(1)).clamp(16 * 1024, 256 * 1024)
}

pub(super) async fn accept(
    listener: TcpListener,
    account: Account,
    connections: Arc<AtomicUsize>,
    buffer_bytes: usize,
) {
    while let Ok((stream, _)) = listener.accept().await {
        connections.fetch_add(1, Ordering::AcqRel);
        let (account, connections) = (Arc::clone(&account), Arc::clone(&connections));
        tokio::spawn(async move {
            let mut tail = Vec::new();
            // However the stream ends, what was left unfinished counts.
            let _ = read(stream, &account, &mut tail, buffer_bytes).await;
            lock(&account).close(&tail);
            connections.fetch_sub(1, Ordering::AcqRel);
        });
    }
}

async fn read(
    mut stream: TcpStream,
    account: &Account,
    tail: &mut Vec<u8>,
    buffer_bytes: usize,
) -> io::Result<()> {
    let mut buffer = vec![0; buffer_bytes];
    loop {
        let count = stream.read(&mut buffer).await?;
        if count == 0 {
            return Ok(());
        }
        lock(account).take(tail, &buffer[..count]);
    }
}
