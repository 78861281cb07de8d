//! Parse, read the consent, decide: one line in, one decision out.

use super::decide::{Decision, Nature};
use super::memo::{Counted, Memo, Question};
use super::preferences;
use crate::parse::{Event, Node, Parser, RejectReason, Rejection, Value};
use crate::route::{BitSet, RoutingTable, SourceId};

/// Judges events. Holds what is reused from event to event; belongs to one thread.
///
/// A judge may be given another table at any line: what it remembers is for the last one, told
/// apart by its version.
#[derive(Debug)]
pub struct Judge {
    parser: Parser,
    memo: Memo,
    table_version: u64,
    off: BitSet,
    except: BitSet,
    max_event_bytes: usize,
}

/// What the source says about a line, beside the line.
#[derive(Clone, Copy, Debug)]
pub struct Address<'a> {
    /// What it is to the rules.
    pub nature: Nature,
    /// The only destinations (bits) that it may go to, if it is not for all.
    pub only: Option<&'a BitSet>,
}

impl Address<'_> {
    /// Any event.
    pub const EVENT: Self = Self { nature: Nature::Event, only: None };

    /// A line that was stored as `nature`; where it may go was stored with it.
    #[must_use]
    pub fn stored(nature: Nature) -> Self {
        Self { nature, only: None }
    }
}

impl Judge {
    /// A judge for `table` that rejects lines of more than `max_event_bytes`.
    #[must_use]
    pub fn new(table: &RoutingTable, max_event_bytes: usize) -> Self {
        Self {
            parser: Parser::new(),
            memo: Memo::new(table),
            table_version: table.version(),
            off: BitSet::new(table.destinations().len()),
            except: BitSet::new(table.destinations().len()),
            max_event_bytes,
        }
    }

    /// Longer lines are rejected.
    #[must_use]
    pub fn max_event_bytes(&self) -> usize {
        self.max_event_bytes
    }

    /// Makes the judge forget what belongs to another table. The counts that were not drained go to
    /// `each`.
    pub fn change_table(&mut self, table: &RoutingTable, each: impl FnMut(Counted<'_>)) {
        self.memo.drain(each);
        self.memo = Memo::new(table);
        self.off = BitSet::new(table.destinations().len());
        self.except = BitSet::new(table.destinations().len());
        self.table_version = table.version();
    }

    /// Judges `buffer[..len]`, one line without its line end, which arrived from `source`.
    ///
    /// The buffer has at least [`crate::parse::PADDING`] bytes behind the line; all of it has the
    /// same content afterwards. Every decision is counted; counts that must make room go to
    /// `evicted`, all others wait for [`Judge::drain`].
    ///
    /// # Errors
    /// [`Rejection`] where the line is not an event that may be decided on.
    #[inline]
    pub fn judge<'e>(
        &'e mut self,
        buffer: &'e mut [u8],
        len: usize,
        source: SourceId,
        table: &'e RoutingTable,
        evicted: impl FnMut(Counted<'_>),
    ) -> Result<Decision<'e>, Rejection> {
        self.judge_as(Address::EVENT, buffer, len, source, table, evicted)
    }

    /// As [`Judge::judge`], for a line of which its source, or the log, says more.
    ///
    /// # Errors
    /// As [`Judge::judge`]: a deletion must be an acceptable event, too.
    #[inline]
    pub fn judge_as<'e>(
        &'e mut self,
        address: Address<'_>,
        buffer: &'e mut [u8],
        len: usize,
        source: SourceId,
        table: &'e RoutingTable,
        mut evicted: impl FnMut(Counted<'_>),
    ) -> Result<Decision<'e>, Rejection> {
        if self.table_version != table.version() {
            self.change_table(table, &mut evicted);
        }
        if len > self.max_event_bytes {
            let detail = "longer than max_event_bytes";
            return Err(Rejection { reason: RejectReason::TooLarge, detail, at: None });
        }
        let event = self.parser.parse(buffer, len, table.locations())?;
        let reading = preferences::read(&event, table)?;
        let kind = table.type_slot(event.kind_spelled().as_ref());
        let question = match address.nature {
            Nature::Event => Question::new(reading.state, reading.update, kind, source),
            Nature::Deletion => Question::deletion(kind, source),
        };
        let answer = self.memo.answer(question, table, &mut evicted);
        let off = switch_off(&event, table, &mut self.off).then_some(&self.off);
        let except = match address.only {
            None => off,
            Some(only) => {
                self.except.fill_to(table.destinations().len());
                self.except.remove_all(only);
                off.into_iter().for_each(|off| self.except.insert_all(off));
                Some(&self.except)
            }
        };
        Ok(Decision {
            event,
            table,
            source,
            nature: address.nature,
            state: reading.state,
            unknown: reading.unknown,
            answer,
            off,
            except,
        })
    }

    /// Gives every answer that was given since the last drain, with its count.
    pub fn drain(&mut self, each: impl FnMut(Counted<'_>)) {
        self.memo.drain(each);
    }
}

/// Fills `off` with the destinations that the event's `integrations` switches off; whether there is
/// any.
///
/// `true` or an object means on, anything else off; a name that is absent follows `All`, which is
/// off only where it is the literal `false`.
#[inline]
fn switch_off(event: &Event<'_>, table: &RoutingTable, off: &mut BitSet) -> bool {
    let integrations = event.integrations();
    if !matches!(integrations, Node::Object { count: 1.., .. }) {
        return false;
    }
    let all_off = event
        .members(integrations)
        .any(|(name, value)| name.bytes == b"All" && matches!(value, Value::False));
    if all_off {
        off.fill_to(table.destinations().len());
    } else {
        off.clear();
    }
    let mut any = all_off;
    for (name, value) in event.members(integrations) {
        let on = match value {
            Value::True | Value::Object => true,
            Value::False | Value::Other => false,
        };
        if on == all_off {
            for destination in table.integration(&name) {
                if on {
                    off.remove(destination.0.into());
                } else {
                    off.insert(destination.0.into());
                    any = true;
                }
            }
        }
    }
    any
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::consent::{Outcome, Refusal};
    use crate::parse::PADDING;
    use crate::route::{
        CategorySpec, DestinationId, DestinationSpec, Match, Missing, SourceSpec, TableSpec,
        Unmapped,
    };

    fn destination(name: &str, categories: &[&str]) -> DestinationSpec {
        DestinationSpec {
            name: name.to_owned(),
            enabled: true,
            sources: None,
            enforce: true,
            categories: categories.iter().map(|id| (*id).to_owned()).collect(),
            match_mode: Match::All,
            integration: name.to_owned(),
            receives_preferences: false,
            types: None,
        }
    }

    /// Everything that can refuse, each at a destination of its own.
    fn table() -> RoutingTable {
        let off = DestinationSpec { enabled: false, ..destination("off", &["A"]) };
        let any = DestinationSpec { match_mode: Match::Any, ..destination("any", &["A"]) };
        let others = Some(vec!["web".to_owned()]);
        let elsewhere = DestinationSpec { sources: others, ..destination("elsewhere", &["A"]) };
        let tracks = Some(vec!["track".to_owned()]);
        let typed = DestinationSpec { types: tracks, ..destination("typed", &["A"]) };
        let all = destination("all", &["A"]);
        let (unmapped, switched) = (destination("unmapped", &[]), destination("switched", &["A"]));
        let source =
            |name: &str| SourceSpec { name: name.to_owned(), missing: Some(Missing::Deny) };
        let table = RoutingTable::compile(&TableSpec {
            version: 1,
            categories: vec![CategorySpec {
                id: "A".to_owned(),
                name: "A".to_owned(),
                enabled: true,
            }],
            locations: vec!["/context/consent/categoryPreferences".to_owned()],
            missing: Missing::Deny,
            unmapped: Unmapped::Deny,
            sources: vec![source("web"), source("rows")],
            destinations: vec![off, any, elsewhere, typed, all, unmapped, switched],
        });
        table.unwrap()
    }

    /// What becomes of a line of `rows`, per destination; and of everything that is counted.
    fn outcomes(line: &str, address: Address<'_>) -> Vec<&'static str> {
        let table = table();
        let mut judge = Judge::new(&table, 1000);
        let mut buffer = line.as_bytes().to_vec();
        buffer.resize(line.len() + PADDING, 0);
        let judged = judge.judge_as(address, &mut buffer, line.len(), SourceId(1), &table, |_| {});
        let decision = judged.unwrap();
        let told = |number| match decision.outcome(DestinationId(number)) {
            Outcome::Deliver => "deliver",
            Outcome::Drop(refusal) => refusal.label(),
        };
        (0..7).map(told).collect()
    }

    const REFUSED: &str = r#"{"type":"delete","integrations":{"switched":false},"context":{"consent":{"categoryPreferences":{"A":false}}}}"#;
    const MISSING: &str = r#"{"type":"delete","integrations":{"switched":false}}"#;
    const MALFORMED: &str = r#"{"type":"delete","integrations":{"switched":false},"context":7}"#;

    #[test]
    fn a_deletion_skips_consent_and_nothing_else() {
        for line in [REFUSED, MISSING, MALFORMED] {
            assert_eq!(
                outcomes(line, Address::stored(Nature::Deletion)),
                ["disabled", "deliver", "source", "filtered", "deliver", "deliver", "integrations"],
                "{line}"
            );
            assert_eq!(
                outcomes(line, Address::EVENT),
                ["disabled", "consent", "source", "consent", "consent", "consent", "consent"],
                "{line}"
            );
        }
    }

    #[test]
    fn who_is_not_named_is_asked_last() {
        let mut only = BitSet::new(7);
        only.insert(1);
        let address = Address { nature: Nature::Deletion, only: Some(&only) };
        let not = Refusal::NotAddressed.label();
        assert_eq!(
            outcomes(MISSING, address),
            ["disabled", "deliver", "source", "filtered", not, not, "integrations"]
        );
    }

    #[test]
    fn one_judge_does_not_take_an_event_for_the_deletion_before_it() {
        let table = table();
        let mut judge = Judge::new(&table, 1000);
        for nature in [Nature::Deletion, Nature::Event, Nature::Deletion, Nature::Event] {
            let mut buffer = REFUSED.as_bytes().to_vec();
            buffer.resize(REFUSED.len() + PADDING, 0);
            let address = Address::stored(nature);
            let len = REFUSED.len();
            let judged = judge.judge_as(address, &mut buffer, len, SourceId(1), &table, |_| {});
            let permits = judged.unwrap().permits().count();
            assert_eq!(permits > 0, nature == Nature::Deletion, "{nature:?}");
        }
    }
}
