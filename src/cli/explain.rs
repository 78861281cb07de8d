//! `consentd explain`: what becomes of events, and why. The very code of the worker decides.

use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Read, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use serde::Serialize;

use super::verdict::{Accepted, Rejected, prepare};
use crate::config::{Config, suggest};
use crate::consent::Judge;
use crate::route::{RoutingTable, SourceId};

const BUFFER_BYTES: usize = 256 * 1024;
const WRONG_USAGE: u8 = 2;

/// Arguments of `explain`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The config to decide by; no port is opened and no secret is read.
    #[arg(long, default_value = super::CONFIG_FILE)]
    config: PathBuf,
    /// The source that the events come from; without one, every destination's `sources` test passes.
    #[arg(long, value_name = "NAME")]
    source: Option<String>,
    /// Events as newline-delimited JSON; without it, standard input.
    file: Option<PathBuf>,
}

/// Exit codes: 0 also when events are rejected, 1 input or output failed, 2 wrong usage or config.
pub(super) fn run(args: &Args) -> ExitCode {
    let loaded = match super::check::load(&args.config) {
        Ok(loaded) => loaded,
        Err(code) => return code,
    };
    let usage = |message: String| {
        eprintln!("error: {message}");
        ExitCode::from(WRONG_USAGE)
    };
    let table = match RoutingTable::compile(&loaded.config.table_spec(1)) {
        Ok(table) => table,
        Err(error) => return usage(error.to_string()),
    };
    let source = match source(args.source.as_deref(), &loaded.config, &table) {
        Ok(source) => source,
        Err(message) => return usage(message),
    };
    let input: Box<dyn Read> = match &args.file {
        None => Box::new(io::stdin().lock()),
        Some(path) => match File::open(path) {
            Ok(file) => Box::new(file),
            Err(error) => return usage(format!("{} can't be read: {error}", path.display())),
        },
    };
    let input = BufReader::with_capacity(BUFFER_BYTES, input);
    let output = BufWriter::with_capacity(BUFFER_BYTES, io::stdout().lock());
    let explained = explain(input, output, source, &table, loaded.config.daemon.max_event_bytes);
    match explained {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever read the output has seen enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn source(name: Option<&str>, config: &Config, table: &RoutingTable) -> Result<SourceId, String> {
    let Some(name) = name else { return Ok(table.any_source()) };
    table.source(name).ok_or_else(|| {
        let names = config.sources.iter().map(|source| source.name.as_str());
        format!("the config has no source `{name}`; {}", suggest::help(name, names))
    })
}

/// Explains every line of `input`.
///
/// # Errors
/// Where reading or writing fails.
fn explain<R: Read>(
    mut input: BufReader<R>,
    mut output: impl Write,
    source: SourceId,
    table: &RoutingTable,
    max_event_bytes: usize,
) -> io::Result<()> {
    let mut judge = Judge::new(table, max_event_bytes);
    let mut line = Vec::new();
    for number in 1_u64.. {
        // Somebody may be watching: what is done is shown before waiting for more.
        if input.buffer().is_empty() {
            output.flush()?;
        }
        if !read_line(&mut input, &mut line, max_event_bytes)? {
            break;
        }
        let Some(len) = prepare(&mut line) else { continue };
        match judge.judge(&mut line, len, source, table, |_| {}) {
            Ok(decision) => {
                let verdict = Accepted::new(&decision, table);
                serde_json::to_writer(&mut output, &Explained { line: number, verdict })?;
            }
            Err(rejection) => {
                let verdict = Rejected::new(rejection);
                serde_json::to_writer(&mut output, &Explained { line: number, verdict })?;
            }
        }
        output.write_all(b"\n")?;
    }
    output.flush()
}

/// Reads the next line with its end into `line`; whether there was one. A line that is too long to
/// be an event is cut one byte after that is certain.
fn read_line(input: &mut impl BufRead, line: &mut Vec<u8>, max: usize) -> io::Result<bool> {
    line.clear();
    // One more for the CR of a line end, one more to tell.
    let kept = max.saturating_add(2);
    let mut any = false;
    loop {
        let available = match input.fill_buf() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            available => available?,
        };
        if available.is_empty() {
            return Ok(any);
        }
        any = true;
        let end = memchr::memchr(b'\n', available);
        let taken = end.map_or(available.len(), |end| end + 1);
        let room = kept.saturating_sub(line.len()).min(end.unwrap_or(taken));
        line.extend_from_slice(&available[..room]);
        input.consume(taken);
        if end.is_some() {
            if line.len() < kept {
                line.push(b'\n');
            }
            return Ok(true);
        }
    }
}

/// What is printed of a line.
#[derive(Serialize)]
struct Explained<V> {
    line: u64,
    #[serde(flatten)]
    verdict: V,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str, max: usize, capacity: usize) -> Vec<(String, Option<usize>)> {
        let mut input = BufReader::with_capacity(capacity, text.as_bytes());
        let mut line = Vec::new();
        let mut found = Vec::new();
        while read_line(&mut input, &mut line, max).unwrap() {
            let text = String::from_utf8_lossy(&line).into_owned();
            found.push((text, prepare(&mut line)));
        }
        found
    }

    #[test]
    fn lines_are_cut_alike_whatever_the_reads() {
        for capacity in [1, 2, 3, 7, 100] {
            let found: Vec<Option<usize>> =
                lines("ab\r\n\n  \r\nabcd\r\nabcde\r\nabcdefgh\nab\r", 4, capacity)
                    .into_iter()
                    .map(|(_, len)| len)
                    .collect();
            let expected = [Some(2), None, None, Some(4), Some(5), Some(6), Some(2)];
            assert_eq!(found, expected, "{capacity}");
        }
    }

    #[test]
    fn a_long_line_is_not_kept() {
        let found = lines(&"x".repeat(1000), 4, 64);
        assert_eq!(found, [("xxxxxx".to_owned(), Some(6))]);
    }
}
