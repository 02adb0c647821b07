//! Options of the memory broker, strict.

use std::time::Duration;

use messaging_core::{DestinationSettings, Error, ErrorKind, Expired, Order, Result, Settings};

/// What happens to a publish when a destination is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WhenFull {
    /// It waits for room, up to the publish time limit.
    Block,
    /// It fails with `Full`.
    Refuse,
}

/// Options of one queue or topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DestinationOptions {
    /// The most messages that wait or are out.
    pub(crate) capacity: usize,
    /// The most bytes of payload that wait or are out.
    pub(crate) capacity_bytes: usize,
    pub(crate) when_full: WhenFull,
    /// How many messages a topic keeps beyond what its subscriptions need.
    pub(crate) retention: usize,
    /// How many messages an ephemeral subscription may be behind before it loses some.
    pub(crate) ephemeral_lag: usize,
    pub(crate) dedup: Option<Duration>,
    pub(crate) expired: Expired,
    /// The largest message.
    pub(crate) message_bytes: usize,
    pub(crate) order: Order,
}

impl Default for DestinationOptions {
    fn default() -> Self {
        Self {
            capacity: 4_000_000,
            capacity_bytes: 4 * 1024 * 1024 * 1024,
            when_full: WhenFull::Block,
            retention: 100_000,
            ephemeral_lag: 10_000,
            dedup: None,
            expired: Expired::Discarded,
            message_bytes: 16 * 1024 * 1024,
            order: Order::None,
        }
    }
}

impl DestinationOptions {
    /// Takes what the settings say over these options.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] that names the key.
    pub(crate) fn with(mut self, mut settings: Settings) -> Result<Self> {
        if let Some(capacity) = settings.take_positive("capacity")? {
            self.capacity = capacity;
        }
        if let Some(bytes) = settings.take_positive("capacity_bytes")? {
            self.capacity_bytes = bytes;
        }
        if let Some(word) = settings.take::<String>("when_full")? {
            self.when_full =
                one_of(&settings, "when_full", &word, &[("block", WhenFull::Block), ("refuse", WhenFull::Refuse)])?;
        }
        if let Some(retention) = settings.take::<usize>("retention")? {
            self.retention = retention;
        }
        if let Some(lag) = settings.take_positive("ephemeral_lag")? {
            self.ephemeral_lag = lag;
        }
        if let Some(window) = settings.take_duration("dedup")? {
            self.dedup = (!window.is_zero()).then_some(window);
        }
        if let Some(word) = settings.take::<String>("expired")? {
            let known = [("discard", Expired::Discarded), ("dead_letter", Expired::DeadLettered)];
            self.expired = one_of(&settings, "expired", &word, &known)?;
        }
        if let Some(bytes) = settings.take_positive("message_bytes")? {
            self.message_bytes = bytes;
        }
        settings.finish()?;
        Ok(self)
    }

    /// Takes what the configuration says of one destination over these options.
    pub(crate) fn with_destination(self, settings: DestinationSettings) -> Result<Self> {
        let DestinationSettings { native: _, order, driver } = settings;
        let mut options = self.with(driver)?;
        options.order = order;
        Ok(options)
    }

    /// In what these differ from others, each with both values.
    pub(crate) fn differences(&self, asked: &Self) -> Vec<String> {
        let Self {
            capacity,
            capacity_bytes,
            when_full,
            retention,
            ephemeral_lag,
            dedup,
            expired,
            message_bytes,
            order: _,
        } = self;
        let pairs = [
            ("capacity", capacity.to_string(), asked.capacity.to_string()),
            ("capacity_bytes", capacity_bytes.to_string(), asked.capacity_bytes.to_string()),
            ("when_full", format!("{when_full:?}"), format!("{:?}", asked.when_full)),
            ("retention", retention.to_string(), asked.retention.to_string()),
            ("ephemeral_lag", ephemeral_lag.to_string(), asked.ephemeral_lag.to_string()),
            ("dedup", format!("{dedup:?}"), format!("{:?}", asked.dedup)),
            ("expired", format!("{expired:?}"), format!("{:?}", asked.expired)),
            ("message_bytes", message_bytes.to_string(), asked.message_bytes.to_string()),
        ];
        let differing = pairs.into_iter().filter(|(_, is, asked)| is != asked);
        differing.map(|(key, is, asked)| format!("{key} is {is}, asked for is {asked}")).collect()
    }
}

fn one_of<T: Copy>(settings: &Settings, key: &str, given: &str, known: &[(&str, T)]) -> Result<T> {
    known.iter().find(|(word, _)| *word == given).map(|(_, value)| *value).ok_or_else(|| {
        let words: Vec<&str> = known.iter().map(|(word, _)| *word).collect();
        Error::new(
            ErrorKind::Config,
            format!("the value {given:?} of {key:?} in {} is not one of {}", settings.place(), words.join(", ")),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_is_taken_and_others_are_refused() {
        let all = [
            ("capacity", "5"),
            ("capacity_bytes", "6"),
            ("when_full", "refuse"),
            ("retention", "0"),
            ("ephemeral_lag", "8"),
            ("dedup", "1min"),
            ("expired", "dead_letter"),
            ("message_bytes", "9"),
        ];
        let options = DestinationOptions::default().with(Settings::new("here", all)).unwrap();
        assert_eq!(options.differences(&DestinationOptions::default()).len(), all.len());
        let error = DestinationOptions::default().with(Settings::new("here", [("capacty", "5")])).unwrap_err();
        assert!(error.text().contains("did you mean \"capacity\"?"), "{error}");
        let error = DestinationOptions::default().with(Settings::new("here", [("when_full", "drop")])).unwrap_err();
        assert!(error.text().contains("block, refuse"), "{error}");
    }
}
