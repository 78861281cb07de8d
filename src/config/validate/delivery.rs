//! `[destinations.NAME]`: where its events go, and what happens when they can't.

use std::num::{NonZeroU32, NonZeroUsize};
use std::time::Duration;

use super::{Check, HOUR, as_usize};
use crate::config::form;
use crate::config::model::{
    BatchLimits, Compression, Delivery, Format, Output, Retry, Rotate, WhenFull,
};
use crate::config::raw::{self, At, DestinationType, Named, SecretValue, defaults};
use crate::config::structure::join;
use crate::config::text::{Form, Secret, Text};

const MILLISECOND: Duration = Duration::from_millis(1);

impl Check<'_, '_> {
    /// `None` only after an error was reported.
    pub(super) fn delivery(
        &mut self,
        name: &At<String>,
        raw: &raw::Destination,
        default_buffer: u64,
    ) -> Option<Delivery> {
        let path = join("destinations", name);
        let range = defaults::BUFFER_MIN..=1 << 50;
        let buffer =
            self.size(&format!("{path}.buffer"), raw.buffer.as_ref(), default_buffer, range);
        let when_full = match raw.when_full.as_ref().map(|given| given.value) {
            None | Some(raw::WhenFull::Block) => WhenFull::Block,
            Some(raw::WhenFull::DropNewest) => WhenFull::DropNewest,
        };
        let batch = self.batch(raw.batch.as_ref(), &path, buffer);
        let retry = self.retry(raw.retry.as_ref(), &path);
        let output = self.output(name, raw, &path)?;
        Some(Delivery { output, buffer: as_usize(buffer), when_full, batch, retry })
    }

    fn batch(&mut self, raw: Option<&At<raw::Batch>>, path: &str, buffer: u64) -> BatchLimits {
        let empty = raw::Batch::default();
        let raw = raw.map_or(&empty, |raw| &raw.value);
        let key = format!("{path}.batch.max_bytes");
        let default = defaults::BATCH_MAX_BYTES.min(buffer);
        let max_bytes = self.size(&key, raw.max_bytes.as_ref(), default, 1..=1 << 50);
        if let Some(given) = raw.max_bytes.as_ref().filter(|_| max_bytes > buffer) {
            let message = format!("more than `buffer`, which is {}", defaults::size(buffer));
            let help = "write a smaller value, or a larger `buffer`";
            self.report.error(&given.span, &key, message, help);
        }
        let max_events = raw.max_events.as_ref();
        let max_events = max_events.map_or(defaults::BATCH_MAX_EVENTS, |given| given.value);
        BatchLimits {
            max_bytes: as_usize(max_bytes),
            max_events: u32::try_from(max_events)
                .ok()
                .and_then(NonZeroU32::new)
                .unwrap_or(NonZeroU32::MIN),
            max_wait: self.interval(
                &format!("{path}.batch.max_wait"),
                raw.max_wait.as_ref(),
                defaults::BATCH_MAX_WAIT,
                MILLISECOND..=HOUR,
            ),
        }
    }

    fn retry(&mut self, raw: Option<&At<raw::Retry>>, path: &str) -> Retry {
        let empty = raw::Retry::default();
        let raw = raw.map_or(&empty, |raw| &raw.value);
        let max_key = format!("{path}.retry.max");
        let initial = self.interval(
            &format!("{path}.retry.initial"),
            raw.initial.as_ref(),
            defaults::RETRY_INITIAL,
            MILLISECOND..=HOUR,
        );
        let max =
            self.interval(&max_key, raw.max.as_ref(), defaults::RETRY_MAX, MILLISECOND..=24 * HOUR);
        if let Some(given) = raw.max.as_ref().or(raw.initial.as_ref()).filter(|_| max < initial) {
            let message =
                format!("the longest wait is shorter than the first, {}", defaults::time(initial));
            let help = format!("write max = \"{}\" or more", defaults::time(initial));
            self.report.error(&given.span, &max_key, message, help);
        }
        Retry {
            initial,
            max,
            give_up_after: self.interval(
                &format!("{path}.retry.give_up_after"),
                raw.give_up_after.as_ref(),
                defaults::GIVE_UP_AFTER,
                Duration::ZERO..=365 * 24 * HOUR,
            ),
        }
    }

    fn output(&mut self, name: &At<String>, raw: &raw::Destination, path: &str) -> Option<Output> {
        let key = |key: &str| format!("{path}.{key}");
        let timeout = match raw.kind.as_ref().map(|kind| kind.value) {
            Some(DestinationType::Tcp) => defaults::TCP_TIMEOUT,
            _ => defaults::HTTP_TIMEOUT,
        };
        let timeout =
            self.interval(&key("timeout"), raw.timeout.as_ref(), timeout, MILLISECOND..=HOUR);
        let rotate = self.rotate(raw.rotate.as_ref(), path);
        let headers = self.headers(raw.headers.as_ref(), &key("headers"));
        let compression = compression(raw.compression.as_ref());
        let Some(kind) = &raw.kind else {
            self.missing(
                &name.span,
                &key("type"),
                "a destination needs a type",
                "write type = \"http\", \"tcp\", \"file\", \"stdout\" or \"blackhole\"",
            );
            return None;
        };
        let mut text =
            |given: &Option<At<String>>, name_of_key: &str, form: Form, example: &str| {
                self.text(given.as_ref(), name, &key(name_of_key), form, example)
            };
        Some(match kind.value {
            DestinationType::Http => Output::Http {
                url: text(&raw.url, "url", Form::Url, "https://collect.example.com/events")?,
                headers,
                format: match raw.format.as_ref().map(|format| format.value) {
                    None | Some(raw::Format::Ndjson) => Format::Ndjson,
                    Some(raw::Format::JsonArray) => Format::JsonArray,
                    Some(raw::Format::SegmentBatch) => Format::SegmentBatch,
                },
                compression,
                concurrency: raw
                    .concurrency
                    .as_ref()
                    .map_or(defaults::CONCURRENCY, |given| given.value)
                    .try_into()
                    .ok()
                    .and_then(NonZeroUsize::new)?,
                timeout,
            },
            DestinationType::Tcp => Output::Tcp {
                address: text(&raw.address, "address", Form::Address, "logs.example.com:9000")?,
                timeout,
            },
            DestinationType::File => Output::File {
                path: text(&raw.path, "path", Form::FilePath, "out/lake-%Y%m%d.ndjson")?,
                rotate,
                compression,
            },
            DestinationType::Stdout => Output::Stdout,
            DestinationType::Blackhole => Output::Blackhole,
        })
    }

    /// A string that the type of the destination needs.
    fn text(
        &mut self,
        given: Option<&At<String>>,
        owner: &At<String>,
        key: &str,
        form: Form,
        example: &str,
    ) -> Option<Text> {
        let Some(given) = given else {
            let name = key.rsplit('.').next().unwrap_or(key);
            let message = format!("this type of destination needs `{name}`");
            let help = format!("write {name} = \"{example}\"");
            self.missing(&owner.span, key, &message, &help);
            return None;
        };
        match Text::new(key.to_owned(), given, form) {
            Ok(text) => Some(text),
            Err(wrong) => {
                self.wrong(&given.span, key, wrong);
                None
            }
        }
    }

    fn headers(
        &mut self,
        raw: Option<&At<Named<At<SecretValue>>>>,
        path: &str,
    ) -> Vec<(String, Secret)> {
        let mut headers: Vec<(String, Secret)> = Vec::new();
        for (name, value) in raw.iter().flat_map(|raw| &raw.0) {
            let key = join(path, name);
            if let Err(wrong) = form::header_name(name) {
                self.wrong(&name.span, &key, wrong);
            }
            if headers.iter().any(|(other, _)| other.eq_ignore_ascii_case(name)) {
                let message = "this header field stands here twice";
                self.report.error(&name.span, &key, message, "take one out");
            }
            if let Some(secret) = self.secret(value, &key, Form::HeaderValue) {
                headers.push((name.value.clone(), secret));
            }
        }
        headers
    }

    fn rotate(&mut self, raw: Option<&At<raw::Rotate>>, path: &str) -> Rotate {
        let (max_bytes, every) =
            raw.map_or((None, None), |raw| (raw.max_bytes.as_ref(), raw.every.as_ref()));
        let bytes_key = format!("{path}.rotate.max_bytes");
        let every_key = format!("{path}.rotate.every");
        let second = Duration::from_secs(1);
        Rotate {
            max_bytes: max_bytes.map(|given| self.size(&bytes_key, Some(given), 1, 1..=1 << 50)),
            every: every.map(|given| {
                self.interval(&every_key, Some(given), second, second..=365 * 24 * HOUR)
            }),
        }
    }
}

fn compression(given: Option<&At<raw::Compression>>) -> Compression {
    match given.map(|given| given.value) {
        None | Some(raw::Compression::None) => Compression::None,
        Some(raw::Compression::Gzip) => Compression::Gzip,
        Some(raw::Compression::Zstd) => Compression::Zstd,
    }
}
