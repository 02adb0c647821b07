//! Options of the memory broker, strict.

use std::time::Duration;

use messaging_core::{DestinationSettings, Expired, Order, Settings};

/// The fate of a publish to a full destination.
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
    /// Takes the keys that the broker and a destination both may have.
    pub(crate) fn take(&mut self, settings: &mut Settings) {
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
        let counts = [
            ("capacity", capacity, 1),
            ("capacity_bytes", capacity_bytes, 1),
            ("retention", retention, 0),
            ("ephemeral_lag", ephemeral_lag, 1),
            ("message_bytes", message_bytes, 1),
        ];
        for (key, place, least) in counts {
            if let Some(given) = settings.take_count(key, least..=u64::MAX) {
                *place = given;
            }
        }
        if let Some(given) =
            settings.take_word("when_full", &[("block", WhenFull::Block), ("refuse", WhenFull::Refuse)])
        {
            *when_full = given;
        }
        if let Some(window) = settings.take_duration("dedup") {
            *dedup = (!window.is_zero()).then_some(window);
        }
        let words = [("discard", Expired::Discarded), ("dead_letter", Expired::DeadLettered)];
        if let Some(given) = settings.take_word("expired", &words) {
            *expired = given;
        }
    }

    /// Takes the options of one destination over these.
    pub(crate) fn take_destination(&mut self, settings: &mut DestinationSettings) {
        self.take(&mut settings.driver);
        self.order = settings.order;
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

#[cfg(test)]
mod tests {
    use messaging_core::Result;

    use super::*;

    fn read(pairs: &[(&str, &str)]) -> Result<DestinationOptions> {
        let mut settings = Settings::new("here", pairs.iter().copied());
        let mut options = DestinationOptions::default();
        options.take(&mut settings);
        settings.finish().map(|()| options)
    }

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
        let options = read(&all).unwrap();
        assert_eq!(options.differences(&DestinationOptions::default()).len(), all.len());
        let error = read(&[("capacty", "5"), ("when_full", "drop")]).unwrap_err();
        assert!(error.text().contains("did you mean \"capacity\"?"), "{error}");
        assert!(error.text().contains("is none of block, refuse"), "{error}");
    }
}
