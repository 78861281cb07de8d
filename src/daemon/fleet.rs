//! Which destinations run.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::book::Book;
use crate::commit::Log;
use crate::config::{Delivery, Destination, Output, WhenFull};
use crate::destination::{
    Around, Erasures, FileCare, HttpSpec, Memory, Outlet, OutletId, Running, Sink, SinkSpec,
};
use crate::log::{self, Position, StableId};
use crate::metrics::{DropReason, Exposition};
use crate::route::Handle;
use crate::shard::Plan;

/// The running destinations, in the order of the config in force.
pub(super) struct Fleet {
    members: Vec<Member>,
    retired: Vec<Member>,
    memory: Arc<Memory>,
    ids: Arc<AtomicU64>,
    book: Option<Arc<Book>>,
    erasures: Handle<Erasures>,
    /// Where the log was before the plan in force was.
    log_end: Position,
}

/// What a config is prepared against: the destinations that run. Nothing of it changes before what was
/// prepared is adopted.
pub(super) struct Roster {
    running: Vec<(Identity, Arc<Outlet>)>,
    memory: Arc<Memory>,
    ids: Arc<AtomicU64>,
    book: Option<Arc<Book>>,
}

struct Member {
    identity: Identity,
    running: Running,
    /// Events that were removed before [`Fleet::close`]; those after it are left over by the stop.
    removed_before_close: Option<u64>,
}

impl Member {
    fn removed(&self) -> u64 {
        self.running.outlet().counters().dropped(DropReason::Removed)
    }

    /// Events that came too late to be taken.
    fn turned_away(&self) -> u64 {
        self.removed_before_close.map_or(0, |before| self.removed().saturating_sub(before))
    }
}

/// What makes a destination of two configs the same running one: its name, how it delivers, and the
/// values that variables and secret files had.
#[derive(Clone, PartialEq)]
struct Identity {
    name: String,
    delivery: Delivery,
    /// A digest: the values themselves are not kept.
    resolved: blake3::Hash,
    /// A digest of where it delivers.
    address: blake3::Hash,
}

/// A destination of a config that was checked and is not yet in force.
pub(super) enum Slot {
    /// Runs already; its outlet, and the room it has from now on.
    Kept(Arc<Outlet>, usize),
    /// Is to be started.
    New(Box<Prepared>),
}

/// Everything that starting a destination takes; nothing can fail any more.
pub(super) struct Prepared {
    identity: Identity,
    sink: Sink,
    outlet: Arc<Outlet>,
}

impl Slot {
    pub(super) fn outlet(&self) -> &Arc<Outlet> {
        match self {
            Self::Kept(outlet, _) => outlet,
            Self::New(prepared) => &prepared.outlet,
        }
    }
}

/// What a config changed about the fleet.
#[derive(Debug, Default)]
pub(super) struct Changes {
    pub(super) started: Vec<String>,
    pub(super) replaced: Vec<String>,
    pub(super) removed: Vec<String>,
}

impl Fleet {
    /// No destinations; all that come pin at most `memory_max` bytes together.
    pub(super) fn new(memory_max: usize, book: Option<Arc<Book>>) -> Self {
        let memory = Memory::new(memory_max);
        // Without a log nothing can be erased.
        let none = || Handle::new(Arc::default());
        let erasures = book.as_ref().map_or_else(none, |book| book.log().erasures().clone());
        let log_end = book.as_ref().map_or(Position::START, |book| book.log().handed());
        Self {
            erasures,
            members: Vec::new(),
            retired: Vec::new(),
            memory,
            ids: Arc::default(),
            book,
            log_end,
        }
    }

    /// The log, if there is one.
    pub(super) fn log(&self) -> Option<Arc<Log>> {
        self.book.as_ref().map(|book| Arc::clone(book.log()))
    }

    /// What the next config is prepared against.
    pub(super) fn roster(&self) -> Roster {
        let running =
            |member: &Member| (member.identity.clone(), Arc::clone(member.running.outlet()));
        Roster {
            running: self.members.iter().map(running).collect(),
            memory: Arc::clone(&self.memory),
            ids: Arc::clone(&self.ids),
            book: self.book.clone(),
        }
    }

    /// Sets the bounds of a config. To be called before its plan is in force: workers make chunks that
    /// fit.
    pub(super) fn set_room(&mut self, slots: &[Slot], memory_max: usize) {
        if let Some(book) = &self.book {
            book.log().unfollow();
            self.log_end = book.log().handed();
        }
        self.memory.set_max(memory_max);
        for slot in slots {
            if let Slot::Kept(outlet, room) = slot {
                outlet.set_room(*room);
            }
        }
    }

    /// Starts what is new and retires what is gone. The plan with these slots is in force already;
    /// `last_plan` is the one before it.
    pub(super) fn adopt(
        &mut self,
        slots: Vec<Slot>,
        plans: &Handle<Plan>,
        last_plan: Option<&Arc<Plan>>,
        patience: Duration,
    ) -> Changes {
        let mut changes = Changes::default();
        let mut before = std::mem::take(&mut self.members);
        for slot in slots {
            match slot {
                Slot::Kept(outlet, _) => {
                    let position =
                        before.iter().position(|m| m.running.outlet().id() == outlet.id());
                    self.members.extend(position.map(|position| before.remove(position)));
                }
                Slot::New(prepared) => {
                    let name = prepared.identity.name.clone();
                    if before.iter().any(|member| member.identity.name == name) {
                        changes.replaced.push(name);
                    } else {
                        changes.started.push(name);
                    }
                    let Prepared { identity, sink, outlet } = *prepared;
                    let (limits, retry) =
                        (identity.delivery.batch.clone(), identity.delivery.retry.clone());
                    let after = predecessors(&identity, before.iter().chain(&self.retired));
                    if let Some(book) = &self.book {
                        let before = self.retired.iter().chain(&before);
                        book.begin(
                            &outlet,
                            before.map(|member| &member.running),
                            plans,
                            self.log_end,
                        );
                    }
                    let around = Around {
                        plans: plans.clone(),
                        erasures: self.erasures.clone(),
                        dead_letters: self
                            .book
                            .as_ref()
                            .map(|book| Arc::clone(book.dead_letters())),
                        rejections: self.book.as_ref().map(|book| Arc::clone(book.rejections())),
                    };
                    let running = Running::start(outlet, sink, limits, retry, around, after);
                    self.members.push(Member { identity, running, removed_before_close: None });
                }
            }
        }
        for gone in before {
            if !changes.replaced.contains(&gone.identity.name) {
                changes.removed.push(gone.identity.name.clone());
            }
            let stable = gone.running.outlet().stable();
            let goes_on = |member: &Member| member.running.outlet().stable() == stable;
            match last_plan {
                // The log has what it leaves, and another one goes on in its place.
                Some(_) if stable.is_some() && self.members.iter().any(goes_on) => {
                    gone.running.finish(Instant::now() + patience);
                }
                Some(plan) => gone.running.retire(Arc::clone(plan), Instant::now() + patience),
                None => gone.running.finish(Instant::now()),
            }
            self.retired.push(gone);
        }
        if let Some(book) = &self.book {
            let outlets = self.members.iter().map(|member| member.running.outlet());
            let outlets: Vec<_> = outlets.map(Arc::clone).collect();
            // Also at the start: what was in the config of the last one may not be in this one.
            let live: Vec<_> = outlets.iter().filter_map(|outlet| outlet.stable()).collect();
            book.retire_others(&live);
            book.log().follow(outlets);
        }
        changes
    }

    /// Lets go of removed destinations that have ended.
    pub(super) fn tidy(&mut self) {
        let (ended, going): (Vec<_>, Vec<_>) =
            self.retired.drain(..).partition(|member| member.running.has_ended());
        self.retired = going;
        for member in ended {
            let outlet = member.running.outlet();
            let goes_on = |other: &Member| other.running.outlet().stable() == outlet.stable();
            if outlet.stable().is_some() && !self.members.iter().any(goes_on) {
                outlet.end();
            }
        }
    }

    /// Takes no more events, whoever waits to hand some over: they are counted as removed, and by
    /// [`Fleet::finish`] as left.
    pub(super) fn close(&mut self) {
        self.members.iter_mut().for_each(Member::close);
    }

    /// As [`Fleet::close`], for the destinations that a worker waits for.
    pub(super) fn close_waited_for(&mut self) {
        let waited_for = |member: &&mut Member| member.running.outlet().is_waited_for();
        self.members.iter_mut().filter(waited_for).for_each(Member::close);
    }

    /// Whether a delivery ended although nobody told it to.
    pub(super) fn any_dead(&self) -> bool {
        self.members.iter().any(|member| member.running.has_ended())
    }

    /// Delivers what there is until `until`; gives for each destination the events that are left.
    pub(super) async fn finish(self, until: Instant) -> Vec<(String, u64)> {
        let members = self.members.into_iter().map(|member| (member.turned_away(), member.running));
        let retired = self.retired.into_iter().map(|member| (0, member.running));
        let everyone: Vec<(u64, Running)> = members.chain(retired).collect();
        for (_, running) in &everyone {
            running.finish(until);
        }
        let mut left = Vec::new();
        for (turned_away, running) in everyone {
            let name = running.outlet().name().to_owned();
            let unread = running.outlet().unread();
            match running.ended().await.map(|pending| pending + turned_away + unread) {
                Ok(0) => info!(destination = name, "drained"),
                Ok(events) => left.push((name, events)),
                Err(error) => {
                    warn!(destination = name, %error, "delivery failed");
                    left.push((name, 1 + turned_away));
                }
            }
        }
        left
    }
}

impl Roster {
    /// Resolves variables and secrets of `config` and opens what can be opened, for every
    /// destination that does not run as it is. Changes nothing that runs. May take for ever, where a
    /// file system hangs; may be cancelled.
    ///
    /// # Errors
    /// A sentence for each destination that cannot work.
    pub(super) async fn prepare(
        &self,
        destinations: &[Destination],
        exposition: &Exposition,
    ) -> Result<Vec<Slot>, Vec<String>> {
        // Whatever is wrong without opening anything is found first: a file of one destination must
        // not appear because of a mistake in another.
        let own = destinations.to_vec();
        let care = self.book.as_ref().map_or(FileCare::default(), |book| book.care());
        let identities = tokio::task::spawn_blocking(move || {
            own.iter().map(|d| named(d, Identity::of(d, care))).collect()
        });
        let identities: Vec<(Identity, SinkSpec)> =
            all(identities.await.map_err(|error| vec![error.to_string()])?)?;
        let stable = match &self.book {
            Some(book) => {
                let identities = identities.iter().map(|(identity, _)| identity.stored());
                book.resolve(identities.collect()).await.map_err(|error| vec![error])?
            }
            None => vec![None; identities.len()],
        };
        let mut slots = Vec::with_capacity(identities.len());
        for (destination, ((identity, spec), stable)) in
            destinations.iter().zip(identities.into_iter().zip(stable))
        {
            let slot = self.prepare_one(identity, spec, stable, exposition).await;
            slots.push(named(destination, slot));
        }
        all(slots)
    }

    async fn prepare_one(
        &self,
        identity: Identity,
        spec: SinkSpec,
        stable: Option<StableId>,
        exposition: &Exposition,
    ) -> Result<Slot, String> {
        let mut running = self.running.iter();
        if let Some((_, outlet)) = running.find(|(same, _)| same.is_same_but_for_room(&identity)) {
            return Ok(Slot::Kept(Arc::clone(outlet), identity.delivery.buffer));
        }
        let mut sink = Sink::new(spec).map_err(|error| error.to_string())?;
        sink.verify().await.map_err(|error| error.to_string())?;
        let Delivery { buffer, when_full, .. } = identity.delivery;
        let outlet = Outlet::new(
            OutletId(self.ids.fetch_add(1, Relaxed)),
            identity.name.clone(),
            buffer,
            // With a log, what finds no room is read from it later.
            when_full == WhenFull::DropNewest && stable.is_none(),
            exposition.add_destination(&identity.name),
            &self.memory,
            stable,
        );
        Ok(Slot::New(Box::new(Prepared { identity, sink, outlet })))
    }
}

impl Member {
    fn close(&mut self) {
        let removed = self.removed();
        self.removed_before_close.get_or_insert(removed);
        self.running.outlet().close();
    }
}

impl Identity {
    fn of(destination: &Destination, care: FileCare) -> Result<(Self, SinkSpec), String> {
        let (spec, resolved) = resolve(&destination.delivery.output, care)?;
        let name = destination.route.name.clone();
        let address = blake3::hash(address_of(&spec).as_bytes());
        Ok((Self { name, delivery: destination.delivery.clone(), resolved, address }, spec))
    }

    /// What the log tells it by: another type or address makes it another destination.
    fn stored(&self) -> log::Identity {
        let kind = match &self.delivery.output {
            Output::Http { .. } => "http",
            Output::Tcp { .. } => "tcp",
            Output::File { .. } => "file",
            Output::Stdout => "stdout",
            Output::Blackhole => "blackhole",
        };
        let mut fingerprint = [0; 16];
        fingerprint.copy_from_slice(&self.address.as_bytes()[..16]);
        log::Identity { name: self.name.clone(), kind: kind.to_owned(), fingerprint }
    }

    /// Whether what runs as `self` can go on as `next`. The room of a destination can change while it
    /// runs; by default it depends on how many destinations there are.
    fn is_same_but_for_room(&self, next: &Self) -> bool {
        let mut room = self.clone();
        room.delivery.buffer = next.delivery.buffer;
        if self.delivery.batch_is_as_large_as_the_buffer_allows()
            && next.delivery.batch_is_as_large_as_the_buffer_allows()
        {
            room.delivery.batch.max_bytes = next.delivery.batch.max_bytes;
        }
        room == *next
    }
}

/// Who must be gone before a destination begins. Two that append to one file would keep each other
/// from it, and whoever gave up first would lose its events; and lines would not stay in order.
fn predecessors<'m>(
    next: &Identity,
    members: impl Iterator<Item = &'m Member>,
) -> Vec<CancellationToken> {
    let is_file = |identity: &Identity| matches!(identity.delivery.output, Output::File { .. });
    members
        // What is resolved of a file is its path.
        .filter(|member| is_file(&member.identity) && member.identity.resolved == next.resolved)
        .filter(|_| is_file(next))
        .map(|member| member.running.gone())
        .collect()
}

/// Says whose error it is.
fn named<T>(destination: &Destination, result: Result<T, String>) -> Result<T, String> {
    result.map_err(|error| format!("destinations.{}: {error}", destination.route.name))
}

/// Every value, or every error.
fn all<T>(results: Vec<Result<T, String>>) -> Result<Vec<T>, Vec<String>> {
    let (mut values, mut errors) = (Vec::with_capacity(results.len()), Vec::new());
    for result in results {
        match result {
            Ok(value) => values.push(value),
            Err(error) => errors.push(error),
        }
    }
    if errors.is_empty() { Ok(values) } else { Err(errors) }
}

/// Where events go.
fn address_of(spec: &SinkSpec) -> &str {
    match spec {
        SinkSpec::Http(http) => &http.url,
        SinkSpec::Tcp { address, .. } => address,
        SinkSpec::File { path, .. } => path,
        SinkSpec::Stdout | SinkSpec::Blackhole => "",
    }
}

/// Completes an output from the environment and from secret files.
fn resolve(output: &Output, care: FileCare) -> Result<(SinkSpec, blake3::Hash), String> {
    let mut digest = blake3::Hasher::new();
    let mut note = |value: String| {
        digest.update(&(value.len() as u64).to_le_bytes());
        digest.update(value.as_bytes());
        value
    };
    let spec = match output {
        Output::Http { url, headers, format, compression, concurrency, timeout } => {
            let mut resolved = Vec::with_capacity(headers.len());
            for (name, secret) in headers {
                let value = secret.resolve().map_err(|error| error.to_string())?;
                resolved.push((name.clone(), note(value.expose().to_owned())));
            }
            SinkSpec::Http(HttpSpec {
                url: note(url.resolve().map_err(|error| error.to_string())?),
                headers: resolved,
                format: *format,
                compression: *compression,
                concurrency: *concurrency,
                timeout: *timeout,
            })
        }
        Output::Tcp { address, timeout } => SinkSpec::Tcp {
            address: note(address.resolve().map_err(|error| error.to_string())?),
            timeout: *timeout,
        },
        Output::File { path, rotate, compression } => SinkSpec::File {
            care,
            path: note(path.resolve().map_err(|error| error.to_string())?),
            rotate: rotate.clone(),
            compression: *compression,
        },
        Output::Stdout => SinkSpec::Stdout,
        Output::Blackhole => SinkSpec::Blackhole,
    };
    Ok((spec, digest.finalize()))
}
