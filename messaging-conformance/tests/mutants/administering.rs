//! Mutants that administer, ask and answer wrongly.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use messaging_conformance::intercept::Intercept;
use messaging_core::{
    Admin, Broker, Browsed, DeadLetter, Delivery, Depth, Destination, Message, Part, PublishOptions, PublisherExt,
    QueueName, Redrive, Requester, Result, Source, SourcePosition, SubscriptionName, TopicName, Transaction, Unsettled,
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
    gives_up_on_requests_early, RR2_a_request_times_out, |_| Arc::new(Asks(Wrong::HalfTime));
    does_not_count_late_replies, RR3_a_late_reply_is_dropped_and_counted, |_| Arc::new(Asks(Wrong::NoCount));
    correlates_a_hundred_as_one, RR4_a_hundred_at_once, |_| Arc::new(Asks(Wrong::Correlation));
    sends_before_the_commit, I5_transactions_are_all_or_nothing, |_| Arc::new(SendsAtOnce);
}

#[derive(Debug)]
struct DeadTwice;

#[async_trait]
impl Intercept for DeadTwice {
    async fn dead_letters(&self, admin: &dyn Admin, source: &Source, max: usize) -> Result<Vec<DeadLetter>> {
        let letters = admin.dead_letters(source, max).await?;
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
            for letter in inner.admin().dead_letters(source, 100).await? {
                publisher.publish(letter.message).await?;
            }
        }
        inner.admin().redrive(source, which).await
    }
}

/// The second redrive counts, and brings nothing: a deduplication window took it for the first.
#[derive(Debug)]
struct OneRedrive(AtomicUsize);

#[async_trait]
impl Intercept for OneRedrive {
    async fn redrive(&self, inner: &Arc<dyn Broker>, source: &Source, which: Redrive) -> Result<u64> {
        if self.0.fetch_add(1, Ordering::Relaxed) == 1 {
            return Ok(inner.admin().purge(source, Part::Dead).await?.unwrap_or(1));
        }
        inner.admin().redrive(source, which).await
    }
}

#[derive(Debug)]
struct ForgetsDelayed;

#[async_trait]
impl Intercept for ForgetsDelayed {
    async fn depth(&self, admin: &dyn Admin, source: &Source) -> Result<Depth> {
        Ok(Depth { delayed: Some(0), ..admin.depth(source).await? })
    }
}

#[derive(Debug)]
struct AllReady;

#[async_trait]
impl Intercept for AllReady {
    async fn depth(&self, admin: &dyn Admin, source: &Source) -> Result<Depth> {
        let depth = admin.depth(source).await?;
        Ok(Depth { ready: depth.ready + depth.unsettled.unwrap_or(0), unsettled: Some(0), ..depth })
    }
}

#[derive(Debug)]
struct LagsByReady;

#[async_trait]
impl Intercept for LagsByReady {
    async fn lag(&self, admin: &dyn Admin, source: &Source) -> Result<u64> {
        Ok(admin.depth(source).await?.ready)
    }
}

#[derive(Debug)]
struct Disturbs(AtomicUsize);

#[async_trait]
impl Intercept for Disturbs {
    async fn browse(&self, admin: &dyn Admin, source: &Source, max: usize) -> Result<Vec<Browsed>> {
        self.0.fetch_add(1, Ordering::Relaxed);
        admin.browse(source, max).await
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
    async fn positions(&self, admin: &dyn Admin, source: &Source) -> Result<Vec<SourcePosition>> {
        let mut positions = admin.positions(source).await?;
        positions.iter_mut().for_each(|position| position.committed = position.current);
        Ok(positions)
    }
}

#[derive(Debug)]
struct StaysSubscribed;

#[async_trait]
impl Intercept for StaysSubscribed {
    async fn unsubscribe(&self, _admin: &dyn Admin, _topic: &TopicName, _name: &SubscriptionName) -> Result<()> {
        Ok(())
    }
}

/// What a requester does wrong.
#[derive(Clone, Copy, Debug)]
enum Wrong {
    Correlation,
    HalfTime,
    NoCount,
}

#[derive(Debug)]
struct Asks(Wrong);

#[derive(Debug)]
struct Asking(Arc<dyn Requester>, Wrong);

#[async_trait]
impl Intercept for Asks {
    async fn requester(&self, inner: &Arc<dyn Broker>) -> Result<Arc<dyn Requester>> {
        Ok(Arc::new(Asking(inner.requester().await?, self.0)))
    }
}

#[async_trait]
impl Requester for Asking {
    async fn request(&self, to: &QueueName, request: Message, timeout: Duration) -> Result<Message> {
        match self.1 {
            Wrong::Correlation => {
                self.0.request(to, request.to_builder().correlation_id("any").build()?, timeout).await
            }
            Wrong::HalfTime => self.0.request(to, request, timeout / 2).await,
            Wrong::NoCount => self.0.request(to, request, timeout).await,
        }
    }

    fn late_replies(&self) -> u64 {
        if matches!(self.1, Wrong::NoCount) { 0 } else { self.0.late_replies() }
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
            drop(publisher?.send(message, messaging_core::Room::none()));
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
