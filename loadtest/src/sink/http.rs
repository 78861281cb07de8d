//! NDJSON as bodies of `POST`: one server, the path says which destination.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

use super::{Account, lock};

/// While it is not open every answer is 503.
pub(super) async fn accept(
    listener: TcpListener,
    accounts: Vec<Account>,
    is_open: Arc<AtomicBool>,
) {
    while let Ok((stream, _)) = listener.accept().await {
        let (accounts, is_open) = (accounts.clone(), Arc::clone(&is_open));
        let service = service_fn(move |request| {
            answer(request, accounts.clone(), is_open.load(Ordering::Acquire))
        });
        tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
    }
}

async fn answer(
    request: Request<Incoming>,
    accounts: Vec<Account>,
    is_open: bool,
) -> Result<Response<Empty<Bytes>>, Infallible> {
    let index = request.uri().path().trim_start_matches('/').parse::<usize>().ok();
    let status =
        match (index.and_then(|index| accounts.get(index)), request.into_body().collect().await) {
            (None, _) => StatusCode::NOT_FOUND,
            _ if !is_open => StatusCode::SERVICE_UNAVAILABLE,
            // The sender did not finish: it will send the whole again.
            (_, Err(_)) => StatusCode::BAD_REQUEST,
            (Some(account), Ok(body)) => {
                take(account, &body.to_bytes());
                StatusCode::OK
            }
        };
    let mut response = Response::new(Empty::new());
    *response.status_mut() = status;
    Ok(response)
}

/// The last line of a body may lack its newline.
fn take(account: &Account, body: &[u8]) {
    let (mut account, mut tail) = (lock(account), Vec::new());
    account.take(&mut tail, body);
    if !tail.is_empty() {
        account.take(&mut tail, b"\n");
    }
}
