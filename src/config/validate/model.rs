//! `[models.NAME]`

use std::path::Path;
use std::time::Duration;

use croner::parser::{CronParser, Seconds};

use super::template::segments;
use super::{Check, HOUR, as_usize};
use crate::config::model::Consent;
use crate::config::models::{
    ConsentCast, Model, ModelConsent, ModelLimits, Nulls, OnWithdrawal, Query, Schedule, Send,
    StateIn, Template, Warehouse, query_problem,
};
use crate::config::raw::{self, At, Change, ConsentColumns, Named, defaults};
use crate::config::structure::{join, shown};

/// A model's name is part of file names.
const NAME_MAX_CHARS: usize = 64;

impl Check<'_, '_> {
    pub(super) fn models(
        &mut self,
        raw: Option<&At<Named<raw::Model>>>,
        warehouses: &[Warehouse],
        consent: &Consent,
        folder: &Path,
    ) -> Vec<Model> {
        let entries = raw.map_or(&[][..], |raw| &raw.0);
        if let Some(raw) = raw.filter(|raw| !raw.0.is_empty() && !self.has_log) {
            self.report.error(
                &raw.span,
                "models",
                "rows are sent only where there is a log, and it is switched off",
                "take `enabled = false` out of [log]",
            );
        }
        let models = entries
            .iter()
            .filter_map(|(name, raw)| self.model(name, raw, warehouses, consent, folder));
        models.collect()
    }

    fn model(
        &mut self,
        name: &At<String>,
        raw: &raw::Model,
        warehouses: &[Warehouse],
        consent: &Consent,
        folder: &Path,
    ) -> Option<Model> {
        let path = join("models", name);
        let key = |key: &str| format!("{path}.{key}");
        self.model_name(name, &path);
        let warehouse = self.warehouse_of(name, raw, &key("warehouse"));
        let limits = self.limits(raw.limits.as_ref(), &key("limits"));
        let query = self.query(name, raw, &path, &limits, folder);
        let help = "name the column that tells rows apart: unique_id = \"id\"";
        let unique_id = self.required_text(raw.unique_id.as_ref(), name, &key("unique_id"), help);
        let columns = self.consent_columns(name, raw.consent.as_ref(), &key("consent"));
        let cast = raw.consent_cast.as_ref();
        if let (Some(cast), Some(ModelConsent::None)) = (cast, &columns) {
            let message = "has no effect with consent = \"none\"";
            self.report.warn(&cast.span, &key("consent_cast"), message, "take it out");
        }
        let schedule = self.schedule(raw, &path);
        let retry_for = self.interval(
            &key("retry_for"),
            raw.retry_for.as_ref(),
            defaults::RETRY_FOR,
            Duration::ZERO..=24 * 365 * HOUR,
        );
        let track_columns =
            raw.track_columns.as_ref().map(|list| self.strings(list, &key("track_columns")));
        let event =
            raw.event.as_ref().map(|event| self.template(event, &key("event"), &consent.locations));
        if event.is_none() {
            let help = "write event = { type = \"identify\", userId = \"$id\", traits = { ... } }";
            self.missing(&name.span, &key("event"), "a model needs the event of a row", help);
        }
        let deletion = raw.deletion.as_ref().map(|raw| {
            self.only_the_id(raw, &key("deletion"), unique_id.as_deref().unwrap_or_default());
            self.template(raw, &key("deletion"), &consent.locations)
        });
        let destinations = raw
            .destinations
            .as_ref()
            .map(|names| self.model_destinations(names, &key("destinations")));
        let send = self.send(raw.send.as_ref(), &key("send"));
        let its_warehouse = raw
            .warehouse
            .as_ref()
            .and_then(|name| warehouses.iter().find(|warehouse| warehouse.name == name.value));
        let state = self.state(raw.state.as_ref(), its_warehouse, &key("state"));
        let (event, unique_id) = (event?, unique_id?);
        Some(Model {
            name: name.value.clone(),
            warehouse: warehouse?,
            query: query?,
            consent: columns?,
            consent_cast: match cast.map(|cast| cast.value) {
                None | Some(raw::ConsentCast::Strict) => ConsentCast::Strict,
                Some(raw::ConsentCast::Lenient) => ConsentCast::Lenient,
            },
            consent_location: consent.locations.first().map(|at| segments(at)).unwrap_or_default(),
            schedule,
            send,
            track_columns,
            deletion: deletion.unwrap_or_else(|| default_deletion(&event, &unique_id)),
            event,
            unique_id,
            destinations,
            on_withdrawal: match raw.on_withdrawal.as_ref().map(|given| given.value) {
                None | Some(raw::OnWithdrawal::Ignore) => OnWithdrawal::Ignore,
                Some(raw::OnWithdrawal::Delete) => OnWithdrawal::Delete,
            },
            null_values: match raw.null_values.as_ref().map(|given| given.value) {
                None | Some(raw::NullValues::Send) => Nulls::Send,
                Some(raw::NullValues::Omit) => Nulls::Omit,
            },
            retry_syncs: raw
                .retry_syncs
                .as_ref()
                .map_or(defaults::RETRY_SYNCS, |given| given.value)
                .try_into()
                .unwrap_or(u32::MAX),
            retry_for,
            state,
            limits,
        })
    }

    fn model_name(&mut self, name: &At<String>, path: &str) {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        if name.is_empty() || name.len() > NAME_MAX_CHARS || !name.bytes().all(plain) {
            let message = "not possible as the name of a model, which is part of file names";
            let help = "write at most 64 letters, digits, `-` and `_`";
            self.report.error(&name.span, path, message, help);
        }
        if self.names.sources_before_models().contains(&name.value) {
            let message = format!("`{}` is a source already, and a model is one, too", shown(name));
            self.report.error(&name.span, path, message, "give one of them another name");
        }
    }

    fn warehouse_of(&mut self, name: &At<String>, raw: &raw::Model, key: &str) -> Option<usize> {
        let help = "write warehouse = \"NAME\" of a [warehouses.NAME]";
        self.required_text(raw.warehouse.as_ref(), name, key, help)?;
        let wanted = raw.warehouse.as_ref()?;
        let found = self.names.warehouses.iter().position(|known| *known == wanted.value);
        let spoilt = self.report.is_spoilt("warehouses")
            || self.report.is_spoilt(&join("warehouses", wanted));
        if found.is_none() && !spoilt {
            let known = self.names.warehouses.clone();
            self.dangling(wanted, key, "warehouse", &known);
        }
        found
    }

    fn query(
        &mut self,
        name: &At<String>,
        raw: &raw::Model,
        path: &str,
        limits: &ModelLimits,
        folder: &Path,
    ) -> Option<Query> {
        let (text_key, file_key) = (format!("{path}.query"), format!("{path}.query_file"));
        match (&raw.query, &raw.query_file) {
            (None, None) => {
                if !self.report.is_spoilt(&file_key) {
                    let help = "write query = \"select ...\" or query_file = \"customers.sql\"";
                    self.missing(&name.span, &text_key, "a model needs a query", help);
                }
                None
            }
            (Some(_), Some(file)) => {
                let message = "the query stands in `query`, too";
                self.report.error(&file.span, &file_key, message, "take one of them out");
                None
            }
            (Some(text), None) => {
                if let Some(problem) = query_problem(text, limits.query_chars) {
                    let help = "write a shorter one, or put parts of it into views";
                    self.report.error(&text.span, &text_key, problem, help);
                }
                Some(Query::Text(text.value.clone()))
            }
            (None, Some(file)) => {
                if file.is_empty() || file.contains('\0') || file.contains("${") {
                    let help = "write a path such as query_file = \"customers.sql\"";
                    self.report.error(&file.span, &file_key, "not the path of a file", help);
                }
                Some(Query::File(folder.join(&file.value)))
            }
        }
    }

    fn consent_columns(
        &mut self,
        name: &At<String>,
        raw: Option<&At<ConsentColumns>>,
        key: &str,
    ) -> Option<ModelConsent> {
        const HELP: &str = "write consent = { CATEGORY = \"column\" }, or consent = \"none\" where \
                            rows carry no consent and consent.missing is to decide";
        let Some(raw) = raw else {
            let message = "must say which columns hold the consent; there is no default";
            self.missing(&name.span, key, message, HELP);
            return None;
        };
        let columns = match &raw.value {
            ConsentColumns::None => return Some(ModelConsent::None),
            ConsentColumns::Columns(columns) => columns,
        };
        if columns.is_empty() {
            self.report.error(&raw.span, key, "no category is mapped", HELP);
            return None;
        }
        for (category, column) in columns {
            let key = join(key, category);
            if !self.names.categories.contains_key(&category.value) && !self.categories_unclear() {
                let known = self.names.category_ids.clone();
                self.dangling(category, &key, "category", &known);
            }
            if column.is_empty() {
                let help = "write the name of a column";
                self.report.error(&column.span, &key, "not the name of a column", help);
            }
        }
        let pairs = columns.iter().map(|(id, column)| (id.value.clone(), column.value.clone()));
        Some(ModelConsent::Columns(pairs.collect()))
    }

    fn schedule(&mut self, raw: &raw::Model, path: &str) -> Schedule {
        let every = raw.every.as_ref().map(|_| {
            let range = Duration::from_secs(1)..=24 * 365 * HOUR;
            self.interval(&format!("{path}.every"), raw.every.as_ref(), HOUR, range)
        });
        let Some(cron) = &raw.cron else { return every.map_or(Schedule::ByHand, Schedule::Every) };
        let key = format!("{path}.cron");
        if every.is_some() {
            let help = "take one of them out";
            self.report.error(&cron.span, &key, "`every` says when, too", help);
        }
        let parser = CronParser::builder().seconds(Seconds::Disallowed).build();
        if let Err(error) = parser.parse(cron) {
            let help = "write minute, hour, day of the month, month and day of the week, such as \
                        \"0 6 * * mon-fri\"";
            self.report.error(&cron.span, &key, format!("not a schedule: {error}"), help);
        }
        Schedule::Cron(cron.value.clone())
    }

    fn model_destinations(&mut self, names: &At<Vec<At<String>>>, key: &str) -> Vec<String> {
        for (at, name) in names.iter().enumerate() {
            self.destination_exists(name, &format!("{key}[{at}]"));
        }
        if names.is_empty() {
            let help = "name a destination, or take the key out for all destinations";
            self.report.warn(&names.span, key, "rows go nowhere", help);
        }
        self.strings(names, key)
    }

    fn send(&mut self, raw: Option<&At<Vec<At<Change>>>>, key: &str) -> Send {
        let Some(raw) = raw else { return Send { added: true, updated: true, deleted: false } };
        if raw.is_empty() {
            let help = "write send = [\"added\", \"updated\"]";
            self.report.error(&raw.span, key, "no change is sent", help);
        }
        let has = |change: Change| raw.iter().any(|given| given.value == change);
        Send {
            added: has(Change::Added),
            updated: has(Change::Updated),
            deleted: has(Change::Deleted),
        }
    }

    fn state(
        &mut self,
        raw: Option<&At<raw::StateIn>>,
        warehouse: Option<&Warehouse>,
        key: &str,
    ) -> StateIn {
        let Some(raw) = raw else { return StateIn::Local };
        match raw.value {
            raw::StateIn::Local => StateIn::Local,
            raw::StateIn::Warehouse => {
                if let Some(warehouse) = warehouse.filter(|warehouse| !warehouse.can_keep_state()) {
                    let message = format!(
                        "can't be kept in a warehouse with the driver `{}`: it can in SQLite (built in), \
                         PostgreSQL and DuckDB",
                        shown(&warehouse.driver)
                    );
                    let help = "write state = \"local\", or take the key out";
                    self.report.error(&raw.span, key, message, help);
                }
                StateIn::Warehouse
            }
        }
    }

    fn limits(&mut self, raw: Option<&At<raw::Limits>>, key: &str) -> ModelLimits {
        let empty = raw::Limits::default();
        let raw = raw.map_or(&empty, |raw| &raw.value);
        let number = |given: &Option<At<u64>>, default: u64| {
            given.as_ref().map_or(default, |given| given.value)
        };
        ModelLimits {
            query_chars: as_usize(number(&raw.query_chars, defaults::QUERY_CHARS)),
            columns: as_usize(number(&raw.columns, defaults::COLUMNS)),
            row_bytes: as_usize(self.size(
                &format!("{key}.row_bytes"),
                raw.row_bytes.as_ref(),
                defaults::ROW_BYTES,
                64..=256 << 20,
            )),
            rows: number(&raw.rows, defaults::ROWS),
        }
    }
}

/// `type = "delete"`, and the fields at the top of the event that are the id.
fn default_deletion(event: &[(String, Template)], unique_id: &str) -> Vec<(String, Template)> {
    let id = Template::Column(unique_id.to_owned());
    let mut deletion = vec![("type".to_owned(), Template::Text("delete".to_owned()))];
    deletion.extend(event.iter().filter(|(name, part)| name != "type" && *part == id).cloned());
    if deletion.len() == 1 {
        deletion.push(("userId".to_owned(), id));
    }
    deletion
}
