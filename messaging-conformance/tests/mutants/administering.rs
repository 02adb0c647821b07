//! Mutants that administer, ask and answer wrongly.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use async_trait::async_trait;
use messaging_conformance::intercept::Intercept;
use messaging_core::spi::{Inbox, Permit, PublisherCore, Replies, Unsettled};
use messaging_core::{
    Broker, Browsed, DeadLetter, Delivery, Depth, Destination, Inspect, Message, Outcome, Part, PublishOptions,
    Publisher, PublisherExt, QueueName, Receipt, Redrive, Repair, ReplyAddress, Result, Source, SourcePosition,
    SubscriptionName, TopicName, Transaction,
};

use crate::mutants;

mutants! {
    dead_letters_twice, D1_one_copy_after_the_attempts, |_| Arc::new(DeadTwice);
    redrives_to_everyone, D5_redrive_goes_back_to_its_source, |_| Arc::new(RedrivesToAll);
    swallows_a_second_redrive, D8_dead_again_after_a_redrive, |_| Arc::new(OneRedrive(AtomicUsize::new(0)));
    depth_forgets_the_delayed, I1_depth_agrees, |_| Arc::new(ForgetsDelayed);
    depth_counts_the_unsettled_as_ready, I1_depth_agrees, |_| Arc::new(AllReady);
    lag_forgets_the_unsettled, I1_lag_agrees, |_| Arc::new(LagsByReady);
    browsing_counts_as_a_delivery, I2_browsing_changes_nothing, |_| Arc::new(Disturbs(AtomicUsize::new(0)));
    commits_what_was_only_read, I4_current_and_committed, |_| Arc::new(CommitsRead);
    commits_past_a_gap, R6_committed_is_the_lowest_open, |_| Arc::new(CommitsRead);
    unsubscribing_does_nothing, S6_unsubscribe_stops, |_| Arc::new(StaysSubscribed);
    unsubscribing_is_not_told, X4_unsubscribed_under_us, |_| Arc::new(StaysSubscribed);
    answers_any_request, RR1_replies_find_their_requests, |_| Arc::new(Asks(Wrong::Correlation));
    gives_up_on_requests_early, RR2_a_request_times_out, |_| Arc::new(Asks(Wrong::Hangup));
    does_not_count_late_replies, RR3_a_late_reply_is_dropped_and_counted, |_| Arc::new(Asks(Wrong::Elsewhere));
    correlates_a_hundred_as_one, RR4_a_hundred_at_once, |_| Arc::new(Asks(Wrong::Correlation));
    sends_before_the_commit, I5_transactions_are_all_or_nothing, |_| Arc::new(SendsAtOnce);
}

#[derive(Debug)]
struct DeadTwice;

#[async_trait]
impl Intercept for DeadTwice {
    async fn dead_letters(&self, inspect: &dyn Inspect, source: &Source, max: usize) -> Result<Vec<DeadLetter>> {
        let letters = inspect.dead_letters(source, max).await?;
        Ok(letters.into_iter().flat_map(|letter| [letter.clone(), letter]).collect())
    }
}

/// A redrive publishes to the topic again, and every subscription sees it.
#[derive(Debug)]
struct RedrivesToAll;

#[async_trait]
impl Intercept for RedrivesToAll {
    async fn redrive(&self, inner: &Arc<dyn Broker>, source: &Source, which: Redrive) -> Result<u64> {
        if let Source::Subscription(topic, _) = source {
            let to = Destination::Topic(topic.clone());
            let publisher = inner.publisher(&to, PublishOptions::default()).await?;
            for letter in inner.inspect().dead_letters(source, 100).await? {
                publisher.publish(letter.message).await?;
            }
        }
        inner.repair().redrive(source, which).await
    }
}

/// The second redrive counts, and brings nothing: a deduplication window took it for the first.
#[derive(Debug)]
struct OneRedrive(AtomicUsize);

#[async_trait]
impl Intercept for OneRedrive {
    async fn redrive(&self, inner: &Arc<dyn Broker>, source: &Source, which: Redrive) -> Result<u64> {
        if self.0.fetch_add(1, Ordering::Relaxed) == 1 {
            return Ok(inner.repair().purge(source, Part::Dead).await?.unwrap_or(1));
        }
        inner.repair().redrive(source, which).await
    }
}

#[derive(Debug)]
struct ForgetsDelayed;

#[async_trait]
impl Intercept for ForgetsDelayed {
    async fn depth(&self, inspect: &dyn Inspect, source: &Source) -> Result<Depth> {
        Ok(Depth { delayed: Some(0), ..inspect.depth(source).await? })
    }
}

#[derive(Debug)]
struct AllReady;

#[async_trait]
impl Intercept for AllReady {
    async fn depth(&self, inspect: &dyn Inspect, source: &Source) -> Result<Depth> {
        let depth = inspect.depth(source).await?;
        Ok(Depth { ready: depth.ready + depth.unsettled.unwrap_or(0), unsettled: Some(0), ..depth })
    }
}

#[derive(Debug)]
struct LagsByReady;

#[async_trait]
impl Intercept for LagsByReady {
    async fn lag(&self, inspect: &dyn Inspect, source: &Source) -> Result<u64> {
        Ok(inspect.depth(source).await?.ready)
    }
}

#[derive(Debug)]
struct Disturbs(AtomicUsize);

#[async_trait]
impl Intercept for Disturbs {
    async fn browse(&self, inspect: &dyn Inspect, source: &Source, max: usize) -> Result<Vec<Browsed>> {
        self.0.fetch_add(1, Ordering::Relaxed);
        inspect.browse(source, max).await
    }

    fn received(&self, mut delivery: Unsettled) -> Unsettled {
        delivery.attempt += u32::try_from(self.0.load(Ordering::Relaxed)).unwrap_or(u32::MAX);
        delivery
    }
}

#[derive(Debug)]
struct CommitsRead;

#[async_trait]
impl Intercept for CommitsRead {
    async fn positions(&self, inspect: &dyn Inspect, source: &Source) -> Result<Vec<SourcePosition>> {
        let mut positions = inspect.positions(source).await?;
        positions.iter_mut().for_each(|position| position.committed = position.current);
        Ok(positions)
    }
}

#[derive(Debug)]
struct StaysSubscribed;

#[async_trait]
impl Intercept for StaysSubscribed {
    async fn unsubscribe(&self, _repair: &dyn Repair, _topic: &TopicName, _name: &SubscriptionName) -> Result<()> {
        Ok(())
    }
}

/// A fault of requests and replies.
#[derive(Clone, Copy, Debug)]
enum Wrong {
    /// Every request carries the correlation id of the first.
    Correlation,
    /// The broker drops the address as soon as a request was sent.
    Hangup,
    /// Replies arrive at an address that nobody reads.
    Elsewhere,
}

#[derive(Debug)]
struct Asks(Wrong);

#[derive(Debug)]
struct WrongReplies {
    inner: Arc<dyn Replies>,
    inbox: Arc<Inbox>,
    wrong: Wrong,
    first: Arc<OnceLock<String>>,
}

#[derive(Debug)]
struct WrongRequests {
    inner: Arc<dyn Publisher>,
    inbox: Arc<Inbox>,
    wrong: Wrong,
    first: Arc<OnceLock<String>>,
}

#[async_trait]
impl Intercept for Asks {
    async fn replies(&self, inner: &Arc<dyn Broker>, inbox: Arc<Inbox>) -> Result<Arc<dyn Replies>> {
        let read = if matches!(self.0, Wrong::Elsewhere) { Arc::default() } else { Arc::clone(&inbox) };
        let inner = inner.replies(Arc::clone(&read)).await?;
        let inbox = if matches!(self.0, Wrong::Elsewhere) { read } else { inbox };
        Ok(Arc::new(WrongReplies { inner, inbox, wrong: self.0, first: Arc::default() }))
    }
}

#[async_trait]
impl Replies for WrongReplies {
    fn address(&self) -> &ReplyAddress {
        self.inner.address()
    }

    async fn publisher(&self, to: &QueueName) -> Result<Arc<dyn Publisher>> {
        let inner = self.inner.publisher(to).await?;
        let (inbox, first) = (Arc::clone(&self.inbox), Arc::clone(&self.first));
        Ok(Arc::new(WrongRequests { inner, inbox, wrong: self.wrong, first }))
    }
}

impl Publisher for WrongRequests {
    fn core(&self) -> &PublisherCore {
        self.inner.core()
    }

    fn send(&self, message: Message, permit: Permit) -> Outcome<Receipt> {
        let message = match (self.wrong, message.correlation_id()) {
            (Wrong::Correlation, Some(id)) => {
                let first = self.first.get_or_init(|| id.to_owned());
                message.to_builder().correlation_id(first.as_str()).build_foreign()
            }
            _ => message,
        };
        let outcome = self.inner.send(message, permit);
        if matches!(self.wrong, Wrong::Hangup) {
            self.inbox.close();
        }
        outcome
    }
}

/// A transaction that sends as it goes.
#[derive(Debug)]
struct SendsAtOnce;

#[derive(Debug)]
struct AtOnce {
    inner: Box<dyn Transaction>,
    broker: Arc<dyn Broker>,
}

#[async_trait]
impl Intercept for SendsAtOnce {
    async fn begin(&self, inner: &Arc<dyn Broker>) -> Result<Box<dyn Transaction>> {
        Ok(Box::new(AtOnce { inner: inner.begin().await?, broker: Arc::clone(inner) }))
    }
}

#[async_trait]
impl Transaction for AtOnce {
    fn send(&mut self, to: &Destination, message: Message) -> Result<()> {
        let opening = futures_util::FutureExt::now_or_never(self.broker.publisher(to, PublishOptions::default()));
        if let Some(publisher) = opening {
            drop(publisher?.send(message, Permit::none()));
        }
        Ok(())
    }

    fn ack(&mut self, delivery: Delivery) {
        self.inner.ack(delivery);
    }

    async fn commit(self: Box<Self>) -> Result<()> {
        self.inner.commit().await
    }

    async fn rollback(self: Box<Self>) -> Result<()> {
        self.inner.rollback().await
    }
}
