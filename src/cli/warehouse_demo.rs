//! `consentd demo --warehouse`: rows of a table become events, to look at.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anstyle::{AnsiColor, Style};
use serde_json::Value;
use tokio::task::spawn_blocking;

use super::demo::{Failure, address_of, settle};
use super::preview::{self, Fate, Shown};
use super::sync;
use crate::admin::{SyncRecord, SyncState};
use crate::config::Config;
use crate::daemon::Daemon;

/// The sample config, the same file as in `examples/`.
const CONFIG: &str = include_str!("../../examples/warehouse.toml");
/// The sample database.
const TABLES: &str = include_str!("../../examples/warehouse.sql");
/// Where the demo keeps everything; the config names it, too.
const DIR: &str = "consentd-demo/warehouse";
const DATABASE: &str = "consentd-demo/warehouse/shop.sqlite";
/// The model of the config.
const MODEL: &str = "customers";
/// What happens between the two syncs.
const CHANGES: [(&str, &str); 3] = [
    ("Ann wants no advertising any more", "update customers set ads = false where id = 1"),
    ("Ben takes another plan", "update customers set plan = 'team' where id = 2"),
    ("Dan closes his account", "delete from customers where id = 4"),
];
/// More rows than there are.
const ROWS_MAX: usize = 100;

const GREEN: Style = AnsiColor::Green.on_default();
const YELLOW: Style = AnsiColor::Yellow.on_default();
const RED: Style = AnsiColor::Red.on_default();
const BOLD: Style = Style::new().bold();

/// Writes the config and makes the database; where the config is.
///
/// # Errors
/// A sentence.
pub(super) fn prepare() -> Result<PathBuf, String> {
    let file = Path::new(DIR).join("warehouse.toml");
    fs::create_dir_all(DIR).and_then(|()| fs::write(&file, CONFIG)).map_err(|error| {
        let file = file.display();
        format!("cannot write {file}: {error}; run the demo in a folder you may write to")
    })?;
    change(TABLES).map_err(|error| format!("cannot make {DATABASE}: {error}"))?;
    Ok(file)
}

fn change(sql: &str) -> Result<(), rusqlite::Error> {
    rusqlite::Connection::open(DATABASE)?.execute_batch(sql)
}

/// Syncs, changes rows, syncs again, and shows what each destination got.
///
/// # Errors
/// A sync failed, or its events did not arrive.
pub(super) async fn show(daemon: &Daemon, config: &Config, once: bool) -> Result<(), Failure> {
    let admin = address_of(daemon, "admin")?;
    let mut look = Look::new(config)?;
    let mut out = anstream::stdout();
    writeln!(out, "{BOLD}First sync of examples/warehouse.sql{BOLD:#}")?;
    // Full: an earlier demo may have left its state behind.
    round(daemon, admin, config, &mut look, true).await?;
    writeln!(out, "\n{BOLD}Then{BOLD:#}")?;
    for (what, sql) in CHANGES {
        writeln!(out, "  {what}: {sql};")?;
        change(sql)?;
    }
    writeln!(out, "\n{BOLD}Second sync{BOLD:#}")?;
    let deletion = round(daemon, admin, config, &mut look, false).await?;
    if let Some((destination, line)) = deletion {
        writeln!(out, "\na deletion carries the id only, here to {destination}:\n  {line}")?;
    }
    writeln!(out, "\nfiles    {DIR}/ (and {DIR}/warehouse.toml, the config)")?;
    writeln!(out, "why      consentd preview {MODEL} --config {DIR}/warehouse.toml")?;
    if !once {
        writeln!(out, "metrics  http://{admin}/metrics")?;
        writeln!(
            out,
            "\nserving until Ctrl-C; change rows of {DATABASE}, and in another terminal, in this \
             folder\n  consentd sync {MODEL} --config {DIR}/warehouse.toml"
        )?;
    }
    out.flush()?;
    Ok(())
}

/// One sync, and what came of it; a deletion that a destination got, if one did.
async fn round(
    daemon: &Daemon,
    admin: SocketAddr,
    config: &Config,
    look: &mut Look,
    full: bool,
) -> Result<Option<(String, String)>, Failure> {
    let record = spawn_blocking(move || sync::to_its_end(admin, MODEL, full)).await??;
    if record.counts.state != SyncState::Done {
        let error = record.counts.error.unwrap_or_default();
        return Err(format!("the sync {}: {error}", record.counts.state.label()).into());
    }
    settle(daemon, None).await?;
    let config = config.clone();
    let rows = spawn_blocking(move || {
        let model = preview::named(&config, MODEL)?;
        preview::rows(&config, model, ROWS_MAX, |_| {})
    });
    let rows = rows.await??;
    let arrived = look.arrived()?;
    let mut out = anstream::stdout();
    summary(&mut out, &record)?;
    look.table(&mut out, &rows, &arrived)?;
    let deletions = arrived.into_iter().zip(&look.files).find_map(|(events, file)| {
        let deletion = events.into_values().find(|event| event["type"] == "delete")?;
        Some((file.destination.clone(), deletion.to_string()))
    });
    Ok(deletions)
}

fn summary(out: &mut impl Write, record: &SyncRecord) -> io::Result<()> {
    let counts = record.counts.by_change().into_iter().filter(|(_, rows)| *rows > 0);
    let counts: Vec<String> = counts.map(|(change, rows)| format!("{rows} {change}")).collect();
    writeln!(out, "  {} rows: {}\n", record.counts.rows, counts.join(", "))
}

/// The files of the destinations, and who the rows are about.
struct Look {
    files: Vec<Seen>,
    /// By id.
    names: BTreeMap<String, String>,
}

/// A file, as far as it was looked at.
struct Seen {
    destination: String,
    path: PathBuf,
    bytes: u64,
}

/// New events of one destination, by the id of the row.
type Arrived = BTreeMap<String, Value>;

impl Look {
    /// What is in the files now is of an earlier demo.
    fn new(config: &Config) -> io::Result<Self> {
        let mut files = Vec::new();
        for destination in &config.destinations {
            let destination = destination.route.name.clone();
            let path = Path::new(DIR).join(format!("{destination}.ndjson"));
            let bytes = fs::metadata(&path).map_or(0, |file| file.len());
            files.push(Seen { destination, path, bytes });
        }
        Ok(Self { files, names: BTreeMap::new() })
    }

    fn arrived(&mut self) -> io::Result<Vec<Arrived>> {
        self.files.iter_mut().map(Seen::arrived).collect()
    }

    /// A line for each row, a column for each destination.
    fn table(
        &mut self,
        out: &mut impl Write,
        rows: &[Shown],
        arrived: &[Arrived],
    ) -> io::Result<()> {
        for row in rows {
            let columns: Value = serde_json::from_str(&row.columns).unwrap_or_default();
            let email = columns["email"].as_str().unwrap_or("?").to_owned();
            self.names.insert(row.id.clone(), email);
        }
        let heading: Vec<String> =
            self.files.iter().map(|file| format!("{:13}", file.destination)).collect();
        writeln!(out, "  {BOLD}{:20} {}{BOLD:#}", "customer", heading.join(" ").trim_end())?;
        for (id, name) in &self.names {
            let row = rows.iter().find(|row| row.id == *id);
            write!(out, "  {id:2} {name:17}")?;
            for (file, events) in self.files.iter().zip(arrived) {
                let (style, said) = cell(row, &file.destination, events.get(id));
                write!(out, " {style}{said:13}{style:#}")?;
            }
            writeln!(out)?;
        }
        Ok(())
    }
}

/// What a destination got of a row, or why it got nothing.
fn cell(row: Option<&Shown>, destination: &str, event: Option<&Value>) -> (Style, &'static str) {
    match event {
        Some(event) if event["type"] == "delete" => return (YELLOW, "deletion"),
        Some(_) => return (GREEN, "event"),
        None => {}
    }
    let Some(row) = row else { return (Style::new(), "never had it") };
    let Fate::Judged(judged) = &row.fate else { return (RED, "not sent") };
    let refusal = judged.outcomes.iter().find(|(name, _)| name == destination);
    match refusal.and_then(|(_, refusal)| *refusal) {
        Some("consent") => (RED, "no: consent"),
        Some(_) => (RED, "no"),
        None => (Style::new(), "has it"),
    }
}

impl Seen {
    /// The events since the last look.
    fn arrived(&mut self) -> io::Result<Arrived> {
        let mut text = String::new();
        match File::open(&self.path) {
            Ok(mut file) => {
                file.seek(SeekFrom::Start(self.bytes))?;
                file.read_to_string(&mut text)?;
            }
            // Nothing was ever delivered.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        self.bytes += text.len() as u64;
        let events = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        Ok(events.map(|event| (event["userId"].to_string(), event)).collect())
    }
}
