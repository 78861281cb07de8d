//! The same over HTTP: a body comes in whole and goes to every output as it is.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::HOST;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Mutex;
use tokio::task::JoinSet;

use crate::sink::Output;

/// One connection to one output. Requests on an input connection come one after the other, so
/// nobody waits for the lock.
struct Target {
    address: SocketAddr,
    path: String,
    sender: Mutex<SendRequest<Full<Bytes>>>,
}

pub(super) fn run(listen: SocketAddr, outputs: &[Output]) -> io::Result<()> {
    let outputs: Vec<(SocketAddr, String)> =
        outputs.iter().map(target).collect::<Result<_, _>>()?;
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(async {
        let listener = TcpListener::bind(listen).await?;
        loop {
            let (stream, _) = listener.accept().await?;
            tokio::spawn(serve(stream, outputs.clone()));
        }
    })
}

fn target(output: &Output) -> io::Result<(SocketAddr, String)> {
    match output {
        Output::Http(address, path) => Ok((*address, path.clone())),
        _ => Err(io::Error::other(format!("bodies cannot be relayed to {output}"))),
    }
}

/// Every input connection has its own connections to all outputs.
async fn serve(stream: TcpStream, outputs: Vec<(SocketAddr, String)>) -> io::Result<()> {
    let mut targets = Vec::new();
    for (address, path) in outputs {
        let output = TcpStream::connect(address).await?;
        output.set_nodelay(true)?;
        let (sender, connection) =
            handshake(TokioIo::new(output)).await.map_err(io::Error::other)?;
        tokio::spawn(connection);
        targets.push(Arc::new(Target { address, path, sender: Mutex::new(sender) }));
    }
    let targets: Arc<[Arc<Target>]> = targets.into();
    let service = service_fn(move |request| relay(request, Arc::clone(&targets)));
    let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    connection.await.map_err(io::Error::other)
}

async fn relay(
    request: Request<Incoming>,
    targets: Arc<[Arc<Target>]>,
) -> io::Result<Response<Empty<Bytes>>> {
    let body = request.into_body().collect().await.map_err(io::Error::other)?.to_bytes();
    let mut posts = JoinSet::new();
    for target in targets.iter() {
        posts.spawn(post(Arc::clone(target), body.clone()));
    }
    let mut response = Response::new(Empty::new());
    while let Some(posted) = posts.join_next().await {
        let is_delivered = posted.map_err(io::Error::other)??;
        if !is_delivered {
            *response.status_mut() = StatusCode::BAD_GATEWAY;
        }
    }
    Ok(response)
}

async fn post(target: Arc<Target>, body: Bytes) -> io::Result<bool> {
    let request = Request::builder()
        .method(Method::POST)
        .uri(&target.path)
        .header(HOST, target.address.to_string())
        .body(Full::new(body))
        .map_err(io::Error::other)?;
    let mut sender = target.sender.lock().await;
    sender.ready().await.map_err(io::Error::other)?;
    let response = sender.send_request(request).await.map_err(io::Error::other)?;
    let is_delivered = response.status().is_success();
    response.collect().await.map_err(io::Error::other)?;
    Ok(is_delivered)
}
