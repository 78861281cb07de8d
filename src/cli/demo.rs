//! `consentd demo`: the main job, to look at.

use std::fs;
use std::io::{self, IsTerminal, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anstyle::{AnsiColor, Style};
use bytes::Bytes;
use clap::Args;
use http_body_util::{BodyExt, Full};
use hyper::{Method, Request, header};
use hyper_util::rt::TokioIo;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep};

use super::logging::{self, Level};
use super::warehouse_demo;
use crate::config;
use crate::daemon::{Daemon, Signals};
use crate::metrics::{DestinationTotals, SourceTotals};

/// The sample config, the same file as in `examples/`.
const CONFIG: &str = include_str!("../../examples/quickstart.toml");
/// The sample events.
const EVENTS: &str = include_str!("../../examples/events.ndjson");
/// Where the demo keeps its config and what it delivered.
const DIR: &str = "consentd-demo";
/// How long the events may take from the sockets to the files.
const PATIENCE: Duration = Duration::from_secs(10);

/// Arguments of `demo`.
#[derive(Debug, Args)]
pub(super) struct DemoArgs {
    /// Stop after the report instead of serving until Ctrl-C
    #[arg(long)]
    once: bool,
    /// Show the sync of a warehouse: the sample database of examples/warehouse.sql
    #[arg(long)]
    warehouse: bool,
}

pub(super) type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Exit codes: 0 done, 1 failed, 2 could not start.
pub(super) fn run(args: &DemoArgs) -> ExitCode {
    logging::start(Level::Warn);
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&format!("cannot start threads: {error}")),
    };
    runtime.block_on(async {
        let prepared = if args.warehouse { warehouse_demo::prepare() } else { prepare() };
        let file = match prepared {
            Ok(file) => file,
            Err(error) => return failed(&error),
        };
        let mut loaded = match config::load(&file) {
            Ok(loaded) => loaded,
            Err(error) => {
                eprintln!("{error}");
                return ExitCode::from(2);
            }
        };
        if args.warehouse && args.once {
            // Nobody has the time to look at it: another daemon may keep the port.
            loaded.config.admin.listen.set_port(0);
        }
        let config = loaded.config.clone();
        let mut signals = match Signals::listen() {
            Ok(signals) => signals,
            Err(error) => return failed(&format!("cannot listen for signals: {error}")),
        };
        let daemon = match Daemon::start(&file, loaded).await {
            Ok(daemon) => daemon,
            Err(error) => {
                for reason in &error.reasons {
                    eprintln!("error: {reason}");
                }
                return ExitCode::from(2);
            }
        };
        let shown = if args.warehouse {
            warehouse_demo::show(&daemon, &config, args.once).await
        } else {
            show(&daemon, args.once).await
        };
        match shown {
            Ok(()) if args.once => daemon.stop(&mut signals).await,
            Ok(()) => daemon.serve(&mut signals).await,
            Err(error) => {
                eprintln!("error: {error}");
                let _ = daemon.stop(&mut signals).await;
                ExitCode::FAILURE
            }
        }
    })
}

/// Writes the config; where it is.
fn prepare() -> Result<PathBuf, String> {
    let file = Path::new(DIR).join("quickstart.toml");
    fs::create_dir_all(DIR).and_then(|()| fs::write(&file, CONFIG)).map_err(|error| {
        let file = file.display();
        format!("cannot write {file}: {error}; run the demo in a folder you may write to")
    })?;
    Ok(file)
}

fn failed(message: &str) -> ExitCode {
    eprintln!("error: {message}");
    ExitCode::FAILURE
}

/// Sends the sample events, half over TCP and half over HTTP, and reports.
async fn show(daemon: &Daemon, once: bool) -> Result<(), Failure> {
    let lines: Vec<&str> = EVENTS.lines().filter(|line| !line.trim().is_empty()).collect();
    let (over_tcp, over_http) = lines.split_at(lines.len() / 2);
    let tcp = address_of(daemon, "shippers")?;
    let http = address_of(daemon, "web")?;
    let admin = address_of(daemon, "admin")?;
    let mut out = anstream::stdout();
    writeln!(out, "{} events over TCP to {tcp}", over_tcp.len())?;
    send_tcp(tcp, over_tcp).await?;
    writeln!(out, "{} events over HTTP to {http}", over_http.len())?;
    let answer = send_http(http, over_http).await?;
    writeln!(out, "  it answered {answer}")?;
    settle(daemon, Some(lines.len() as u64)).await?;
    writeln!(out)?;
    report(&mut out, daemon)?;
    writeln!(out, "\nfiles    {DIR}/ (and {DIR}/quickstart.toml, the config)")?;
    writeln!(out, "metrics  http://{admin}/metrics")?;
    if !once {
        writeln!(
            out,
            "\nserving until Ctrl-C; try\n  echo '{{\"type\":\"track\",\"event\":\"hi\",\"context\":{{\"consent\":{{\"categoryPreferences\":{{\"Analytics\":true}}}}}}}}' | curl -s --data-binary @- http://{http}/"
        )?;
    }
    out.flush()?;
    Ok(())
}

pub(super) fn address_of(daemon: &Daemon, name: &str) -> Result<SocketAddr, Failure> {
    let found = daemon.addresses().iter().find(|(known, _)| known == name);
    found.map(|(_, address)| *address).ok_or_else(|| format!("no source `{name}`").into())
}

async fn send_tcp(to: SocketAddr, lines: &[&str]) -> Result<(), Failure> {
    let mut stream = TcpStream::connect(to).await?;
    stream.write_all((lines.join("\n") + "\n").as_bytes()).await?;
    stream.shutdown().await?;
    Ok(())
}

async fn send_http(to: SocketAddr, lines: &[&str]) -> Result<String, Failure> {
    let stream = TcpStream::connect(to).await?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let request = Request::builder()
        .method(Method::POST)
        .uri("/v1/events")
        .header(header::HOST, to.to_string())
        .header(header::CONTENT_TYPE, "application/x-ndjson")
        .body(Full::new(Bytes::from(lines.join("\n"))))?;
    let answer = sender.send_request(request).await?;
    let status = answer.status();
    let body = answer.into_body().collect().await?.to_bytes();
    Ok(format!("{status} {}", String::from_utf8_lossy(&body).trim()))
}

/// Waits until every event is delivered or dropped; where nobody says how many were `sent`, every one
/// that was received.
pub(super) async fn settle(daemon: &Daemon, sent: Option<u64>) -> Result<(), Failure> {
    let until = Instant::now() + PATIENCE;
    while Instant::now() < until {
        let (sources, destinations) = daemon.totals();
        let received: u64 = sources.iter().map(|source| source.received).sum();
        let rejected: u64 = sources.iter().flat_map(|s| &s.rejected).map(|(_, n)| n).sum();
        let settled = |destination: &DestinationTotals| {
            destination.delivered + destination.dropped() == received - rejected
        };
        if sent.is_none_or(|sent| sent == received) && destinations.iter().all(settled) {
            return Ok(());
        }
        sleep(Duration::from_millis(20)).await;
    }
    Err("the events did not arrive in time".into())
}

fn report(out: &mut impl Write, daemon: &Daemon) -> io::Result<()> {
    let (sources, destinations) = daemon.totals();
    let bold = Style::new().bold();
    let (green, red) = (AnsiColor::Green.on_default(), AnsiColor::Red.on_default());
    let terminal = io::stdout().is_terminal();
    let rule = if terminal { "─".repeat(72) } else { "-".repeat(72) };
    writeln!(out, "{bold}{:16} {:>9} {:>9}  rejected{bold:#}", "source", "received", "accepted")?;
    writeln!(out, "{rule}")?;
    for SourceTotals { name, received, rejected } in &sources {
        let refused: u64 = rejected.iter().map(|(_, events)| events).sum();
        let accepted = received - refused;
        let why = reasons(rejected);
        writeln!(out, "{name:16} {received:9} {green}{accepted:9}{green:#}  {red}{why}{red:#}")?;
    }
    writeln!(out)?;
    writeln!(out, "{bold}{:16} {:>9} {:>9}  why{bold:#}", "destination", "delivered", "dropped")?;
    writeln!(out, "{rule}")?;
    for destination in &destinations {
        let DestinationTotals { name, delivered, reasons: dropped, .. } = destination;
        let (sum, why) = (destination.dropped(), reasons(dropped));
        writeln!(out, "{name:16} {green}{delivered:9}{green:#} {sum:9}  {red}{why}{red:#}")?;
    }
    Ok(())
}

fn reasons(counts: &[(&'static str, u64)]) -> String {
    let told = counts.iter().filter(|(_, events)| *events > 0);
    told.map(|(reason, events)| format!("{reason} {events}")).collect::<Vec<_>>().join(", ")
}
