//! What the client says between two polls: the group's events, lost connections, a log that was cut off, a topic that is gone.

use std::time::{Duration, Instant};

use messaging_core::{ErrorKind, Event};
use rdkafka::consumer::Consumer as _;
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::metadata::MetadataTopic;

use super::{PATIENCE, SIGN_OF_LIFE, Worker};
use crate::config::GroupProtocol;
use crate::consumer::group::{GroupEvent, Heard};
use crate::consumer::intake::End;
use crate::consumer::offsets;
use crate::error::{code_of, from_code, from_kafka, is_passing};
use crate::raw::remind_of_servers;

impl Worker {
    /// Acts on what the client said meanwhile.
    pub(super) fn hear(&mut self) {
        let Heard { group, commits, is_cut, is_disturbed, is_in_doubt, is_fatal } = self.ear.listen();
        // An ephemeral subscription loses nothing with a connection that it does not read from.
        if is_cut {
            *self.intake.lost.lock() = Some(Instant::now());
        }
        if is_cut || is_disturbed && self.intake.settings.source.is_some() {
            self.note_cut();
        }
        for result in commits {
            self.committing = None;
            self.note_commit(result.map_err(|error| from_kafka(offsets::NOT_COMMITTED, &error)));
        }
        if !group.is_empty() {
            // The client pauses while the group shares out, and may lose its own word of a partition where it stopped.
            self.doubt_all();
        }
        for event in group {
            match event {
                GroupEvent::Assigned(places) => {
                    if self.intake.progress.borrow().has_joined {
                        self.intake.tell(Event::Rebalanced);
                    }
                    self.joining.retain(|place| !places.contains(place));
                    self.joining.extend(places);
                    self.join();
                }
                GroupEvent::Revoked(places) => {
                    self.intake.tell(Event::Rebalanced);
                    self.joining.retain(|place| !places.contains(place));
                    self.begin_to_leave(places);
                }
            }
        }
        if !self.joining.is_empty() && self.join_again.is_some_and(|at| Instant::now() >= at) {
            self.join();
        }
        if is_in_doubt {
            self.check_topic();
        }
        if is_fatal {
            self.end_for_good();
        }
    }

    /// The client cannot go on.
    pub(super) fn end_for_good(&mut self) {
        let (code, reason) = self.client.client().fatal_error().unwrap_or((Code::Fatal, String::new()));
        let is_unknown = matches!(code, Code::UnsupportedFeature | Code::UnsupportedVersion);
        if is_unknown && self.protocol == GroupProtocol::Auto && !self.intake.progress.borrow().has_joined {
            self.is_refused = true;
            return;
        }
        let error = from_code("the consumer cannot go on", code);
        self.intake.end(End::new(error.kind(), format!("{} ({reason})", error.text())));
    }

    pub(super) fn hear_trouble(&mut self, error: &KafkaError) {
        let Some(code) = code_of(error) else { return };
        if matches!(error, KafkaError::MessageConsumptionFatal(_)) {
            return self.end_for_good();
        }
        match code {
            Code::UnknownTopicOrPartition | Code::UnknownTopic | Code::UnknownPartition => self.check_topic(),
            Code::AutoOffsetReset | Code::OffsetOutOfRange => self.doubt_all(),
            Code::TopicAuthorizationFailed | Code::GroupAuthorizationFailed => {
                let error = from_code("the consumer cannot go on", code);
                self.intake.end(End::new(error.kind(), error.text()));
            }
            code if is_passing(code) => {
                if matches!(code, Code::BrokerTransportFailure | Code::AllBrokersDown) {
                    self.note_cut();
                }
            }
            code => tracing::warn!(target: "messaging::kafka", %code, "a poll failed"),
        }
    }

    /// Ends the consumer if its topic is gone, or not for it.
    pub(super) fn check_topic(&mut self) {
        let main = &self.intake.settings.topics.main;
        let Ok(metadata) = self.client.fetch_metadata(Some(main), offsets::ASK) else { return };
        let is_forbidden =
            |topic: &MetadataTopic| topic.error().map(Code::from) == Some(Code::TopicAuthorizationFailed);
        if metadata.topics().iter().any(is_forbidden) {
            let error = from_code("the consumer cannot go on", Code::TopicAuthorizationFailed);
            return self.intake.end(End::new(error.kind(), error.text()));
        }
        let is_gone = metadata.topics().iter().all(|topic| topic.error().is_some() || topic.partitions().is_empty());
        if is_gone {
            let text = format!("topic {main:?} was deleted while it was consumed: create it and consume again");
            self.intake.end(End::new(ErrorKind::NotFound, text));
        }
    }

    /// Whether the client still knows a broker: it may have forgotten all without a connection that fails.
    pub(super) fn look_at_the_client(&mut self) {
        if self.probed.elapsed() < SIGN_OF_LIFE {
            return;
        }
        self.probed = Instant::now();
        if self.remind() {
            self.note_cut();
        }
    }

    fn note_cut(&mut self) {
        if !self.is_cut {
            self.is_cut = true;
            self.intake.tell(Event::Disconnected);
        }
    }

    fn remind(&self) -> bool {
        remind_of_servers(self.client.client().native_ptr(), self.intake.settings.connection.options.servers())
    }

    /// After a connection was lost: asks until the broker answers.
    pub(super) fn look_for_the_broker(&mut self) {
        if self.probed.elapsed() < PATIENCE {
            return;
        }
        self.probed = Instant::now();
        let main = self.intake.settings.topics.main.clone();
        let answer = self.client.fetch_metadata(Some(&main), Duration::from_millis(500));
        // A broker that goes down or comes up in order answers for a while, and names nobody, not even itself.
        if !answer.is_ok_and(|metadata| !metadata.brokers().is_empty()) {
            self.remind();
            return;
        }
        self.is_cut = false;
        if self.intake.settings.source.is_none() {
            self.skip_what_was_missed();
        }
        self.intake.tell(Event::Reconnected);
    }

    /// An ephemeral subscription sees nothing from while it was cut off, and says how much that was.
    pub(super) fn skip_what_was_missed(&mut self) {
        let mut missed = u64::try_from(self.intake.discard()).unwrap_or(0);
        let mut ends = Vec::new();
        for (place, held) in &self.held {
            let Ok((_, end)) = offsets::watermarks(&self.client, place) else { continue };
            let at = held.partition.read_to();
            missed += u64::try_from(end - at).unwrap_or(0);
            ends.push((place.clone(), end.max(at)));
        }
        if let Err(error) = self.restart_at(&ends) {
            tracing::warn!(target: "messaging::kafka", %error, "cannot go on at the end");
        }
        self.intake.tell(Event::Gap { missed: Some(missed) });
    }
}
