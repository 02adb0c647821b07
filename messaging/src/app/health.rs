//! How well an application is: its brokers and its listeners.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};

use messaging_core::{BrokerName, Error, Event, Health, HealthState};
use parking_lot::Mutex;

/// Health of one listener, as its workers see it.
#[derive(Debug)]
pub(crate) struct ListenerState {
    workers: usize,
    dead_workers: Mutex<DeadWorkers>,
    dead_letter: Mutex<Option<String>>,
    dead_letter_fails: AtomicBool,
    disconnected: AtomicBool,
    ended: Mutex<Option<String>>,
}

/// Workers that panicked and wait to be started again.
#[derive(Debug, Default)]
struct DeadWorkers {
    count: usize,
    last_panic: String,
}

impl ListenerState {
    pub(crate) fn new(workers: usize) -> Self {
        Self {
            workers,
            dead_workers: Mutex::default(),
            dead_letter: Mutex::default(),
            dead_letter_fails: AtomicBool::default(),
            disconnected: AtomicBool::default(),
            ended: Mutex::default(),
        }
    }

    pub(crate) fn worker_died(&self, panic: &str) {
        let mut dead = self.dead_workers.lock();
        dead.count += 1;
        panic.clone_into(&mut dead.last_panic);
    }

    pub(crate) fn worker_restarted(&self) {
        self.dead_workers.lock().count -= 1;
    }

    pub(crate) fn dead_letter_fails(&self, error: &Error) {
        *self.dead_letter.lock() = Some(error.to_string());
        self.dead_letter_fails.store(true, Ordering::Release);
    }

    pub(crate) fn dead_letter_works(&self) {
        if self.dead_letter_fails.swap(false, Ordering::AcqRel) {
            *self.dead_letter.lock() = None;
        }
    }

    pub(crate) fn saw(&self, event: &Event) {
        match event {
            Event::Disconnected => self.disconnected.store(true, Ordering::Release),
            Event::Reconnected => self.disconnected.store(false, Ordering::Release),
            _ => {}
        }
    }

    pub(crate) fn ended(&self, error: &Error) {
        self.ended.lock().get_or_insert_with(|| error.to_string());
    }

    pub(crate) fn health(&self) -> Health {
        let mut health = Health::up();
        if let Some(why) = &*self.ended.lock() {
            health = health.and(Health::not_up(HealthState::Down, format!("its consumer ended: {why}")));
        }
        health = health.and(self.health_of_workers());
        if self.disconnected.load(Ordering::Acquire) {
            health = health
                .and(Health::not_up(HealthState::Degraded, "its consumer is disconnected and tries to come back"));
        }
        if let Some(why) = &*self.dead_letter.lock() {
            health =
                health.and(Health::not_up(HealthState::Degraded, format!("its dead letter takes no messages: {why}")));
        }
        health
    }

    fn health_of_workers(&self) -> Health {
        let dead = self.dead_workers.lock();
        match dead.count {
            0 => Health::up(),
            count => {
                let state = if count >= self.workers { HealthState::Down } else { HealthState::Degraded };
                let why = format!(
                    "{count} of its {} workers panicked and are started again shortly: {}",
                    self.workers, dead.last_panic
                );
                Health::not_up(state, why)
            }
        }
    }
}

/// How well an application is at this moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppHealth {
    /// Each broker, by its name in the configuration.
    pub brokers: Vec<(BrokerName, Health)>,
    /// Each listener, by its id.
    pub listeners: Vec<(String, Health)>,
}

impl AppHealth {
    /// The worst state of all. A listener that is down leaves the application degraded while others run.
    #[must_use]
    pub fn state(&self) -> HealthState {
        let all =
            || self.brokers.iter().map(|(_, health)| health).chain(self.listeners.iter().map(|(_, health)| health));
        let worst = all().map(|health| health.state).max().unwrap_or_default();
        let best = all().map(|health| health.state).min().unwrap_or_default();
        if worst == HealthState::Down && best < HealthState::Down { HealthState::Degraded } else { worst }
    }
}

impl fmt::Display for AppHealth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let brokers = self.brokers.iter().map(|(name, health)| ("broker", name.as_str(), health));
        let listeners = self.listeners.iter().map(|(id, health)| ("listener", id.as_str(), health));
        for (index, (what, name, health)) in brokers.chain(listeners).enumerate() {
            let line = if index == 0 { "" } else { "\n" };
            write!(f, "{line}{what} {name:?} is {health}")?;
        }
        Ok(())
    }
}
