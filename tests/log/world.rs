//! A log in use, beside a plain model of what it must hold. Every step is done to both.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;
use std::sync::Arc;

use consentd::log::{
    BlockBuilder, BlockHead, CommitError, Cursors, Damage, EncodedBlock, Folder, Identities,
    Identity, Kind, LogError, Options, Position, Reader, StableId, SyncMode, Tombstones, Writer,
    rewrite_segment,
};

use crate::memory::{Crash, Memory};

pub(crate) const LOG: &str = "/state/log";

pub(crate) fn folder(disk: &Memory) -> Result<Folder, LogError> {
    Folder::open(Arc::new(disk.clone()), Path::new(LOG), Kind::Events)
}

pub(crate) fn options(segment_bytes: u32, sync: SyncMode) -> Options {
    Options { segment_bytes, max_bytes: u64::MAX, free_floor_bytes: 0, sync }
}

/// Seen from outside: the destination `name` at `address`.
pub(crate) fn identity(name: u8, address: u8) -> Identity {
    Identity { name: format!("d{name}"), kind: "http".to_owned(), fingerprint: [address; 16] }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Event {
    pub(crate) number: u64,
    pub(crate) user: u8,
    pub(crate) padding: usize,
    pub(crate) to: BTreeSet<StableId>,
}

impl Event {
    pub(crate) fn line(&self) -> String {
        let Self { number, user, padding, .. } = self;
        let padding = "x".repeat(*padding);
        format!("{{\"n\":{number},\"userId\":\"u{user}\",\"p\":\"{padding}\"}}")
    }
}

pub(crate) fn number_of(line: &[u8]) -> u64 {
    let text = std::str::from_utf8(line).unwrap();
    let rest = text.strip_prefix("{\"n\":").unwrap();
    rest[..rest.find(',').unwrap()].parse().unwrap()
}

pub(crate) fn user_of(line: &[u8]) -> &[u8] {
    let at = line.windows(10).position(|w| w == b"\"userId\":\"").unwrap() + 10;
    let len = line[at..].iter().position(|b| *b == b'"').unwrap();
    &line[at..at + len]
}

pub(crate) fn encode(source: &str, events: &[Event]) -> EncodedBlock {
    let mut builder = BlockBuilder::new();
    let head = BlockHead {
        source,
        reason: "",
        deletions: false,
        received_unix_ms: 1_700_000_000_000,
        table_version: 7,
        table_hash: *b"0123456789abcdef",
    };
    builder.begin(&head, Vec::new());
    for event in events {
        let to: Vec<StableId> = event.to.iter().copied().collect();
        let decision = builder.decision(&to).unwrap();
        builder.push(decision, event.line().as_bytes()).unwrap();
    }
    builder.finish().unwrap()
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Must be found by every start.
    Durable,
    /// Committed, not synced: found or not.
    Written,
    /// Its commit failed: found or not, but only as a whole, and not once it was found missing.
    Uncertain,
}

struct Stored {
    events: Vec<Event>,
    end: Position,
    state: State,
}

struct Live {
    writer: Writer,
    cursors: Cursors,
    identities: Identities,
    tombstones: Tombstones,
    ids: Vec<StableId>,
}

pub(crate) struct World {
    pub(crate) disk: Memory,
    options: Options,
    config: Vec<Identity>,
    live: Option<Live>,
    group: Vec<(Position, Stored)>,
    stored: BTreeMap<Position, Stored>,
    meaning: HashMap<StableId, Identity>,
    delivered: HashMap<StableId, BTreeSet<u64>>,
    /// By user: erased before this position; and what may have been asked for.
    erased: BTreeMap<u8, Position>,
    maybe_erased: BTreeMap<u8, Position>,
    highest: Position,
    next_number: u64,
    pub(crate) refused: u64,
}

impl World {
    pub(crate) fn new(options: Options) -> Self {
        Self {
            disk: Memory::new(),
            options,
            config: vec![identity(0, 0), identity(1, 1)],
            live: None,
            group: Vec::new(),
            stored: BTreeMap::new(),
            meaning: HashMap::new(),
            delivered: HashMap::new(),
            erased: BTreeMap::new(),
            maybe_erased: BTreeMap::new(),
            highest: Position::START,
            next_number: 0,
            refused: 0,
        }
    }

    fn live(&mut self) -> &mut Live {
        self.live.as_mut().expect("the log is open")
    }

    pub(crate) fn is_open(&self) -> bool {
        self.live.is_some()
    }

    /// Starts the daemon's part that matters here, and looks at all that was found.
    pub(crate) fn open(&mut self) -> Result<(), LogError> {
        let folder = folder(&self.disk)?;
        let log_is_empty = folder.segments()?.is_empty();
        let mut identities = Identities::open(&folder, log_is_empty)?;
        let ids = identities.resolve(&self.config)?;
        self.learn(&ids);
        identities.retire_others(&ids)?;
        let (cursors, report) = Cursors::open(&folder, &ids)?;
        let known = report.highest;
        let (writer, report) = Writer::open(folder.clone(), self.options, known, &mut |_| {})?;
        let tombstones = Tombstones::open(&folder, [7; 32])?;
        if self.options.sync == SyncMode::Commit {
            assert_eq!(report.damage, Damage::default(), "a crash leaves no holes between commits");
        }
        self.live = Some(Live { writer, cursors, identities, tombstones, ids });
        self.look()
    }

    fn learn(&mut self, ids: &[StableId]) {
        for (id, identity) in ids.iter().zip(&self.config) {
            let meant = self.meaning.entry(*id).or_insert_with(|| identity.clone());
            assert_eq!(meant, identity, "an ID means another destination");
        }
    }

    /// The process or the power goes.
    pub(crate) fn crash(&mut self, crash: Crash, seed: u64) {
        self.live = None;
        self.group.clear();
        self.disk.crash(crash, seed);
    }

    pub(crate) fn append(
        &mut self,
        users: &[u8],
        mask: u8,
        padding: usize,
    ) -> Result<(), LogError> {
        let mut events = Vec::new();
        for (index, &user) in users.iter().enumerate() {
            let number = self.next_number;
            self.next_number += 1;
            let wants = |place: &usize| (mask.rotate_left(index as u32) >> (place % 8)) & 1 == 1;
            let ids = &self.live().ids;
            let to = (0..ids.len()).filter(wants).map(|place| ids[place]).collect();
            events.push(Event { number, user, padding: padding + index, to });
        }
        let block = encode("web", &events);
        let position = self.live().writer.append(&block).expect("the group has room");
        let end = block.at(position).end();
        self.group.push((position, Stored { events, end, state: State::Uncertain }));
        Ok(())
    }

    pub(crate) fn commit(&mut self) -> Result<(), LogError> {
        let group = std::mem::take(&mut self.group);
        let committed = self.live().writer.commit(5);
        let state = match &committed {
            Ok(_) if self.options.sync == SyncMode::Commit => State::Durable,
            Ok(_) => State::Written,
            Err(CommitError::Fatal(_)) => State::Uncertain,
            Err(CommitError::Refused(_)) => {
                // Nothing of it may ever be seen: it is not entered into `stored`.
                self.refused += 1;
                return Ok(());
            }
        };
        if let Ok(Some(committed)) = &committed {
            assert!(committed.first >= self.highest, "positions go on behind all earlier ones");
            self.highest = committed.end;
            // Whole segments are synced in every mode.
            for (position, stored) in &mut self.stored {
                let is_earlier = position.segment() < committed.first.segment();
                if is_earlier && stored.state == State::Written {
                    stored.state = State::Durable;
                }
            }
            for (position, stored) in &group {
                assert!(committed.first <= *position && stored.end <= committed.end);
            }
            let records: usize = group.iter().map(|(_, stored)| stored.events.len()).sum();
            assert_eq!(committed.records as usize, records);
        }
        for (position, stored) in group {
            let earlier = self.stored.insert(position, Stored { state, ..stored });
            assert!(
                earlier.is_none_or(|earlier| earlier.state == State::Uncertain),
                "a position was given out twice"
            );
        }
        match committed {
            Err(CommitError::Fatal(error)) => {
                let writer = &mut self.live().writer;
                assert!(writer.commit(5).is_err() && writer.sync().is_err(), "it is poisoned");
                Err(error)
            }
            _ => Ok(()),
        }
    }

    pub(crate) fn sync(&mut self) -> Result<(), LogError> {
        let synced = self.live().writer.sync()?;
        for stored in self.stored.values_mut() {
            if stored.state == State::Written && stored.end <= synced {
                stored.state = State::Durable;
            }
        }
        Ok(())
    }

    pub(crate) fn roll(&mut self) -> Result<(), LogError> {
        self.live().writer.roll()
    }

    /// Begins another segment if nothing is appended.
    pub(crate) fn leave(&mut self) -> Result<(), LogError> {
        self.live().writer.leave_segment(6).map(drop)
    }

    /// Delivers up to `blocks` blocks to a destination and moves its cursor.
    pub(crate) fn deliver(&mut self, place: usize, blocks: usize) -> Result<(), LogError> {
        let Some(live) = &mut self.live else { return Ok(()) };
        let Some(&id) = live.ids.get(place % live.ids.len().max(1)) else { return Ok(()) };
        let from = live.cursors.get(id).expect("every destination has a cursor");
        let mut reader = Reader::new(live.writer.folder().clone(), from);
        let mut scratch = Vec::new();
        let mut before = None;
        let delivered = self.delivered.entry(id).or_default();
        for _ in 0..blocks {
            let Some(block) = reader.next(live.writer.end())? else { break };
            assert!(block.position() >= from && before < Some(block.position()), "order");
            before = Some(block.position());
            let stored = self.stored.get(&block.position()).expect("only what was committed");
            let mut count = 0;
            for line in block.lines_for(id, &mut scratch) {
                count += 1;
                let number = number_of(line);
                let event = stored.events.iter().find(|event| event.number == number);
                let event = event.expect("a line stands in its own block");
                assert_eq!(event.line().as_bytes(), line);
                assert!(event.to.contains(&id), "delivered to whom it was refused");
                let is_erased =
                    live.tombstones.is_erased(Some(user_of(line)), None, block.position());
                let erased = self.erased.get(&event.user);
                if erased.is_some_and(|before| block.position() < *before) {
                    assert!(is_erased, "an erased event is to be delivered");
                }
                if !is_erased {
                    delivered.insert(number);
                }
            }
            assert_eq!(block.count_for(id), count);
            live.cursors.advance(id, block.end());
        }
        if self.options.sync == SyncMode::Commit {
            assert_eq!(reader.damage(), Damage::default());
        }
        Ok(())
    }

    pub(crate) fn save(&mut self) -> Result<(), LogError> {
        self.live().cursors.save()
    }

    pub(crate) fn release(&mut self) -> Result<(), LogError> {
        // Both ways, in turns.
        let at_once = self.next_number.is_multiple_of(2);
        let Live { writer, cursors, .. } = self.live();
        if at_once {
            return writer.release(cursors).map(drop);
        }
        let retired = writer.retire(cursors);
        writer.folder().remove_segments(&retired, 256, &mut || {})
    }

    pub(crate) fn erase(&mut self, user: u8) -> Result<(), LogError> {
        let before = self.live().writer.end();
        self.maybe_erased.insert(user, before);
        let id = format!("u{user}");
        self.live().tombstones.erase(Some(id.as_bytes()), None, before, 9)?;
        self.erased.insert(user, before);
        Ok(())
    }

    pub(crate) fn rewrite(&mut self) -> Result<(), LogError> {
        let Live { writer, tombstones, .. } = self.live();
        let closed: Vec<u32> = writer.closed_segments().map(|segment| segment.number).collect();
        for number in closed {
            let rewritten = rewrite_segment(writer.folder(), number, |block, line| {
                tombstones.is_erased(Some(user_of(line)), None, block.position())
            })?;
            if let Some(rewritten) = rewritten {
                writer.adopt(&rewritten)?;
            }
        }
        Ok(())
    }

    /// A reload with these destinations.
    pub(crate) fn configure(&mut self, config: Vec<Identity>) -> Result<(), LogError> {
        self.config.clone_from(&config);
        let ids = self.live().identities.resolve(&config)?;
        self.learn(&ids);
        let Live { writer, cursors, identities, ids: old, .. } = self.live();
        // First: what follows is lost to a destination only once it can't come back under its ID.
        identities.retire_others(&ids)?;
        for id in &ids {
            if cursors.get(*id).is_none() {
                cursors.begin(*id, writer.end());
            }
        }
        for id in old.iter().filter(|id| !ids.contains(id)) {
            cursors.remove(*id);
        }
        old.clone_from(&ids);
        cursors.save()
    }

    /// Compares everything that a reader sees with the model.
    fn look(&mut self) -> Result<(), LogError> {
        let Some(live) = &mut self.live else { return Ok(()) };
        let end = live.writer.end();
        let mut reader = Reader::new(live.writer.folder().clone(), Position::START);
        let mut seen = BTreeSet::new();
        while let Some(block) = reader.next(end)? {
            let position = block.position();
            assert!(seen.last() < Some(&position), "order");
            seen.insert(position);
            let stored = self.stored.get_mut(&position).expect("only what was committed is read");
            assert_eq!(block.end(), stored.end);
            assert_eq!(block.source(), "web");
            assert_eq!(block.table_hash(), *b"0123456789abcdef");
            let decisions: Vec<BTreeSet<StableId>> =
                block.decisions().map(|decision| decision.ids().collect()).collect();
            let mut records = block.records().peekable();
            for event in &stored.events {
                let is_next =
                    records.peek().is_some_and(|record| record.line == event.line().as_bytes());
                if is_next {
                    let record = records.next().unwrap();
                    assert_eq!(decisions[record.decision as usize], event.to);
                } else {
                    let may = self.maybe_erased.get(&event.user);
                    assert!(may.is_some_and(|before| position < *before), "a record is missing");
                }
            }
            assert_eq!(records.next(), None, "a record that was not stored");
            // What recovery has read it has made durable.
            stored.state = State::Durable;
        }
        if self.options.sync == SyncMode::Commit {
            assert_eq!(reader.damage(), Damage::default());
        }
        let (ids, delivered, maybe_erased) = (&live.ids, &self.delivered, &self.maybe_erased);
        self.stored.retain(|position, stored| {
            if seen.contains(position) {
                return true;
            }
            let is_settled = |event: &Event| {
                let live_ids = event.to.iter().filter(|id| ids.contains(id));
                let erased = maybe_erased.get(&event.user).is_some_and(|before| position < before);
                let has = |id| delivered.get(id).is_some_and(|had| had.contains(&event.number));
                erased || live_ids.into_iter().all(has)
            };
            assert!(
                stored.state != State::Durable || stored.events.iter().all(is_settled),
                "{position} was acknowledged, is not settled, and is gone"
            );
            // What was released may come back if the removal of its name was not durable.
            stored.state == State::Durable
        });
        Ok(())
    }

    /// After everything: every destination catches up, and nothing is missing.
    pub(crate) fn settle(&mut self) {
        assert!(self.is_open());
        self.look().unwrap();
        for place in 0..self.live().ids.len() {
            self.deliver(place, usize::MAX).unwrap();
        }
        let ids = self.live().ids.clone();
        for (position, stored) in &self.stored {
            if stored.state == State::Uncertain {
                continue;
            }
            for event in &stored.events {
                let erased = self.maybe_erased.get(&event.user);
                let erased = erased.is_some_and(|before| position < before);
                for id in event.to.iter().filter(|id| ids.contains(id)) {
                    let had = self.delivered.get(id).is_some_and(|had| had.contains(&event.number));
                    assert!(had || erased, "event {} never reached {id:?}", event.number);
                }
            }
        }
    }
}
