//! `consentd warehouses check`: can the warehouses be asked, and do the queries of the models work?

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anstyle::{AnsiColor, Style};
use clap::{Args, Subcommand};

use crate::config::{Config, Model, StateIn, Warehouse, suggest};
use crate::warehouse::{self, Connection, Dialect, Error, Failure, RowShape};

const GREEN: Style = AnsiColor::Green.on_default();
const RED: Style = AnsiColor::Red.on_default().bold();
const YELLOW: Style = AnsiColor::Yellow.on_default();
const BOLD: Style = Style::new().bold();

/// Arguments of `warehouses`.
#[derive(Debug, Args)]
pub(super) struct WarehousesArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Load each driver, connect, and try the queries of the models and where their state is; nothing is sent
    Check(CheckArgs),
}

#[derive(Debug, Args)]
struct CheckArgs {
    /// A warehouse; without one, all of the config
    name: Option<String>,
    /// The config; no daemon needs to run.
    #[arg(long, default_value = super::CONFIG_FILE)]
    config: PathBuf,
}

/// Exit codes: 0 everything works, 1 something does not, 2 wrong usage or config.
pub(super) fn run(args: &WarehousesArgs) -> ExitCode {
    let Command::Check(args) = &args.command;
    let config = match super::check::load(&args.config) {
        Ok(loaded) => loaded.config,
        Err(code) => return code,
    };
    let known = || config.warehouses.iter().map(|warehouse| warehouse.name.as_str());
    let wrong = match &args.name {
        _ if config.warehouses.is_empty() => Some("the config has no [warehouses.NAME]".to_owned()),
        Some(name) if !known().any(|known| known == name) => {
            let help = suggest::help(name, known());
            Some(format!("the config has no warehouse `{name}`; {help}"))
        }
        _ => None,
    };
    if let Some(wrong) = wrong {
        eprintln!("error: {wrong}");
        return ExitCode::from(2);
    }
    let mut report = Report { out: anstream::stdout().lock(), problems: 0 };
    let asked = |name: &str| args.name.as_deref().is_none_or(|asked| asked == name);
    let mut warehouses = (0..).zip(&config.warehouses).filter(|(_, it)| asked(&it.name));
    let checked =
        warehouses.try_for_each(|(at, warehouse)| report.warehouse(&config, at, warehouse));
    match checked {
        Ok(()) if report.problems == 0 => ExitCode::SUCCESS,
        // Nobody reads any more, or what is wrong has been said.
        _ => ExitCode::FAILURE,
    }
}

struct Report<W> {
    out: W,
    problems: usize,
}

impl<W: Write> Report<W> {
    fn warehouse(&mut self, config: &Config, at: usize, warehouse: &Warehouse) -> io::Result<()> {
        let driver = &warehouse.driver;
        writeln!(self.out, "{BOLD}{}{BOLD:#} ({driver})", warehouse.name)?;
        self.out.flush()?;
        let mut connection = match warehouse::open(warehouse) {
            Ok(connection) => connection,
            Err(error) => return self.not_open(warehouse, &error),
        };
        if let Err(error) = probe(connection.as_mut()) {
            return self.bad("", &format!("it is reached, but does not answer: {error}"));
        }
        self.good("connected, and it answers")?;
        let models = || config.models.iter().filter(|model| model.warehouse == at);
        for model in models() {
            self.model(connection.as_mut(), model)?;
        }
        // Some engines open a file for one alone.
        drop(connection);
        for model in models().filter(|model| model.state == StateIn::Warehouse) {
            self.state(warehouse, model)?;
        }
        Ok(())
    }

    /// Whether the state of a model can be kept in the warehouse.
    fn state(&mut self, warehouse: &Warehouse, model: &Model) -> io::Result<()> {
        let name = format!("model {}: ", model.name);
        let tried = warehouse::open_to_write(warehouse).and_then(|mut connection| {
            warehouse::try_table(connection.as_mut(), &model.name, fastrand::u64(..))
        });
        match tried {
            Ok(()) => self.good(&format!(
                "{name}its state can be kept here: a table of _consentd was made, and dropped again"
            )),
            Err(error) => self.bad(&name, &format!("its state can't be kept here: {error}")),
        }
    }

    fn not_open(&mut self, warehouse: &Warehouse, error: &Error) -> io::Result<()> {
        self.bad("", &error.to_string())?;
        let name = &warehouse.name;
        let advice = match error.failure() {
            // The error says what to install.
            Failure::Driver => return Ok(()),
            Failure::Config => format!("look at warehouses.{name}.uri and its options"),
            Failure::Connection | Failure::Query | Failure::Rows => format!(
                "look at warehouses.{name}.uri: host, port, user, password and database; and whether \
                 the database lets in this machine"
            ),
        };
        writeln!(self.out, "           {advice}")
    }

    fn model(&mut self, connection: &mut dyn Connection, model: &Model) -> io::Result<()> {
        let name = format!("model {}: ", model.name);
        let tried = match model.sql() {
            Ok(sql) => columns(connection, &sql, model).map_err(|error| error.to_string()),
            Err(why) => Err(why),
        };
        let tried = match tried {
            Ok(tried) => tried,
            Err(why) => return self.bad(&name, &why),
        };
        for problem in &tried.problems {
            self.bad(&name, problem)?;
        }
        for remark in &tried.remarks {
            writeln!(self.out, "  {YELLOW}odd{YELLOW:#}      {name}{remark}")?;
        }
        if tried.problems.is_empty() {
            self.good(&format!("{name}the query works, {} columns", tried.columns))?;
        }
        Ok(())
    }

    fn good(&mut self, what: &str) -> io::Result<()> {
        writeln!(self.out, "  {GREEN}ok{GREEN:#}       {what}")
    }

    fn bad(&mut self, who: &str, what: &str) -> io::Result<()> {
        self.problems += 1;
        // A database may have several lines to say.
        let what = what.trim_end().replace('\n', "\n           ");
        writeln!(self.out, "  {RED}problem{RED:#}  {who}{what}")
    }
}

/// Whether the database does anything at all.
fn probe(connection: &mut dyn Connection) -> Result<(), Error> {
    let asked = ask(connection, "select 1");
    match connection.dialect() {
        // Oracle wants to be told from where.
        Dialect::Other if asked.is_err() => ask(connection, "select 1 from dual").or(asked),
        _ => asked,
    }
}

fn ask(connection: &mut dyn Connection, sql: &str) -> Result<(), Error> {
    let mut answer = connection.query_few(sql, 1)?;
    match answer.next() {
        Some(Ok(batch)) if batch.num_rows() == 1 => Ok(()),
        Some(Err(error)) => Err(error),
        _ => Err(Error::new(Failure::Query, format!("`{sql}` did not return one row"))),
    }
}

/// What is known of a query once it has begun.
struct Tried {
    columns: usize,
    problems: Vec<String>,
    remarks: Vec<String>,
}

fn columns(connection: &mut dyn Connection, sql: &str, model: &Model) -> Result<Tried, Error> {
    let mut answer = connection.query_few(sql, 1)?;
    let schema = answer.schema();
    let mut problems = RowShape::problems(model, &schema);
    let mut remarks = Vec::new();
    if let Ok(shape) = RowShape::new(model, &schema) {
        remarks = shape.remarks().to_vec();
        // Some mistakes show in the first row only.
        if let Some(batch) = answer.next() {
            problems.extend(shape.bind(&batch?).err().map(|error| error.to_string()));
        }
    }
    Ok(Tried { columns: schema.fields().len(), problems, remarks })
}
