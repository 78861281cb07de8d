//! Models and destinations together: rows that no destination can receive are odd.

use super::Check;
use crate::config::model::Destination;
use crate::config::models::{Model, ModelConsent, OnWithdrawal, Template};
use crate::config::raw::{self, At, Named};
use crate::config::structure::{join, shown};
use crate::route::Match;

impl Check<'_, '_> {
    /// Warns where rows, or deletions, can't reach a destination that is meant to receive them.
    pub(super) fn reach(
        &mut self,
        raw: Option<&At<Named<raw::Model>>>,
        models: &[Model],
        destinations: &[Destination],
    ) {
        let entries = raw.map_or(&[][..], |raw| &raw.0);
        for ((name, raw), model) in entries.iter().zip(models) {
            let path = join("models", name);
            let reached: Vec<&Destination> =
                destinations.iter().filter(|destination| reaches(model, destination)).collect();
            if let (ModelConsent::Columns(columns), Some(consent)) = (&model.consent, &raw.consent)
            {
                for destination in &reached {
                    let mapped = |id: &String| columns.iter().any(|(category, _)| category == id);
                    self.unmapped(&consent.span, &path, destination, mapped);
                }
            }
            let deletes = model.send.deleted || model.on_withdrawal == OnWithdrawal::Delete;
            for destination in reached.iter().filter(|_| deletes) {
                let key = if model.send.deleted { "send" } else { "on_withdrawal" };
                let given = raw.send.as_ref().filter(|_| model.send.deleted).map(|it| &it.span);
                let span = given.or(raw.on_withdrawal.as_ref().map(|it| &it.span));
                let span = span.unwrap_or(&name.span);
                self.deletion_type(span, &format!("{path}.{key}"), model, destination);
            }
        }
    }

    fn unmapped(
        &mut self,
        span: &std::ops::Range<usize>,
        path: &str,
        destination: &Destination,
        mapped: impl Fn(&String) -> bool,
    ) {
        let rules = &destination.route;
        let on = |id: &&String| self.names.categories.get(*id).is_some_and(|&on| on);
        let needed: Vec<&String> = rules.categories.iter().filter(on).collect();
        let unmapped = needed.iter().find(|id| !mapped(id));
        let closed = match rules.match_mode {
            Match::All => unmapped.is_some(),
            Match::Any => !needed.is_empty() && !needed.iter().any(|id| mapped(id)),
        };
        let (true, Some(id)) = (rules.enforce && closed, unmapped) else { return };
        let message = format!(
            "no data will reach `{}`: it needs the category `{}`, which is not mapped to a column",
            shown(&rules.name),
            shown(id)
        );
        let help = format!("write consent = {{ {} = \"column\" }} beside the others", join("", id));
        self.report.warn(span, &format!("{path}.consent"), message, help);
    }

    fn deletion_type(
        &mut self,
        span: &std::ops::Range<usize>,
        key: &str,
        model: &Model,
        destination: &Destination,
    ) {
        let kind = model.deletion.iter().find(|(name, _)| name == "type");
        let kind = match kind.map(|(_, part)| part) {
            Some(Template::Text(kind)) => Some(kind),
            _ => None,
        };
        let takes = |types: &Vec<String>| kind.is_some_and(|kind| types.contains(kind));
        if destination.route.types.as_ref().is_none_or(takes) {
            return;
        }
        let name = shown(&destination.route.name);
        let kind = kind.map_or_else(String::new, |kind| format!(" (type `{}`)", shown(kind)));
        let message =
            format!("no deletion will reach `{name}`: its `types` leave out the deletion's{kind}");
        let help = "add the type to its `types`, or write `deletion` with another type";
        self.report.warn(span, key, message, help);
    }
}

/// Whether rows of the model may go to the destination at all.
fn reaches(model: &Model, destination: &Destination) -> bool {
    let rules = &destination.route;
    rules.enabled
        && model.destinations.as_ref().is_none_or(|names| names.contains(&rules.name))
        && rules.sources.as_ref().is_none_or(|sources| sources.contains(&model.name))
}
