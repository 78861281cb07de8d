//! Messages of the daemon, on standard error.

use std::fmt;
use std::io::{self, IsTerminal};

use clap::ValueEnum;
use tracing::{Event, Level as TracingLevel, Subscriber};
use tracing_subscriber::fmt::format::{
    DefaultFields, Format, FormatEvent, FormatFields, Full, Writer,
};
use tracing_subscriber::fmt::{FmtContext, time};
use tracing_subscriber::registry::LookupSpan;

/// How much is logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Level {
    /// What ends the daemon or loses events
    Error,
    /// What somebody should look at
    Warn,
    /// Changes of state
    Info,
    /// Every connection
    Debug,
}

impl From<Level> for TracingLevel {
    fn from(level: Level) -> Self {
        match level {
            Level::Error => Self::ERROR,
            Level::Warn => Self::WARN,
            Level::Info => Self::INFO,
            Level::Debug => Self::DEBUG,
        }
    }
}

/// Starts logging: with the journal's level prefixes under systemd, with colour on a terminal.
pub(super) fn start(level: Level) {
    let logging = tracing_subscriber::fmt()
        .with_max_level(TracingLevel::from(level))
        .with_writer(io::stderr)
        .with_target(false);
    // A second start, as in tests, keeps the first one's settings.
    let _ = if std::env::var_os("JOURNAL_STREAM").is_some() {
        let plain = Format::default().without_time().with_level(false).with_target(false);
        tracing::subscriber::set_global_default(
            logging.with_ansi(false).event_format(Journal(plain)).finish(),
        )
    } else {
        tracing::subscriber::set_global_default(
            logging.with_ansi(io::stderr().is_terminal()).finish(),
        )
    };
}

/// The journal adds the time; it takes the level from a prefix (sd-daemon(3)).
struct Journal(Format<Full, ()>);

impl<S> FormatEvent<S, DefaultFields> for Journal
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    DefaultFields: for<'a> FormatFields<'a>,
    (): time::FormatTime,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, DefaultFields>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let prefix = match *event.metadata().level() {
            TracingLevel::ERROR => "<3>",
            TracingLevel::WARN => "<4>",
            TracingLevel::INFO => "<6>",
            TracingLevel::DEBUG | TracingLevel::TRACE => "<7>",
        };
        writer.write_str(prefix)?;
        self.0.format_event(context, writer, event)
    }
}
