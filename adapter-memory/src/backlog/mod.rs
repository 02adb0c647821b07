//! The engine under every queue and subscription: what waits, what is out, who takes part.
//!
//! One mutex a backlog, never held across an await; wakers, answers and destructors run after it is released. There is no
//! background task: deadlines (delays, leases) are met by the consumers that wait, each with one timer set to the earliest,
//! so that nothing has to be owned or shut down, and time in tests is exact.

mod effects;
mod entry;
mod lanes;
mod members;
mod park;
mod ready;
mod settle;
mod state;
mod take;
mod watch;

use std::sync::{Arc, Weak};
use std::vec::IntoIter;

use messaging_core::{Error, ErrorKind, Message, Receipt, Source};
use parking_lot::{Mutex, MutexGuard};

pub(crate) use self::effects::Effects;
pub(crate) use self::entry::{Entry, NEVER, Turn};
pub(crate) use self::members::Membership;
pub(crate) use self::park::{Parked, Parking};
pub(crate) use self::settle::stale;
pub(crate) use self::state::{Dead, State};
pub(crate) use self::take::Step;
use crate::clock::{Clock, nanos};
use crate::config::DestinationOptions;
use crate::dedup::Dedup;
use crate::publisher::Sends;
use crate::topic::Feed;

/// A queue, or one subscription of a topic.
#[derive(Debug)]
pub(crate) struct Backlog {
    /// Itself, to be told by the topic's log.
    me: Weak<Self>,
    /// Which queue or durable subscription this is; none for an ephemeral subscription.
    pub(crate) source: Option<Source>,
    pub(crate) options: DestinationOptions,
    pub(crate) clock: Clock,
    /// Where a subscription's messages come from; a queue's are published into it.
    feed: Option<Feed>,
    pub(crate) dedup: Option<Dedup>,
    state: Mutex<State>,
}

/// What became of a message handed to a bounded store.
#[derive(Debug)]
pub(crate) enum Admission {
    Stored(Receipt),
    /// There is no room now; the message comes back.
    Full(Message),
    /// The queue was removed while the publisher was open.
    Gone,
}

impl Backlog {
    pub(crate) fn queue(source: Source, options: DestinationOptions, clock: Clock) -> Arc<Self> {
        let dedup = options.dedup.map(Dedup::new);
        Arc::new_cyclic(|me| Self {
            me: me.clone(),
            source: Some(source),
            options,
            clock,
            feed: None,
            dedup,
            state: Mutex::default(),
        })
    }

    pub(crate) fn subscription(
        source: Option<Source>,
        options: DestinationOptions,
        clock: Clock,
        feed: Feed,
    ) -> Arc<Self> {
        Arc::new_cyclic(|me| Self {
            me: me.clone(),
            source,
            options,
            clock,
            feed: Some(feed),
            dedup: None,
            state: Mutex::default(),
        })
    }

    pub(crate) fn feed(&self) -> Option<&Feed> {
        self.feed.as_ref()
    }

    /// The state under its lock, for what spans several backlogs.
    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    /// Runs with the state locked and lets wakers, answers and destructors act afterwards.
    pub(crate) fn with<T>(&self, act: impl FnOnce(&mut State, &mut Effects) -> T) -> T {
        let mut effects = Effects::default();
        let result = act(&mut self.state.lock(), &mut effects);
        effects.run();
        result
    }

    /// Stores a message, or gives it back if there is no room or others wait for room.
    #[inline]
    pub(crate) fn publish(&self, message: Message) -> Admission {
        let mut effects = Effects::default();
        let mut state = self.state.lock();
        if state.gone {
            return Admission::Gone;
        }
        if !state.has_room(&self.options) {
            return Admission::Full(message);
        }
        self.store(&mut state, message, &mut effects);
        drop(state);
        effects.run();
        Admission::Stored(Receipt::default())
    }

    /// Stores up to `max` messages as far as there is room, under one lock; leaves the others.
    pub(crate) fn publish_many(&self, messages: &mut IntoIter<Message>, max: usize) -> usize {
        self.with(|state, effects| {
            let mut stored = 0;
            while stored < max && !state.gone && state.has_room(&self.options) {
                let Some(message) = messages.next() else { break };
                self.store(state, message, effects);
                stored += 1;
            }
            stored
        })
    }

    /// Lets a message wait for room, behind those that wait already; stores it at once if room came meanwhile.
    pub(crate) fn park(&self, parked: Parked) {
        self.with(|state, effects| {
            state.parking.push(parked);
            self.admit_parked(state, effects);
        });
    }

    /// Takes a message out of the parking; false if it was stored meanwhile.
    pub(crate) fn unpark(&self, ticket: u64, sends: &Sends) -> bool {
        let parked = self.state.lock().parking.remove(ticket, sends);
        if let (Some(message), Some(dedup)) = (&parked, &self.dedup) {
            dedup.forget(message.id());
        }
        parked.is_some()
    }

    /// Stores what waits for room, as far as there is some.
    pub(super) fn admit_parked(&self, state: &mut State, effects: &mut Effects) {
        while state.fits(&self.options)
            && let Some(parked) = state.parking.pop()
        {
            let (message, answer) = parked.admit(Receipt::default());
            self.store(state, message, effects);
            effects.answer(answer);
        }
    }

    /// Stores a message that has room.
    #[inline]
    pub(crate) fn store(&self, state: &mut State, message: Message, effects: &mut Effects) {
        let seq = state.next_seq();
        let (due, expires) = timing(&message, || self.clock.now());
        let entry = Entry { message, seq, expires, attempts: 0, redriven: 0, turn: Turn::NONE };
        state.add(entry, due, effects);
    }

    /// Tells a subscription that its topic has more.
    pub(crate) fn topic_grew(&self) {
        self.with(|state, effects| {
            state.waits_for_topic = false;
            state.wake_one(effects);
        });
    }

    /// Whether there is something to deliver, as far as is known without the clock.
    pub(super) fn has_more(&self, state: &State) -> bool {
        !state.ready.is_empty() || self.feed.as_ref().is_some_and(Feed::has_more)
    }

    /// Puts a dead letter back to be delivered; attempts and the time to live begin afresh.
    pub(crate) fn redrive(&self, state: &mut State, dead: Entry, effects: &mut Effects) {
        let seq = if self.feed.is_some() { dead.seq } else { state.next_seq() };
        let expires = timing(&dead.message, || self.clock.now()).1;
        let redriven = dead.redriven.saturating_add(1);
        state.add(Entry { seq, expires, attempts: 0, redriven, turn: Turn::NONE, ..dead }, 0, effects);
    }

    /// Lets go what has expired among what is ready.
    pub(crate) fn sweep(&self, state: &mut State, now: u64, effects: &mut Effects) {
        state.sweep(now, &self.options, effects);
        self.admit_parked(state, effects);
    }

    /// Tells those that wait for room that there may be some.
    pub(crate) fn room_came(&self) {
        self.with(|state, effects| self.admit_parked(state, effects));
        if let Some(feed) = &self.feed {
            feed.log().admit_parked();
        }
    }

    /// Ends a consumer's wait; a wake-up that was meant for it goes to the next in line.
    pub(crate) fn stop_waiting(&self, id: u32) {
        self.with(|state, effects| state.stop_waiting(id, self.has_more(state), effects));
    }
}

/// When a message is due (0: now) and when it expires, in nanoseconds of the server's clock; the clock is read only for
/// messages that have either.
#[inline]
pub(crate) fn timing(message: &Message, now: impl FnOnce() -> u64) -> (u64, u64) {
    match (message.delay(), message.ttl()) {
        (None, None) => (0, NEVER),
        (delay, ttl) => {
            let now = now();
            let due = delay.filter(|delay| !delay.is_zero()).map_or(0, |delay| now.saturating_add(nanos(delay)));
            (due, ttl.map_or(NEVER, |ttl| now.saturating_add(nanos(ttl))))
        }
    }
}

pub(crate) fn gone(source: Option<&Source>) -> Error {
    let what = source.map_or_else(|| "the subscription".to_owned(), ToString::to_string);
    Error::new(ErrorKind::NotFound, format!("{what} was removed while it was in use"))
}

pub(crate) fn full(options: &DestinationOptions) -> Error {
    Error::new(
        ErrorKind::Full,
        format!(
            "the destination is full (capacity = {}, capacity_bytes = {}): consume what waits, raise the bound, or publish with when_full = block",
            options.capacity, options.capacity_bytes
        ),
    )
}
