//! Outlets that go on in the place of others: what is counted is what was offered, whoever delivers it.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use super::{numbered, parcel, plan};
use crate::destination::{Memory, Outlet, OutletId, Parcel, Span};
use crate::log::{Position, StableId};
use crate::metrics::DestinationCounters;

struct Succession {
    counters: Arc<DestinationCounters>,
    last: Arc<Outlet>,
    next: Arc<Outlet>,
}

impl Succession {
    /// The last one is live from 10 on; the next one is to take over.
    fn new() -> Self {
        let counters = Arc::new(DestinationCounters::default());
        let memory = Memory::new(1 << 24);
        let outlet = |id| {
            let counters = Arc::clone(&counters);
            let stable = Some(StableId(1));
            Outlet::new(OutletId(id), "crm".into(), 1 << 24, false, counters, &memory, stable)
        };
        let (last, next) = (outlet(1), outlet(2));
        last.begin_at(Position(10));
        assert!(last.has_read_all_to(Position(10)));
        Self { counters, last, next }
    }

    fn parcel(&self, lines: usize) -> Parcel {
        parcel(&plan(1, "crm", &self.last, &[]), &numbered(lines))
    }

    /// Delivers everything that is in an outlet; how many events.
    fn deliver(&self, outlet: &Outlet) -> u32 {
        let mut delivered = 0;
        while let Some(parcel) = outlet.try_take() {
            self.counters.deliver_pending(parcel.events, 0);
            parcel.charge.as_ref().unwrap().settle(parcel.events);
            delivered += parcel.events;
        }
        delivered
    }

    /// Its reader gives these.
    fn read(&self, outlet: &Arc<Outlet>, lines: usize, span: Span) {
        outlet.offer_read(self.parcel(lines), span).unwrap();
        outlet.has_read(span.end);
    }

    fn assert_counted(&self, offered: u64, delivered: u64, repeated: u64) {
        let count = |counter: &std::sync::atomic::AtomicU64| counter.load(Relaxed);
        assert_eq!(count(&self.counters.delivered), delivered);
        assert_eq!(count(&self.counters.repeated), repeated);
        assert_eq!(self.counters.pending.load(Relaxed), 0);
        assert_eq!(offered + repeated, delivered);
    }
}

fn span(begin: u64, end: u64) -> Span {
    Span { begin: Position(begin), end: Position(end) }
}

#[test]
fn what_comes_for_one_that_was_replaced_waits_for_its_successor() {
    let all = Succession::new();
    all.last.close();
    all.last.leave_to_log(0);
    all.next.take_over(&all.last);
    all.next.begin_at(Position(10));
    assert!(all.next.has_read_all_to(Position(10)));
    // A worker had the table of before.
    all.last.offer_committed(vec![all.parcel(3)], span(10, 20));
    assert_eq!((all.last.unread(), all.next.unread()), (0, 3));
    assert_eq!(all.next.lags_from(), Some(Position(10)), "somebody has to read it");
    // In the same part of the log, for the new one: it comes with it.
    all.next.offer_committed(vec![all.parcel(2)], span(10, 20));
    all.read(&all.next, 5, span(10, 20));
    assert!(all.next.has_read_all_to(Position(20)));
    all.next.balance(Position(20));
    assert_eq!(all.deliver(&all.next), 5);
    assert_eq!(all.next.unread(), 0);
    all.assert_counted(5, 5, 0);
}

#[test]
fn what_comes_for_one_that_was_replaced_goes_down_with_its_successor() {
    let all = Succession::new();
    all.last.close();
    all.last.leave_to_log(0);
    all.next.take_over(&all.last);
    all.next.begin_at(Position(10));
    all.last.offer_committed(vec![all.parcel(3)], span(10, 20));
    all.next.end();
    assert_eq!(all.counters.pending.load(Relaxed), 0);
    all.last.offer_committed(vec![all.parcel(4)], span(20, 30));
    assert_eq!(all.counters.pending.load(Relaxed), 0);
    assert_eq!(all.counters.dropped(crate::metrics::DropReason::Removed), 7);
}

#[test]
fn what_the_last_one_delivered_behind_the_start_of_the_next_is_counted_as_repeated() {
    let all = Succession::new();
    // Handed over, and delivered, before the log says how far it has handed over.
    all.last.offer_committed(vec![all.parcel(2)], span(10, 20));
    assert_eq!(all.deliver(&all.last), 2);
    all.last.close();
    all.last.leave_to_log(0);
    all.next.take_over(&all.last);
    all.next.begin_at(Position(10));
    all.next.offer_committed(vec![all.parcel(3)], span(20, 30));
    all.read(&all.next, 2, span(10, 20));
    all.read(&all.next, 3, span(20, 30));
    assert!(all.next.has_read_all_to(Position(30)));
    all.next.balance(Position(30));
    assert_eq!(all.deliver(&all.next), 5);
    all.assert_counted(5, 7, 2);
}

#[test]
fn what_is_read_before_it_is_offered_is_no_repetition() {
    let all = Succession::new();
    all.last.offer_committed(vec![all.parcel(1)], span(10, 20));
    // Without a reader that begins, as for one that falls behind at once.
    all.next.begin_at(Position(20));
    all.read(&all.next, 4, span(20, 30));
    assert!(all.next.has_read_all_to(Position(30)));
    // The log has not yet handed over what was read.
    all.next.balance(Position(20));
    all.next.offer_committed(vec![all.parcel(4)], span(20, 30));
    all.next.balance(Position(30));
    assert_eq!(all.deliver(&all.last) + all.deliver(&all.next), 5);
    all.assert_counted(5, 5, 0);
}
