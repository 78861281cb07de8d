//! `[sources.NAME]`

use std::num::NonZeroUsize;
use std::time::Duration;

use super::{Check, HOUR, as_usize, missing};
use crate::config::model::{Input, Source};
use crate::config::raw::{self, At, Named, SourceType, defaults};
use crate::config::structure::join;

impl Check<'_, '_> {
    pub(super) fn sources(
        &mut self,
        raw: Option<&At<Named<raw::Source>>>,
        models: Option<&At<Named<raw::Model>>>,
    ) -> Vec<Source> {
        let entries = raw.map_or(&[][..], |raw| &raw.0);
        let models = models.map_or(&[][..], |models| &models.0);
        if entries.is_empty()
            && models.is_empty()
            && !self.report.is_spoilt("sources")
            && !self.report.is_spoilt("models")
        {
            let span = raw.map_or(0..0, |raw| raw.span.clone());
            let help = "write [sources.NAME] with type and listen";
            self.report.warn(&span, "sources", "there are no sources: no event comes in", help);
        }
        let names = entries.iter().map(|(name, _)| name).chain(models.iter().map(|(name, _)| name));
        self.names.sources = names.map(|name| name.value.clone()).collect();
        self.names.models = models.len();
        entries.iter().filter_map(|(name, source)| self.source(name, source)).collect()
    }

    fn source(&mut self, name: &At<String>, raw: &raw::Source) -> Option<Source> {
        let path = join("sources", name);
        let key = |key: &str| format!("{path}.{key}");
        self.name(name, &path);
        if raw.kind.is_none() {
            self.missing(
                &name.span,
                &key("type"),
                "a source needs a type",
                "write type = \"tcp\" or type = \"http\"",
            );
        }
        let listen = match &raw.listen {
            Some(listen) => {
                let address = self.address(listen, &key("listen"));
                if let Some(address) = address {
                    self.listens(address, &listen.span, &key("listen"));
                }
                address
            }
            // A source of another type may well have no address.
            None if self.report.is_spoilt(&key("type")) => None,
            None => {
                self.missing(
                    &name.span,
                    &key("listen"),
                    "a source needs an address to listen on",
                    "write an IP address and a port, such as listen = \"127.0.0.1:9601\"",
                );
                None
            }
        };
        let given = raw.max_connections.as_ref();
        let max_connections = given.map_or(defaults::MAX_CONNECTIONS, |given| given.value);
        let max_body_bytes = self.size(
            &key("max_body_bytes"),
            raw.max_body_bytes.as_ref(),
            defaults::MAX_BODY_BYTES,
            1..=1 << 40,
        );
        let request_timeout = self.interval(
            &key("request_timeout"),
            raw.request_timeout.as_ref(),
            defaults::REQUEST_TIMEOUT,
            Duration::from_millis(1)..=24 * HOUR,
        );
        let ack = raw.ack.as_ref().is_some_and(|ack| ack.value);
        if let Some(ack) = raw.ack.as_ref().filter(|ack| ack.value && !self.has_log) {
            self.report.error(
                &ack.span,
                &key("ack"),
                "without the log nothing is durable, so nothing can be acknowledged",
                "take it out, or take `enabled = false` out of [log]",
            );
        }
        let (kind, listen) = (raw.kind.as_ref()?.value, listen?);
        let max_connections = NonZeroUsize::new(as_usize(max_connections))?;
        Some(Source {
            name: name.value.clone(),
            missing: missing(raw.missing.as_ref()),
            input: match kind {
                SourceType::Tcp => Input::Tcp { listen, max_connections, ack },
                SourceType::Http => {
                    Input::Http { listen, max_connections, max_body_bytes, request_timeout }
                }
            },
        })
    }
}
