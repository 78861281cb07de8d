//! `[[tests]]`

use super::Check;
use crate::config::model::{Expect, Test};
use crate::config::raw::{self, At, DropReason, Event, RejectReason};
use crate::config::structure::join;

impl Check<'_, '_> {
    pub(super) fn tests(&mut self, raw: Option<&At<Vec<At<raw::Test>>>>) -> Vec<Test> {
        let tests = raw.iter().flat_map(|raw| raw.iter()).enumerate();
        tests.filter_map(|(position, test)| self.test(position, test)).collect()
    }

    fn test(&mut self, position: usize, raw: &At<raw::Test>) -> Option<Test> {
        let key = |key: &str| format!("tests[{position}].{key}");
        if raw.name.is_none() {
            self.missing(&raw.span, &key("name"), "a test needs a name", "write name = \"...\"");
        }
        if raw.event.is_none() {
            self.missing(
                &raw.span,
                &key("event"),
                "a test needs an event",
                "write event = { ... } or event = '{\"type\":\"track\"}'",
            );
        }
        let event = raw.event.as_ref().and_then(|event| self.event(event, &key("event")));
        if let Some(source) = &raw.source
            && !self.names.sources.contains(&source.value)
        {
            let known = self.names.sources.clone();
            self.dangling(source, &key("source"), "source", &known);
        }
        let expect = self.expectation(raw, &key);
        Some(Test {
            name: raw.name.as_ref()?.value.clone(),
            event: event?,
            source: raw.source.as_ref().map(|source| source.value.clone()),
            expect: expect?,
        })
    }

    fn event(&mut self, event: &At<Event>, key: &str) -> Option<String> {
        let line = match &event.value {
            Event::Object(object) => return Some(object.to_string()),
            Event::Line(line) => line.strip_suffix('\n').unwrap_or(line),
        };
        if line.trim().is_empty() || line.contains('\n') {
            let help = "write the event on one line, or as a table";
            self.report.error(&event.span, key, "not one line", help);
            return None;
        }
        Some(line.to_owned())
    }

    fn expectation(
        &mut self,
        raw: &At<raw::Test>,
        key: &impl Fn(&str) -> String,
    ) -> Option<Expect> {
        let spoilt = ["deliver", "drop", "rejected"].map(|name| self.report.is_spoilt(&key(name)));
        match (&raw.deliver, &raw.drop, &raw.rejected) {
            (None, None, None) if spoilt.contains(&true) => None,
            (None, None, None) => {
                self.report.error(
                    &raw.span,
                    &format!("tests[{}]", key("").trim_matches(|c: char| !c.is_ascii_digit())),
                    "a test needs an expectation",
                    "write deliver = [\"DESTINATION\"], drop = { DESTINATION = \"consent\" } or \
                     rejected = \"invalid_json\"",
                );
                None
            }
            (None, None, Some(reason)) => Some(Expect::Rejected(reject_label(reason.value).into())),
            (_, _, Some(reason)) => {
                self.report.error(
                    &reason.span,
                    &key("rejected"),
                    "a rejected event is neither delivered nor dropped",
                    "take out either `rejected` or `deliver` and `drop`",
                );
                None
            }
            (deliver, drop, None) => {
                let deliver = deliver.as_ref().map(|deliver| {
                    for (position, name) in deliver.iter().enumerate() {
                        self.destination_exists(name, &format!("{}[{position}]", key("deliver")));
                    }
                    self.strings(deliver, &key("deliver"))
                });
                let mut drops = Vec::new();
                for (name, reason) in drop.iter().flat_map(|drop| &drop.0) {
                    self.destination_exists(name, &join(&key("drop"), name));
                    drops.push((name.value.clone(), drop_label(reason.value).to_owned()));
                }
                Some(Expect::Accepted { deliver, drop: drops })
            }
        }
    }

    pub(super) fn destination_exists(&mut self, name: &At<String>, key: &str) {
        let spoilt = self.report.is_spoilt("destinations")
            || self.report.is_spoilt(&join("destinations", name));
        if !spoilt && !self.names.destinations.contains(&name.value) {
            let known = self.names.destinations.clone();
            self.dangling(name, key, "destination", &known);
        }
    }
}

fn drop_label(reason: DropReason) -> &'static str {
    match reason {
        DropReason::Disabled => "disabled",
        DropReason::Source => "source",
        DropReason::Consent => "consent",
        DropReason::Integrations => "integrations",
        DropReason::Filtered => "filtered",
    }
}

fn reject_label(reason: RejectReason) -> &'static str {
    match reason {
        RejectReason::InvalidJson => "invalid_json",
        RejectReason::TooDeep => "too_deep",
        RejectReason::TooLarge => "too_large",
        RejectReason::DuplicateKey => "duplicate_key",
        RejectReason::PreferencesMissing => "preferences_missing",
        RejectReason::PreferencesInvalid => "preferences_invalid",
    }
}
