//! Mutants that say what they cannot do, or do not say what they can.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use messaging_conformance::intercept::Intercept;
use messaging_core::spi::Permit;
use messaging_core::{
    Broker, Capabilities, ConsumeOptions, Consumer, Destination, Error, ErrorKind, Feature, HealthState, Message,
    Outcome, Place, PublishOptions, Publisher, QueueName, Receipt, Result, RetryPlace,
};

use crate::mutants;
use crate::stage::Faithful;

mutants! {
    does_what_it_does_not_declare, K1_undeclared_is_refused, |_| declares(|truth| truth.without(Feature::Priority, "not here"));
    does_more_than_its_limits, K1_one_past_each_limit_is_refused, |_| declares(|mut truth| {
        truth.limits.prefetch = 10;
        truth
    });
    takes_more_headers_than_its_limit, H8_reserved_header_names, |_| declares(|mut truth| {
        truth.limits.headers = 30;
        truth
    });
    delays_longer_than_its_limit, T2_beyond_the_maximum_is_refused, |_| declares(|mut truth| {
        truth.limits.publish_delay = Duration::from_secs(1);
        truth
    });
    asks_the_broker_before_it_refuses, K1_refused_without_the_broker, |_| Arc::new(AsksFirst);
    refuses_what_it_declares, K2_declared_does_something, |_| Arc::new(RefusesDelays);
    answers_otherwise_than_pinned, K4_answers_are_pinned, |_| declares(|mut truth| {
        truth.limits.headers += 1;
        truth
    });
    contradicts_itself, K4_answers_are_pinned, |_| declares(|truth| truth.without(Feature::DeadLetter, "none"));
    offers_less_than_the_floor, K4_at_least_the_floor, |_| declares(|truth| truth.without(Feature::Priority, "too hard"));
    makes_up_for_what_should_be_native, K4_at_least_the_floor, |_| declares(|truth| truth.with_emulated(Feature::Ttl, "by hand"));
    lies_about_the_message_size, H5_a_message_at_the_limit, |_| declares(|mut truth| {
        truth.limits.message_bytes = 1024 * 1024;
        truth
    }), SmallServer;
    lies_about_the_place_after_a_retry, O4_place_after_a_retry, |_| declares(|mut truth| {
        truth.retry_place = RetryPlace::Head;
        truth
    });
    passes_over_unknown_keys, E3_options_that_cannot_be_followed, |_| Arc::new(Faithful), AnySetting;
    refuses_long_names, E1_names, |_| Arc::new(RefusesLongNames);
}

#[derive(Debug)]
struct Declares(fn(Capabilities) -> Capabilities);

fn declares(how: fn(Capabilities) -> Capabilities) -> Arc<dyn Intercept> {
    Arc::new(Declares(how))
}

impl Intercept for Declares {
    fn capabilities(&self, truth: Capabilities, _of: Place<'_>) -> Capabilities {
        (self.0)(truth)
    }
}

#[derive(Debug)]
struct AsksFirst;

#[async_trait]
impl Intercept for AsksFirst {
    async fn consume(&self, inner: &Arc<dyn Broker>, queue: &QueueName, options: ConsumeOptions) -> Result<Consumer> {
        if inner.health().state == HealthState::Down {
            return Err(Error::new(ErrorKind::Unreachable, "the server is stopped"));
        }
        inner.consume(queue, options).await
    }
}

#[derive(Debug)]
struct RefusesDelays;

impl Intercept for RefusesDelays {
    fn send_many(&self, to: &Arc<dyn Publisher>, messages: Vec<Message>, permit: Permit) -> Vec<Outcome<Receipt>> {
        if messages.iter().all(|message| message.delay().is_none()) {
            return to.send_many(messages, permit);
        }
        let refused = || Outcome::ready(Err(Error::new(ErrorKind::Unsupported, "delays are not for today")));
        messages.iter().map(|_| refused()).collect()
    }
}

#[derive(Debug)]
struct RefusesLongNames;

#[async_trait]
impl Intercept for RefusesLongNames {
    async fn publisher(
        &self,
        inner: &Arc<dyn Broker>,
        to: &Destination,
        options: PublishOptions,
    ) -> Result<Arc<dyn Publisher>> {
        if to.to_string().len() > 56 {
            return Err(Error::new(ErrorKind::InvalidName, "too long for this broker"));
        }
        inner.publisher(to, options).await
    }
}
