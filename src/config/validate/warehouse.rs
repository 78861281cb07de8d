//! `[warehouses.NAME]`

use std::path::PathBuf;

use super::Check;
use crate::config::models::Warehouse;
use crate::config::raw::{self, At, Named};
use crate::config::structure::join;
use crate::config::text::Form;

impl Check<'_, '_> {
    pub(super) fn warehouses(&mut self, raw: Option<&At<Named<raw::Warehouse>>>) -> Vec<Warehouse> {
        let entries = raw.map_or(&[][..], |raw| &raw.0);
        self.names.warehouses = entries.iter().map(|(name, _)| name.value.clone()).collect();
        entries.iter().filter_map(|(name, raw)| self.warehouse(name, raw)).collect()
    }

    fn warehouse(&mut self, name: &At<String>, raw: &raw::Warehouse) -> Option<Warehouse> {
        let path = join("warehouses", name);
        let key = |key: &str| format!("{path}.{key}");
        self.name(name, &path);
        let help =
            "write driver = \"sqlite\" or the name of an ADBC driver, such as \"postgresql\"";
        let driver = self.required_text(raw.driver.as_ref(), name, &key("driver"), help);
        let file = raw.path.as_ref().map(|given| {
            if given.is_empty() || given.contains('\0') {
                let help = "write the path of the driver's shared library";
                self.report.error(&given.span, &key("path"), "not the path of a file", help);
            }
            PathBuf::from(&given.value)
        });
        let uri = raw.uri.as_ref().and_then(|uri| self.secret(uri, &key("uri"), Form::Option));
        let mut options = Vec::new();
        for (option, value) in raw.options.iter().flat_map(|options| &options.0) {
            let key = join(&key("options"), option);
            if option.value == "uri" && raw.uri.is_some() {
                let help = "take it out of `options`";
                self.report.error(&option.span, &key, "`uri` stands here twice", help);
            }
            if let Some(value) = self.secret(value, &key, Form::Option) {
                options.push((option.value.clone(), value));
            }
        }
        let driver = driver?;
        if driver == "sqlite" && file.is_none() {
            self.embedded(name, raw, &path);
        }
        Some(Warehouse {
            name: name.value.clone(),
            driver,
            path: file,
            entrypoint: raw.entrypoint.as_ref().map(|given| given.value.clone()),
            uri,
            options,
        })
    }

    /// The engine that is built in needs a file and knows no options.
    fn embedded(&mut self, name: &At<String>, raw: &raw::Warehouse, path: &str) {
        if raw.uri.is_none() {
            self.missing(
                &name.span,
                &format!("{path}.uri"),
                "the built-in SQLite needs the path of a database",
                "write uri = \"customers.sqlite\"",
            );
        }
        let options = raw.options.as_ref().map(|options| (&options.span, "options"));
        let entrypoint = raw.entrypoint.as_ref().map(|given| (&given.span, "entrypoint"));
        for (span, key) in options.into_iter().chain(entrypoint) {
            let message = "the built-in SQLite does not have it";
            let help = "take it out, or name the library of another driver as `path`";
            self.report.error(span, &format!("{path}.{key}"), message, help);
        }
    }

    /// A string that must be there and hold something.
    pub(super) fn required_text(
        &mut self,
        given: Option<&At<String>>,
        owner: &At<String>,
        key: &str,
        help: &str,
    ) -> Option<String> {
        match given {
            None => self.missing(&owner.span, key, "must be there", help),
            Some(text) if text.trim().is_empty() || text.contains('\0') => {
                self.report.error(&text.span, key, "empty", help);
            }
            Some(text) => return Some(text.value.clone()),
        }
        None
    }
}
