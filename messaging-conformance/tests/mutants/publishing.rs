//! Mutants that publish wrongly.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use async_trait::async_trait;
use messaging_conformance::intercept::Intercept;
use messaging_core::spi::{Answers, Permit};
use messaging_core::{
    Broker, Destination, Error, ErrorKind, ErrorOutcome, Headers, Message, MessageBuilder, MessageId, NoSubscriber,
    Outcome, PublishOptions, Publisher, Receipt, Result,
};
use parking_lot::Mutex;

use crate::mutants;

mutants! {
    loses_one_in_a_hundred, P7_ten_thousand_at_once, |_| Arc::new(EachNth::new(100, Slip::Lost));
    loses_one_in_five_hundred, C1_fifty_publishers_twenty_consumers, |_| Arc::new(EachNth::new(500, Slip::Lost));
    duplicates_one_in_fifty, Q1_competing_consumers, |_| Arc::new(EachNth::new(50, Slip::Twice));
    duplicates_on_a_shared_handle, C2_one_handle_many_tasks, |_| Arc::new(EachNth::new(90, Slip::Twice));
    reorders_within_a_key, O1_one_producer_one_consumer_is_fifo, |_| Arc::new(EachNth::new(7, Slip::AfterTheNext));
    loses_one_in_a_batch_of_fifty, P1_ok_means_accepted_by_the_broker, |_| Arc::new(EachNth::new(40, Slip::Lost));
    forgets_a_header, H1_odd_header_names_and_values, |_| rewrites(|message| {
        let last = message.headers().names().last().map(str::to_owned);
        let mut headers = message.headers().clone();
        drop(last.and_then(|name| headers.remove(&name)));
        message.to_builder().headers(headers)
    });
    truncates_at_a_zero_byte, H2_binary_payload, |_| rewrites(|message| {
        let payload = message.payload();
        let end = payload.iter().position(|byte| *byte == 0).unwrap_or(payload.len());
        message.to_builder().payload(payload.slice(..end))
    });
    puts_a_space_into_an_empty_payload, H3_empty_payload, |_| rewrites(|message| {
        if message.payload().is_empty() { message.to_builder().payload(" ") } else { message.to_builder() }
    });
    keeps_ten_headers, H4_twenty_four_headers, |_| rewrites(|message| {
        let mut headers = Headers::new();
        for (name, value) in message.headers().iter().take(10) {
            headers.insert(messaging_core::HeaderName::from_foreign(name), value);
        }
        message.to_builder().headers(headers)
    });
    truncates_large_payloads, H5_a_message_at_the_limit, |_| rewrites(|message| {
        let end = message.payload().len().min(256 * 1024);
        message.to_builder().payload(message.payload().slice(..end))
    });
    makes_a_new_id, H6_the_id_is_stable, |_| rewrites(|message| message.to_builder().id(MessageId::generate()));
    forgets_the_type, H9_typed_properties, |_| rewrites(|message| {
        let kept = Message::builder(message.payload().clone()).id(message.id().clone()).timestamp(message.timestamp());
        message.subject().cloned().into_iter().fold(kept.headers(message.headers().clone()), MessageBuilder::subject)
    });
    ignores_the_delay, T1_delayed_publish_is_never_early, |_| rewrites(|message| message.to_builder().without_delay());
    delivers_early, T1_delayed_publish_is_never_early, |_| rewrites(|message| {
        message.delay().into_iter().fold(message.to_builder(), |built, delay| built.delay(delay / 2))
    });
    delays_everything_the_same, T5_due_order, |_| rewrites(|message| {
        let same = std::time::Duration::from_millis(200);
        message.delay().into_iter().fold(message.to_builder(), |built, _| built.delay(same))
    });
    expires_early, T4_live_within_its_time, |_| rewrites(|message| {
        message.ttl().into_iter().fold(message.to_builder(), |built, ttl| built.ttl(ttl / 2))
    });
    never_expires, T3_expired_is_never_delivered, |_| rewrites(|message| {
        let forever = std::time::Duration::from_secs(1_000_000);
        message.ttl().into_iter().fold(message.to_builder(), |built, _| built.ttl(forever))
    });
    takes_all_priorities_for_one, T6_higher_priorities_go_first, |_| rewrites(|message| message.to_builder().priority(4));
    turns_priorities_round, T6_higher_priorities_go_first, |_| rewrites(|message| {
        message.priority().into_iter().fold(message.to_builder(), |built, priority| built.priority(9 - priority))
    });
    says_ok_after_close, P5_after_close, |_| Arc::new(SaysOk(&[ErrorKind::Closed]));
    says_ok_to_what_is_too_large, P4_over_the_size_limit, |_| Arc::new(SaysOk(&[ErrorKind::TooLarge]));
    says_ok_though_the_place_is_missing, P3_missing_destination_by_topology, |_| Arc::new(SaysOk(&[ErrorKind::NotFound]));
    says_ok_though_the_queue_is_gone, X4_queue_removed_under_us, |_| Arc::new(SaysOk(&[ErrorKind::NotFound]));
    says_ok_through_an_outage, X5_publishing_through_an_outage, |_| {
        Arc::new(SaysOk(&[ErrorKind::Disconnected, ErrorKind::Unreachable]))
    };
    says_not_sent_where_it_is_unknown, P6_a_lost_answer_is_unknown, |_| Arc::new(ClaimsNotSent);
    waits_for_ever_in_a_black_hole, P6_deadline_in_a_black_hole, |_| Arc::new(WaitsForEver);
    accepts_what_reaches_nobody, P2_unroutable_as_declared, |_| Arc::new(AcceptsUnroutable);
    fails_a_batch_all_or_nothing, B3_one_bad_item, |_| Arc::new(AllOrNothing);
    shifts_batch_outcomes_by_one, B3_one_bad_item, |_| Arc::new(Shifted);
    cuts_a_batch_at_a_hundred, B2_above_the_batch_limit, |_| Arc::new(CutBatch(100));
    cuts_a_batch_at_fifty, B1_batch_round_trip, |_| Arc::new(CutBatch(50));
    never_frees_a_place_in_flight, C6_cancelled_publishes_harm_no_other, |_| Arc::new(KeepsRoom);
}

fn ok() -> Outcome<Receipt> {
    Outcome::ready(Ok(Receipt::default()))
}

#[derive(Clone, Copy, Debug)]
enum Slip {
    Lost,
    Twice,
    AfterTheNext,
}

/// Something goes wrong with each nth message.
#[derive(Debug)]
struct EachNth {
    n: usize,
    slip: Slip,
    count: AtomicUsize,
    stash: Mutex<Option<Message>>,
}

impl EachNth {
    fn new(n: usize, slip: Slip) -> Self {
        Self { n, slip, count: AtomicUsize::new(0), stash: Mutex::new(None) }
    }
}

impl Intercept for EachNth {
    fn send(&self, to: &Arc<dyn Publisher>, message: Message, permit: Permit) -> Outcome<Receipt> {
        let is_nth = self.count.fetch_add(1, Ordering::Relaxed) % self.n == self.n - 1;
        match self.slip {
            Slip::Lost if is_nth => return ok(),
            Slip::Twice if is_nth => drop(to.send(message.clone(), Permit::none())),
            Slip::AfterTheNext if is_nth => {
                *self.stash.lock() = Some(message);
                return ok();
            }
            _ => {}
        }
        let sent = to.send(message, permit);
        if let Some(late) = self.stash.lock().take() {
            drop(to.send(late, Permit::none()));
        }
        sent
    }

    fn send_many(&self, to: &Arc<dyn Publisher>, messages: Vec<Message>, _room: Permit) -> Vec<Outcome<Receipt>> {
        messages.into_iter().map(|message| self.send(to, message, Permit::none())).collect()
    }
}

/// Changes each message on its way.
#[derive(Debug)]
struct Rewrites(fn(&Message) -> MessageBuilder);

fn rewrites(how: fn(&Message) -> MessageBuilder) -> Arc<dyn Intercept> {
    Arc::new(Rewrites(how))
}

impl Intercept for Rewrites {
    fn send(&self, to: &Arc<dyn Publisher>, message: Message, permit: Permit) -> Outcome<Receipt> {
        to.send((self.0)(&message).build_foreign(), permit)
    }

    fn send_many(&self, to: &Arc<dyn Publisher>, messages: Vec<Message>, permit: Permit) -> Vec<Outcome<Receipt>> {
        to.send_many(messages.iter().map(|message| (self.0)(message).build_foreign()).collect(), permit)
    }
}

/// Takes errors of some kinds for success.
#[derive(Debug)]
struct SaysOk(&'static [ErrorKind]);

impl Intercept for SaysOk {
    fn send(&self, to: &Arc<dyn Publisher>, message: Message, permit: Permit) -> Outcome<Receipt> {
        match to.send(message, permit).try_take() {
            Ok(Err(error)) if self.0.contains(&error.kind()) => ok(),
            Ok(result) => Outcome::ready(result),
            Err(pending) => pending,
        }
    }
}

#[derive(Debug)]
struct ClaimsNotSent;

impl Intercept for ClaimsNotSent {
    fn send(&self, to: &Arc<dyn Publisher>, message: Message, permit: Permit) -> Outcome<Receipt> {
        to.send(message, permit).map_ready_err(|error| error.with_outcome(ErrorOutcome::NotSent))
    }
}

/// An answer that never comes.
#[derive(Debug)]
struct WaitsForEver;

impl Answers<Receipt> for WaitsForEver {
    fn poll_answer(&self, _ticket: u64, _cx: &mut Context<'_>) -> Poll<Result<Receipt>> {
        Poll::Pending
    }

    fn forget(&self, _ticket: u64) {}
}

impl Intercept for WaitsForEver {
    fn send(&self, to: &Arc<dyn Publisher>, message: Message, permit: Permit) -> Outcome<Receipt> {
        match to.send(message, permit).try_take() {
            Ok(result) => Outcome::ready(result),
            Err(_) => Outcome::pending(Arc::new(Self), 0),
        }
    }
}

#[derive(Debug)]
struct AcceptsUnroutable;

#[async_trait]
impl Intercept for AcceptsUnroutable {
    async fn publisher(
        &self,
        inner: &Arc<dyn Broker>,
        to: &Destination,
        options: PublishOptions,
    ) -> Result<Arc<dyn Publisher>> {
        inner.publisher(to, options.with_no_subscriber(NoSubscriber::Accept)).await
    }
}

#[derive(Debug)]
struct AllOrNothing;

impl Intercept for AllOrNothing {
    fn send_many(&self, to: &Arc<dyn Publisher>, messages: Vec<Message>, permit: Permit) -> Vec<Outcome<Receipt>> {
        let count = messages.len();
        let outcomes: Vec<_> = to.send_many(messages, permit).into_iter().map(Outcome::try_take).collect();
        if outcomes.iter().all(|outcome| matches!(outcome, Ok(Ok(_)))) {
            return (0..count).map(|_| ok()).collect();
        }
        (0..count).map(|_| Outcome::ready(Err(Error::new(ErrorKind::TooLarge, "the batch failed")))).collect()
    }
}

#[derive(Debug)]
struct Shifted;

impl Intercept for Shifted {
    fn send_many(&self, to: &Arc<dyn Publisher>, messages: Vec<Message>, permit: Permit) -> Vec<Outcome<Receipt>> {
        let mut outcomes = to.send_many(messages, permit);
        outcomes.rotate_right(1);
        outcomes
    }
}

/// Sends only the first so many of a batch, and says that all went well.
#[derive(Debug)]
struct CutBatch(usize);

impl Intercept for CutBatch {
    fn send_many(&self, to: &Arc<dyn Publisher>, mut messages: Vec<Message>, permit: Permit) -> Vec<Outcome<Receipt>> {
        let cut = messages.len().saturating_sub(self.0);
        messages.truncate(self.0);
        to.send_many(messages, permit).into_iter().chain((0..cut).map(|_| ok())).collect()
    }
}

#[derive(Debug)]
struct KeepsRoom;

impl Intercept for KeepsRoom {
    fn send(&self, to: &Arc<dyn Publisher>, message: Message, permit: Permit) -> Outcome<Receipt> {
        std::mem::forget(permit);
        to.send(message, Permit::none())
    }
}
