//! From the raw config to the checked one: ranges, forms, and references between sections.
//!
//! Every function reports what is wrong and goes on with a value that only lives until the end,
//! where any error means that there is no config.

mod delivery;
mod destination;
mod expectation;
mod model;
mod reach;
mod source;
mod template;
mod value;
mod warehouse;

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::finding::Report;
use super::model::{
    Admin, Config, Consent, Daemon, DeadLetters, Destination, LOG_SEGMENT_BYTES, Log, LogSync,
};
use super::raw::{self, At, defaults};
use super::suggest;
use crate::parse::{LocationError, Locations, MAX_LOCATIONS};
use crate::route::{CategorySpec, MAX_CATEGORIES, Missing, Unmapped};

/// Where the state is unless the config says otherwise.
const DATA_DIR: &str = "/var/lib/consentd";

/// How many segments a log must have room for.
const LOG_SEGMENTS_MIN: u64 = 4;

const HOUR: Duration = Duration::from_secs(3600);

/// Checks `file`; the config only if nothing at all is wrong.
pub(super) fn validate(file: &raw::File, folder: &Path, report: &mut Report<'_>) -> Option<Config> {
    let mut check = Check::new(report);
    let mut daemon = check.daemon(file.daemon.as_ref());
    let log = check.log(file.log.as_ref(), &mut daemon);
    let dead_letters = check.dead_letters(file.dead_letters.as_ref(), log.as_ref(), &daemon);
    check.has_log = log.is_some();
    let admin = check.admin(file.admin.as_ref());
    let consent = check.consent(file.consent.as_ref());
    let categories = check.categories(file.categories.as_ref());
    let sources = check.sources(file.sources.as_ref(), file.models.as_ref());
    let warehouses = check.warehouses(file.warehouses.as_ref());
    let destinations = check.destinations(file.destinations.as_ref(), &daemon);
    let models = check.models(file.models.as_ref(), &warehouses, &consent, folder);
    let tests = check.tests(file.tests.as_ref());
    if check.report.has_errors() {
        return None;
    }
    check.unused_categories(file.categories.as_ref(), &destinations);
    check.reach(file.models.as_ref(), &models, &destinations);
    Some(Config {
        daemon,
        log,
        dead_letters,
        admin,
        consent,
        categories,
        sources,
        warehouses,
        models,
        destinations,
        tests,
    })
}

/// The admin address of a file with nothing but that.
pub(super) fn admin_address(file: &raw::File, report: &mut Report<'_>) -> Option<SocketAddr> {
    let mut check = Check::new(report);
    let admin = check.admin(file.admin.as_ref());
    (!check.report.has_errors()).then_some(admin.listen)
}

struct Check<'r, 'a> {
    report: &'r mut Report<'a>,
    names: Names,
    /// Addresses that are taken, and the keys that took them.
    listening: Vec<(SocketAddr, String)>,
    has_log: bool,
}

/// What other sections may refer to.
#[derive(Default)]
struct Names {
    /// Category IDs, and whether the category is on.
    categories: HashMap<String, bool>,
    category_ids: Vec<String>,
    /// Such a category was reported, and references to it must not be.
    some_category_has_no_id: bool,
    /// Sources, and then the models, which are sources, too.
    sources: Vec<String>,
    models: usize,
    warehouses: Vec<String>,
    destinations: Vec<String>,
}

impl Names {
    fn sources_before_models(&self) -> &[String] {
        let end = self.sources.len().saturating_sub(self.models);
        &self.sources[..end]
    }
}

impl<'r, 'a> Check<'r, 'a> {
    fn new(report: &'r mut Report<'a>) -> Self {
        Self { report, names: Names::default(), listening: Vec::new(), has_log: true }
    }

    fn daemon(&mut self, raw: Option<&At<raw::Daemon>>) -> Daemon {
        let empty = raw::Daemon::default();
        let raw = raw.map_or(&empty, |raw| &raw.value);
        let max_event_bytes = self.size(
            "daemon.max_event_bytes",
            raw.max_event_bytes.as_ref(),
            defaults::MAX_EVENT_BYTES,
            2..=256 << 20,
        );
        let memory_max = self.size(
            "daemon.memory_max",
            raw.memory_max.as_ref(),
            defaults::MEMORY_MAX,
            defaults::BUFFER_MIN..=1 << 50,
        );
        let ingest_bytes_max = self.size(
            "daemon.ingest_bytes_max",
            raw.ingest_bytes_max.as_ref(),
            defaults::INGEST_BYTES_MAX,
            1..=1 << 50,
        );
        // A frame, the tail that is carried over and the next read must fit side by side.
        let least = max_event_bytes * 4;
        if ingest_bytes_max < least {
            let given = raw.ingest_bytes_max.as_ref().or(raw.max_event_bytes.as_ref());
            let span = given.map_or(0..0, |given| given.span.clone());
            self.report.error(
                &span,
                "daemon.ingest_bytes_max",
                "less than four times max_event_bytes",
                format!("write ingest_bytes_max = \"{}\" or more", defaults::size(least)),
            );
        }
        let workers = raw.workers.as_ref().map_or(0, |workers| workers.value);
        Daemon {
            data_dir: raw.data_dir.as_ref().and_then(|folder| self.data_dir(folder)),
            workers: NonZeroUsize::new(as_usize(workers)).unwrap_or_else(cores),
            max_event_bytes: as_usize(max_event_bytes),
            memory_max: as_usize(memory_max),
            ingest_bytes_max: as_usize(ingest_bytes_max),
            shutdown_timeout: self.interval(
                "daemon.shutdown_timeout",
                raw.shutdown_timeout.as_ref(),
                defaults::SHUTDOWN_TIMEOUT,
                Duration::ZERO..=24 * HOUR,
            ),
        }
    }

    fn data_dir(&mut self, folder: &At<String>) -> Option<PathBuf> {
        if folder.is_empty() || folder.contains("${") || folder.contains('\0') {
            self.report.error(
                &folder.span,
                "daemon.data_dir",
                "not a folder; environment variables can't be used here",
                "write a path such as \"/var/lib/consentd\"",
            );
            return None;
        }
        Some(PathBuf::from(&folder.value))
    }

    /// The log needs a folder, which is the usual one unless the config says otherwise.
    fn log(&mut self, raw: Option<&At<raw::Log>>, daemon: &mut Daemon) -> Option<Log> {
        let empty = raw::Log::default();
        let raw = raw.map_or(&empty, |raw| &raw.value);
        let every = self.interval(
            "log.sync_every",
            raw.sync_every.as_ref(),
            defaults::LOG_SYNC_EVERY,
            Duration::from_millis(10)..=HOUR,
        );
        let window = self.interval(
            "log.window",
            raw.window.as_ref(),
            defaults::LOG_WINDOW,
            Duration::ZERO..=Duration::from_secs(1),
        );
        // Segments are what is released; some must fit.
        let max_bytes = self.size(
            "log.max_bytes",
            raw.max_bytes.as_ref(),
            defaults::LOG_MAX_BYTES,
            LOG_SEGMENTS_MIN * u64::from(LOG_SEGMENT_BYTES)..=1 << 50,
        );
        let max_age = self.interval(
            "log.max_age",
            raw.max_age.as_ref(),
            defaults::LOG_MAX_AGE,
            Duration::from_secs(1)..=24 * 3650 * HOUR,
        );
        let free_space_min = self.size(
            "log.free_space_min",
            raw.free_space_min.as_ref(),
            defaults::LOG_FREE_SPACE_MIN,
            0..=1 << 50,
        );
        if raw.enabled.as_ref().is_some_and(|enabled| !enabled.value) {
            return None;
        }
        let data_dir = daemon.data_dir.get_or_insert_with(|| PathBuf::from(DATA_DIR));
        Some(Log {
            folder: data_dir.join("log"),
            sync: match raw.sync.as_ref().map(|sync| sync.value) {
                None | Some(raw::SyncMode::Commit) => LogSync::Commit,
                Some(raw::SyncMode::Interval) => LogSync::Interval(every),
                Some(raw::SyncMode::Off) => LogSync::Off,
            },
            window,
            max_bytes,
            max_age,
            drop_oldest: match raw.when_full.as_ref().map(|full| full.value) {
                None | Some(raw::LogWhenFull::Block) => false,
                Some(raw::LogWhenFull::DropOldest) => true,
            },
            free_space_min,
        })
    }

    /// They are beside the log, and there only where it is.
    fn dead_letters(
        &mut self,
        raw: Option<&At<raw::DeadLetters>>,
        log: Option<&Log>,
        daemon: &Daemon,
    ) -> Option<DeadLetters> {
        let empty = raw::DeadLetters::default();
        let span = raw.map_or(0..0, |raw| raw.span.clone());
        if raw.is_some() && log.is_none() {
            self.report.error(
                &span,
                "dead_letters",
                "dead letters are kept only where there is a log, and it is switched off",
                "take the section out, or `enabled = false` out of [log]",
            );
        }
        let raw = raw.map_or(&empty, |raw| &raw.value);
        let max_bytes = self.size(
            "dead_letters.max_bytes",
            raw.max_bytes.as_ref(),
            defaults::DEAD_LETTERS_MAX_BYTES,
            16 << 20..=1 << 50,
        );
        // The largest event must fit the share of either kind.
        let least = daemon.max_event_bytes as u64 * 4;
        if max_bytes < least {
            let span = raw.max_bytes.as_ref().map_or(span, |given| given.span.clone());
            self.report.error(
                &span,
                "dead_letters.max_bytes",
                "less than four times daemon.max_event_bytes",
                format!("write \"{}\" or more", defaults::size(least)),
            );
        }
        let max_age = self.interval(
            "dead_letters.max_age",
            raw.max_age.as_ref(),
            defaults::DEAD_LETTERS_MAX_AGE,
            Duration::from_secs(1)..=24 * 3650 * HOUR,
        );
        Some(DeadLetters {
            folder: log?.folder.with_file_name("dead-letters"),
            rejected_on_ingest: raw.rejected_on_ingest.as_ref().is_some_and(|it| it.value),
            max_bytes,
            max_age,
        })
    }

    fn admin(&mut self, raw: Option<&At<raw::Admin>>) -> Admin {
        let default = Admin::DEFAULT;
        let given = raw.and_then(|raw| raw.listen.as_ref());
        let span = given.map_or(0..0, |given| given.span.clone());
        let listen = match given {
            None => Some(default),
            Some(given) => self.address(given, "admin.listen"),
        };
        if let Some(address) = listen {
            self.listens(address, &span, "admin.listen");
            if !address.ip().is_loopback() {
                self.report.warn(
                    &span,
                    "admin.listen",
                    "whoever reaches this address can read the metrics and ask for reloads and erasures",
                    format!("write listen = \"{}\" to keep it local", Admin::DEFAULT),
                );
            }
        }
        Admin { listen: listen.unwrap_or(default) }
    }

    fn consent(&mut self, raw: Option<&At<raw::Consent>>) -> Consent {
        let empty = raw::Consent::default();
        let span = raw.map_or(0..0, |raw| raw.span.clone());
        let raw = raw.map_or(&empty, |raw| &raw.value);
        if raw.missing.is_none() && !self.report.is_spoilt("consent") {
            self.missing(
                &span,
                "consent.missing",
                "must say what happens to events without a consent object; there is no default",
                "write missing = \"allow\" in [consent] and they go to every destination as if their \
                 users had agreed, or missing = \"deny\" and they go only where no consent is needed",
            );
        }
        Consent {
            missing: missing(raw.missing.as_ref()).unwrap_or(Missing::Deny),
            unmapped: match raw.unmapped.as_ref().map(|unmapped| unmapped.value) {
                None | Some(raw::Unmapped::Allow) => Unmapped::Allow,
                Some(raw::Unmapped::Deny) => Unmapped::Deny,
            },
            locations: self.locations(raw.locations.as_ref()),
        }
    }

    fn locations(&mut self, raw: Option<&At<Vec<At<String>>>>) -> Vec<String> {
        const KEY: &str = "consent.locations";
        let Some(raw) = raw else {
            return defaults::LOCATIONS.map(str::to_owned).into();
        };
        let pointers: Vec<String> = raw.iter().map(|pointer| pointer.value.clone()).collect();
        match Locations::new(&pointers) {
            Ok(_) => {}
            Err(LocationError::Count(count)) => self.report.error(
                &raw.span,
                KEY,
                format!("{count} locations"),
                format!("write 1 to {MAX_LOCATIONS}, or take the key out for the default"),
            ),
            Err(LocationError::Form(at)) => self.report.error(
                &raw[at].span,
                &format!("{KEY}[{at}]"),
                "not a place below /context",
                "write \"/context/KEY\" or \"/context/KEY/KEY\"",
            ),
            Err(LocationError::Overlap(at)) => self.report.error(
                &raw[at].span,
                &format!("{KEY}[{at}]"),
                "the same place as an earlier location, or above or below one",
                "take it out",
            ),
        }
        pointers
    }

    fn categories(&mut self, raw: Option<&At<Vec<At<raw::Category>>>>) -> Vec<CategorySpec> {
        let mut specs = Vec::new();
        let mut lines: HashMap<&str, usize> = HashMap::new();
        for (position, category) in raw.iter().flat_map(|raw| raw.iter()).enumerate() {
            let key = format!("categories[{position}].id");
            if position == MAX_CATEGORIES {
                self.report.error(
                    &category.span,
                    "categories",
                    format!("more than {MAX_CATEGORIES} categories"),
                    "take out those that no destination uses",
                );
            }
            let Some(id) = &category.id else {
                self.missing(
                    &category.span,
                    &key,
                    "a category needs the ID that events use",
                    "write id = \"...\"",
                );
                self.names.some_category_has_no_id = true;
                continue;
            };
            self.category_id(id, &key);
            let (line, _) = self.report.place(id.span.start);
            if let Some(first) = lines.insert(id, line) {
                self.report.error(
                    &id.span,
                    &key,
                    format!("the category `{}` is already defined on line {first}", id.value),
                    "take one out, or give it another ID",
                );
            }
            let enabled = category.enabled.as_ref().is_none_or(|enabled| enabled.value);
            if !enabled {
                self.report.warn(&category.span, &key, "this category is off", "");
            }
            self.names.categories.insert(id.value.clone(), enabled);
            self.names.category_ids.push(id.value.clone());
            specs.push(CategorySpec {
                id: id.value.clone(),
                name: category.name.as_ref().map_or(&id.value, |name| &name.value).clone(),
                enabled,
            });
        }
        specs
    }

    fn category_id(&mut self, id: &At<String>, key: &str) {
        let length = id.chars().count();
        let (message, help) = if !(1..=34).contains(&length) {
            ("not 1 to 34 characters long", "write a shorter ID; `name` can be longer")
        } else if id.starts_with(|first: char| first.is_ascii_digit()) {
            ("an ID can't start with a digit", "put a letter in front")
        } else {
            return;
        };
        let help = if length == 0 { "write the ID that events use" } else { help };
        self.report.error(&id.span, key, message, help);
    }

    /// Warns of categories that no destination names.
    fn unused_categories(
        &mut self,
        raw: Option<&At<Vec<At<raw::Category>>>>,
        destinations: &[Destination],
    ) {
        let used: HashSet<&String> =
            destinations.iter().flat_map(|destination| &destination.route.categories).collect();
        for (position, category) in raw.iter().flat_map(|raw| raw.iter()).enumerate() {
            if let Some(id) = category.id.as_ref().filter(|id| !used.contains(&id.value)) {
                let key = format!("categories[{position}].id");
                let message = format!("no destination uses the category `{}`", id.value);
                self.report.warn(&id.span, &key, message, "");
            }
        }
    }

    /// Reports a name that refers to nothing.
    fn dangling(&mut self, name: &At<String>, key: &str, kind: &str, known: &[String]) {
        let known = || known.iter().map(String::as_str);
        let plural = if kind == "category" { "[[categories]]" } else { kind };
        let message = format!("there is no {kind} `{}`", super::structure::shown(name));
        let help = match suggest::closest(name, known()) {
            Some(guess) => format!("did you mean `{guess}`?"),
            None => match suggest::list(known()) {
                Some(all) => format!("write one of {all}, or define it"),
                None => format!("define it: the config has no {plural} at all"),
            },
        };
        self.report.error(&name.span, key, message, help);
    }

    /// Reports a key that must be there, unless it is there and wrong.
    fn missing(&mut self, span: &Range<usize>, key: &str, message: &str, help: &str) {
        if !self.report.is_spoilt(key) {
            self.report.error(span, key, message, help);
        }
    }
}

fn missing(raw: Option<&At<raw::Missing>>) -> Option<Missing> {
    raw.map(|missing| match missing.value {
        raw::Missing::Allow => Missing::Allow,
        raw::Missing::Deny => Missing::Deny,
    })
}

fn cores() -> NonZeroUsize {
    std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN)
}

fn as_usize(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}
