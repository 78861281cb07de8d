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
