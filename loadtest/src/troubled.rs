//! Three destinations in trouble beside healthy ones: nobody listens on one, one takes long for every
//! answer, one answers with errors and resets. With a log they must cost the others next to nothing.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Runtime};

use crate::measure::{growth, median, sampled};
use crate::plan::{Plan, Rule};
use crate::round::{Findings, wait_for_arrival};
use crate::scenario::{Bench, Case, Scenario};
use crate::send::{Demand, Feed, send};
use crate::sink::Output;
use crate::subject::{DaemonOptions, Subject};

/// What the healthy ones must reach of what they reach alone.
const SHARE_MIN: f64 = 0.95;

/// How much memory may differ between the middle and the last third of the time, of all it uses.
const GROWTH_MAX_SHARE: f64 = 0.1;

/// How long the slow one takes for an answer.
const SLOW: Duration = Duration::from_secs(1);

const TROUBLED: [&str; 3] = ["dead", "slow", "erring"];

/// Port 1 is reserved, so nobody who was given a free port listens there.
const NOBODY: ([u8; 4], u16) = ([127, 0, 0, 1], 1);

/// The outcome.
#[derive(Debug, Serialize)]
#[expect(missing_docs, reason = "the names say it, and they are the keys of the JSON")]
pub struct TroubledReport {
    pub scenario: Scenario,
    pub destinations: usize,
    pub seconds: u64,
    /// Of each round: with the healthy ones alone, and beside the others.
    pub events_per_second: Vec<[f64; 2]>,
    /// The median of the rounds' ratios.
    pub share: f64,
    /// Answered by the slow one and the erring one.
    pub troubled_answers: u64,
    /// Of the last round.
    pub rss_mib: Vec<f64>,
    /// The median of the rounds.
    pub rss_growth_mib: f64,
    pub findings: Findings,
}

/// Sends for so many seconds without them and with them, in turns.
///
/// # Errors
/// When the daemon cannot be started, hangs up or does not answer.
pub fn run(
    bench: &Bench,
    case: Case,
    daemon: &DaemonOptions,
    scratch: &Path,
) -> io::Result<TroubledReport> {
    let Case { scenario, destinations, seconds } = case;
    let (healthy, _) = bench.plan(destinations);
    let beside = with_troubled(&healthy);
    let trouble = Trouble::start()?;
    let mut findings = Findings::default();
    let (mut rates, mut growths, mut rss_mib) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..bench.rounds() {
        let alone = side(bench, case, &healthy, None, daemon, scratch)?;
        let both = side(bench, case, &beside, Some(&trouble), daemon, scratch)?;
        rates.push([alone.events_per_second, both.events_per_second]);
        growths.push(growth(&both.rss_mib));
        rss_mib = both.rss_mib;
        findings.merge(alone.findings);
        findings.merge(both.findings);
    }
    let share = median(rates.iter().map(|[alone, beside]| beside / alone).collect());
    if share < SHARE_MIN {
        findings.breaches.push(format!("the healthy ones reach {share:.3} of what they do alone"));
    }
    let rss_growth_mib = median(growths);
    if rss_growth_mib > GROWTH_MAX_SHARE * rss_mib.iter().copied().fold(0.0, f64::max) {
        findings.breaches.push(format!("memory grew by {rss_growth_mib:.1} MiB"));
    }
    let troubled_answers = trouble.answers.load(Ordering::Acquire);
    if troubled_answers == 0 {
        findings.breaches.push("nothing was sent to those in trouble".to_owned());
    }
    Ok(TroubledReport {
        scenario,
        destinations,
        seconds,
        events_per_second: rates,
        share,
        troubled_answers,
        rss_mib,
        rss_growth_mib,
        findings,
    })
}

/// What the troubled ones get, somebody healthy gets too: nothing is stored for them alone.
fn with_troubled(healthy: &Plan) -> Plan {
    let mut plan = healthy.clone();
    for (name, like) in TROUBLED.into_iter().zip(healthy.rules.iter().cycle()) {
        plan.rules.push(Rule { name: name.to_owned(), ..like.clone() });
    }
    plan
}

struct Side {
    events_per_second: f64,
    rss_mib: Vec<f64>,
    findings: Findings,
}

fn side(
    bench: &Bench,
    case: Case,
    plan: &Plan,
    trouble: Option<&Trouble>,
    daemon: &DaemonOptions,
    scratch: &Path,
) -> io::Result<Side> {
    let Case { scenario, seconds, .. } = case;
    let expectations = bench.expectations(plan);
    let directory = tempfile::tempdir_in(scratch)?;
    let sink = bench.sink(scenario.output(), &expectations, directory.path())?;
    let mut outputs = sink.outputs().to_vec();
    let troubled = trouble.map_or(Vec::new(), Trouble::outputs);
    let healthy = outputs.len() - troubled.len();
    outputs.splice(healthy.., troubled);
    let subject = Subject::daemon(daemon, plan, &outputs, scenario.input(), directory.path())?;

    let (load, started) = (bench.load(), Instant::now());
    let give_up = started + Duration::from_secs(seconds);
    let demand = Demand { events: u64::MAX, rate: None, at_a_time: None, give_up };
    let feed = Feed::new(&load.templates, load.clock, 0, demand);
    let (sent, rss_mib) = sampled(subject.meter(), || send(&feed, subject.entry()))?;
    let sent = sent?;
    let mut due = expectations.deliveries(sent.events);
    due[healthy..].fill(0);
    wait_for_arrival(sink.register(), due.iter().sum());
    let events_per_second = sent.events as f64 / started.elapsed().as_secs_f64();

    let mut findings = Findings::default();
    let counts = subject.counts()?.unwrap_or_default();
    for (rule, due) in plan.rules.iter().zip(&due[..healthy]) {
        let delivered = counts.destinations.get(&rule.name).map_or(0, |account| account.delivered);
        if delivered != *due {
            let name = &rule.name;
            findings.breaches.push(format!("{name}: {delivered} delivered, {due} are due"));
        }
    }
    // Killed: a stop would wait for those in trouble.
    drop(subject);
    let register = Arc::clone(sink.register());
    findings.add_arrivals(&sink.finish()?, &due, &register);
    Ok(Side { events_per_second, rss_mib, findings })
}

/// The server of the slow one and the erring one.
struct Trouble {
    address: SocketAddr,
    answers: Arc<AtomicU64>,
    _runtime: Runtime,
}

impl Trouble {
    fn start() -> io::Result<Self> {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0"))?;
        let address = listener.local_addr()?;
        let answers = Arc::new(AtomicU64::new(0));
        runtime.spawn(accept(listener, Arc::clone(&answers)));
        Ok(Self { address, answers, _runtime: runtime })
    }

    /// In the order of [`TROUBLED`].
    fn outputs(&self) -> Vec<Output> {
        let at = |path: &str| Output::Http(self.address, path.to_owned());
        vec![Output::Http(NOBODY.into(), "/dead".to_owned()), at("/slow"), at("/erring")]
    }
}

async fn accept(listener: TcpListener, answers: Arc<AtomicU64>) {
    while let Ok((stream, _)) = listener.accept().await {
        let answers = Arc::clone(&answers);
        let service = service_fn(move |request| answer(request, Arc::clone(&answers)));
        tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
    }
}

/// An error ends the connection without an answer.
async fn answer(
    request: Request<Incoming>,
    answers: Arc<AtomicU64>,
) -> Result<Response<Empty<Bytes>>, io::Error> {
    let number = answers.fetch_add(1, Ordering::AcqRel);
    let is_slow = request.uri().path() == "/slow";
    let mut body = request.into_body();
    let mut response = Response::new(Empty::<Bytes>::new());
    if is_slow {
        while body.frame().await.is_some() {}
        tokio::time::sleep(SLOW).await;
    } else if number.is_multiple_of(2) {
        return Err(io::ErrorKind::ConnectionReset.into());
    } else {
        while body.frame().await.is_some() {}
        *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    }
    Ok::<_, Infallible>(response).map_err(|never| match never {})
}
