//! `POST` of batches.

use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::header::{
    CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HOST, HeaderMap, HeaderName,
    HeaderValue, RETRY_AFTER, TRANSFER_ENCODING, USER_AGENT,
};
use hyper::{Method, Request, Response, Uri};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use jiff::Timestamp;
use tokio::time::timeout;

use super::batch::Batch;
use super::body::Body;
use super::retry::{Outcome, classify, parse_retry_after};
use super::sink::{HttpSpec, SinkError};
use crate::config::{Compression, Format};

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// Header fields that belong to the protocol and cannot be set.
const RESERVED: [HeaderName; 5] =
    [CONNECTION, CONTENT_LENGTH, HOST, IDEMPOTENCY_KEY, TRANSFER_ENCODING];

/// An answer's body is read to here so that the connection can be used again; after a longer one
/// the connection is closed.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// How long that may take.
const DISCARD_TIMEOUT: Duration = Duration::from_secs(1);

/// Connections without a request for so long are closed; the next one looks the name up again.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);

/// One request at a time through a pool of connections that all lanes share.
#[derive(Debug, Clone)]
pub struct HttpSink {
    endpoint: Arc<Endpoint>,
}

struct Endpoint {
    client: Client<HttpsConnector<HttpConnector>, Body>,
    uri: Uri,
    headers: HeaderMap,
    format: Format,
    compression: Compression,
    timeout: Duration,
    concurrency: usize,
}

impl std::fmt::Debug for Endpoint {
    /// Neither the path of the URL nor header fields: they may hold secrets.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Endpoint").field("host", &self.uri.host()).finish_non_exhaustive()
    }
}

impl HttpSink {
    pub(super) fn new(spec: HttpSpec) -> Result<Self, SinkError> {
        let uri = parse_url(&spec.url)?;
        let headers = headers(&spec)?;
        let mut connector = HttpConnector::new();
        connector.enforce_http(false);
        connector.set_nodelay(true);
        connector.set_keepalive(Some(IDLE_TIMEOUT));
        connector.set_connect_timeout(Some(spec.timeout));
        let connector = HttpsConnectorBuilder::new()
            .with_webpki_roots()
            .https_or_http()
            .enable_http1()
            .wrap_connector(connector);
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_TIMEOUT)
            .pool_max_idle_per_host(spec.concurrency.get())
            .build(connector);
        let endpoint = Endpoint {
            client,
            uri,
            headers,
            format: spec.format,
            compression: spec.compression,
            timeout: spec.timeout,
            concurrency: spec.concurrency.get(),
        };
        Ok(Self { endpoint: Arc::new(endpoint) })
    }

    pub(super) fn into_lanes(self) -> impl Iterator<Item = Self> {
        let lanes = self.endpoint.concurrency;
        std::iter::repeat_n(self, lanes)
    }

    pub(super) async fn send(&self, batch: &Batch) -> Outcome {
        let request = match self.endpoint.request(batch).await {
            Ok(request) => request,
            Err(error) => return Outcome::retry(format!("cannot build the request: {error}")),
        };
        let answer = self.endpoint.client.request(request);
        match timeout(self.endpoint.timeout, answer).await {
            Err(_) => Outcome::retry(format!("no answer within {:?}", self.endpoint.timeout)),
            Ok(Err(error)) => Outcome::retry(innermost(&error)),
            Ok(Ok(response)) => {
                let outcome = outcome_of(&response);
                // The answer stands, whatever becomes of the rest of it.
                let _ = timeout(DISCARD_TIMEOUT, discard(response.into_body())).await;
                outcome
            }
        }
    }
}

impl Endpoint {
    async fn request(&self, batch: &Batch) -> Result<Request<Body>, Box<dyn Error + Send + Sync>> {
        let body = Body::new(batch, self.format, self.compression, Timestamp::now()).await?;
        let mut request = Request::new(body);
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.uri.clone();
        *request.headers_mut() = self.headers.clone();
        let key = HeaderValue::try_from(format!("{:032x}", batch.key()))?;
        request.headers_mut().insert(IDEMPOTENCY_KEY, key);
        Ok(request)
    }
}

fn outcome_of(response: &Response<Incoming>) -> Outcome {
    let after = response.headers().get(RETRY_AFTER);
    let after = after.and_then(|value| value.to_str().ok());
    let after = after.and_then(|value| parse_retry_after(value, SystemTime::now()));
    classify(response.status(), after)
}

async fn discard(mut body: Incoming) {
    let mut left = ANSWER_BYTES_MAX;
    while let Some(Ok(frame)) = body.frame().await {
        let len = frame.data_ref().map_or(0, |part| part.len());
        match left.checked_sub(len) {
            Some(rest) => left = rest,
            None => return,
        }
    }
}

/// The cause at the bottom: the layers above it only say that a request failed.
fn innermost(error: &dyn Error) -> String {
    let mut cause = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    cause.to_string()
}

fn parse_url(url: &str) -> Result<Uri, SinkError> {
    let error = |what: &str| Err(SinkError(format!("`url` {what}")));
    let Ok(uri) = url.parse::<Uri>() else {
        return error("is not a URL");
    };
    if !matches!(uri.scheme_str(), Some("http" | "https")) || uri.host().is_none_or(str::is_empty) {
        return error("must begin with http:// or https:// and a host");
    }
    if uri.authority().is_some_and(|authority| authority.as_str().contains('@')) {
        return error("must not hold a user or password: use `headers` with `Authorization`");
    }
    Ok(uri)
}

fn headers(spec: &HttpSpec) -> Result<HeaderMap, SinkError> {
    let mut headers = HeaderMap::new();
    let agent = concat!("consentd/", env!("CARGO_PKG_VERSION"));
    headers.insert(USER_AGENT, HeaderValue::from_static(agent));
    let media = match spec.format {
        Format::Ndjson => "application/x-ndjson",
        Format::JsonArray | Format::SegmentBatch => "application/json",
    };
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(media));
    let coding = match spec.compression {
        Compression::None => None,
        Compression::Gzip => Some("gzip"),
        Compression::Zstd => Some("zstd"),
    };
    headers.extend(coding.map(|coding| (CONTENT_ENCODING, HeaderValue::from_static(coding))));
    for (name, value) in &spec.headers {
        let (Ok(name), Ok(mut value)) =
            (HeaderName::try_from(name.as_str()), HeaderValue::try_from(value.as_str()))
        else {
            return Err(SinkError(format!("`headers`: `{name}` is not a valid field")));
        };
        if RESERVED.contains(&name) {
            return Err(SinkError(format!("`headers`: `{name}` is set by consentd")));
        }
        value.set_sensitive(true);
        headers.insert(name, value);
    }
    Ok(headers)
}
