//! What stands between the writer and the broker: publishes that are being written, and those that wait for an answer.

use std::future::Future;
use std::task::{Context, Poll};

use lapin::Confirmation;
use messaging_core::{ErrorKind, ErrorOutcome};
use tokio::time::Instant;

use super::PendingPublish;
use super::confirms::{Answer, Confirms, Unconfirmed};
use super::writes::{Unwritten, Write, Writes};
use crate::error::{Call, from_lapin};

/// The most publishes that wait on one channel: a confirm of many looks at each of them in the client.
const CONFIRMS_MAX: usize = 5_000;

/// The publishes of one channel.
pub(super) struct Pipeline<C> {
    writes: Writes<C>,
    confirms: Confirms<C>,
}

/// What became of publishes.
#[derive(Default)]
pub(super) struct News {
    pub(super) answers: Vec<Answer>,
    /// What never left, in order.
    pub(super) unsent: Vec<PendingPublish>,
    /// Why the channel cannot be used any more.
    pub(super) broken: Option<String>,
}

impl<C> Default for Pipeline<C> {
    fn default() -> Self {
        Self { writes: Writes::default(), confirms: Confirms::default() }
    }
}

impl<C: Future<Output = lapin::Result<Confirmation>> + Unpin> Pipeline<C> {
    /// Begins to write a publish.
    pub(super) fn begin(&mut self, waiting: Unconfirmed, write: Write<C>) {
        self.writes.begin(waiting, write);
    }

    /// Waits for something to become of what is under way.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>, news: &mut News) -> Poll<()> {
        let mut moved = self.writes.poll_last(cx).is_ready() && self.move_written(cx, news);
        self.confirms.look(cx.waker());
        while self.confirms.has_resolved() && self.move_written(cx, news) {
            // One that was written meanwhile may have been answered before those, with a return of theirs.
            moved = true;
            self.confirms.look(cx.waker());
        }
        self.confirms.answer(&mut news.answers);
        if moved || !news.answers.is_empty() { Poll::Ready(()) } else { Poll::Pending }
    }

    /// Lets those wait for their answers that are written. Returns whether there are any.
    fn move_written(&mut self, cx: &mut Context<'_>, news: &mut News) -> bool {
        let mut moved = false;
        while let Poll::Ready(Some((waiting, written))) = self.writes.poll_oldest(cx) {
            moved = true;
            match written {
                Ok(confirm) => self.confirms.push(waiting, confirm),
                Err(unwritten) => news.add(waiting, unwritten),
            }
        }
        moved
    }
}

impl<C> Pipeline<C> {
    pub(super) fn is_empty(&self) -> bool {
        self.writes.is_empty() && self.confirms.len() == 0
    }

    pub(super) fn is_writing(&self) -> bool {
        !self.writes.is_empty()
    }

    /// Whether there is room for more: one batch is written at a time, so that what the broker does not read stays here, where
    /// it is known not to be sent.
    pub(super) fn may_write(&self) -> bool {
        self.writes.is_empty() && self.confirms.len() < CONFIRMS_MAX
    }

    /// Whether the connection takes no messages.
    pub(super) fn is_stuck(&self, now: Instant) -> bool {
        self.writes.is_late(now)
    }

    /// Whether too many run out of time for the channel to be sound, where so many may be in flight.
    pub(super) fn is_silent(&self, in_flight: usize) -> bool {
        self.confirms.expired() > in_flight.clamp(1_000, CONFIRMS_MAX / 2)
    }

    /// Those whose time is up, each once: others that were written with them go on.
    pub(super) fn expire(&mut self, now: Instant, mut told: impl FnMut(u64)) {
        self.writes.iter_mut().filter_map(|waiting| waiting.expire(now).then_some(waiting.ticket)).for_each(&mut told);
        self.confirms.expire(now, told);
    }

    /// Gives up on all.
    pub(super) fn give_up(&mut self) -> impl Iterator<Item = Unconfirmed> {
        self.confirms.give_up().chain(self.writes.give_up())
    }
}

impl News {
    fn add(&mut self, waiting: Unconfirmed, unwritten: Unwritten) {
        let Unwritten { error, publish } = unwritten;
        let error = from_lapin(&error, Call::Publish);
        self.broken.get_or_insert_with(|| error.text().to_owned());
        // Whoever was told that it is not known what became of it may have sent it again.
        if error.outcome() == ErrorOutcome::NotSent && error.kind() == ErrorKind::Disconnected && !waiting.expired {
            self.unsent.push(publish);
        } else {
            self.answers.push((waiting, Err(error)));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::Pin;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::{Wake, Waker};
    use std::time::Duration;

    use lapin::message::{BasicReturnMessage, Delivery};
    use lapin::{BasicProperties, ChannelState};
    use messaging_core::{Message, MessageId};
    use tokio::sync::oneshot;

    use super::super::Recipient;
    use super::*;

    type Said = lapin::Result<Confirmation>;
    type Confirm = Pin<Box<dyn Future<Output = Said> + Send>>;

    /// What a client would do for one publish.
    struct Client {
        write: oneshot::Sender<Result<(), lapin::Error>>,
        confirm: oneshot::Sender<Said>,
        id: MessageId,
    }

    #[derive(Default)]
    struct Wakes(AtomicUsize);

    impl Wake for Wakes {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    #[derive(Default)]
    struct Bench {
        pipeline: Pipeline<Confirm>,
        news: News,
        wakes: Arc<Wakes>,
        tickets: u64,
    }

    impl Bench {
        fn publish(&mut self, until: Instant) -> Client {
            let message = Message::new("x");
            let id = message.id().clone();
            let ticket = self.tickets;
            self.tickets += 1;
            let publish = PendingPublish { message, recipient: Recipient::Own, ticket, until };
            let waiting = Unconfirmed {
                ticket,
                until,
                id: Some(id.clone()),
                routing_key: None,
                dead_letter_of: None,
                trusted_from: None,
                expired: false,
            };
            let (write, written) = oneshot::channel();
            let (confirm, confirmed) = oneshot::channel::<Said>();
            let confirmed: Confirm = Box::pin(async move { confirmed.await.unwrap() });
            let writing: Write<Confirm> = Box::pin(async move {
                match written.await.unwrap() {
                    Ok(()) => Ok(confirmed),
                    Err(error) => Err(Unwritten { error, publish }),
                }
            });
            self.pipeline.begin(waiting, writing);
            Client { write, confirm, id }
        }

        fn poll(&mut self) -> Poll<()> {
            let waker = Waker::from(self.wakes.clone());
            self.pipeline.poll(&mut Context::from_waker(&waker), &mut self.news)
        }

        fn wakes(&self) -> usize {
            self.wakes.0.load(Ordering::SeqCst)
        }

        /// The tickets that were answered, each with what was wrong.
        fn answers(&mut self) -> Vec<(u64, Option<ErrorKind>)> {
            let answers = self.news.answers.drain(..);
            answers.map(|(waiting, result)| (waiting.ticket, result.err().map(|error| error.kind()))).collect()
        }
    }

    fn later() -> Instant {
        Instant::now() + Duration::from_secs(60)
    }

    fn ack() -> Said {
        Ok(Confirmation::Ack(None))
    }

    fn ack_with_return_of(id: &MessageId) -> Said {
        let mut delivery = Delivery::mock(0, "".into(), "gone".into(), false, Vec::new());
        delivery.properties = BasicProperties::default().with_message_id(id.to_string().into());
        Ok(Confirmation::Ack(Some(BasicReturnMessage { delivery, reply_code: 312, reply_text: "NO_ROUTE".into() })))
    }

    fn channel_is_closed() -> lapin::Error {
        lapin::ErrorKind::InvalidChannelState(ChannelState::Closed, "basic.publish").into()
    }

    #[test]
    fn one_past_its_time_leaves_those_alone_that_are_written_with_it() {
        let mut bench = Bench::default();
        let now = Instant::now();
        let clients = [bench.publish(later()), bench.publish(now), bench.publish(later())];
        assert!(bench.poll().is_pending());
        assert!(bench.pipeline.is_writing() && !bench.pipeline.is_stuck(now));

        let mut told = Vec::new();
        bench.pipeline.expire(now, |ticket| told.push(ticket));
        bench.pipeline.expire(now, |ticket| told.push(ticket));
        assert_eq!(told, [1]);
        let confirms = clients.map(|client| {
            client.write.send(Ok(())).unwrap();
            client.confirm
        });
        assert!(bench.poll().is_ready() && bench.pipeline.may_write());
        bench.pipeline.expire(now, |ticket| told.push(ticket));
        assert_eq!(told, [1]);
        confirms.into_iter().for_each(|confirm| confirm.send(ack()).unwrap());
        assert!(bench.poll().is_ready());

        assert_eq!(bench.answers(), [(0, None), (1, None), (2, None)]);
        assert!(bench.news.broken.is_none() && bench.pipeline.is_empty());
    }

    #[test]
    fn the_first_in_time_is_the_first_that_is_stuck() {
        let mut bench = Bench::default();
        let now = Instant::now();
        let _client = bench.publish(now);
        assert!(bench.pipeline.is_stuck(now) && !bench.pipeline.may_write());
    }

    #[test]
    fn an_answer_waits_for_no_other() {
        let mut bench = Bench::default();
        let [first, second] = [bench.publish(later()), bench.publish(later())];
        first.write.send(Ok(())).unwrap();
        second.write.send(Ok(())).unwrap();
        assert!(bench.poll().is_ready() && bench.poll().is_pending());
        let before = bench.wakes();

        second.confirm.send(ack()).unwrap();
        assert_eq!(bench.wakes(), before + 1);
        assert!(bench.poll().is_ready());
        assert_eq!(bench.answers(), [(1, None)]);

        // Its place is another's now, whose waker rings too.
        let third = bench.publish(later());
        third.write.send(Ok(())).unwrap();
        assert!(bench.poll().is_ready() && bench.poll().is_pending());
        third.confirm.send(ack()).unwrap();
        first.confirm.send(ack()).unwrap();
        assert!(bench.poll().is_ready());
        assert_eq!(bench.answers(), [(2, None), (0, None)]);
        assert!(bench.poll().is_pending() && bench.pipeline.is_empty());
    }

    #[test]
    fn a_return_is_found_that_hangs_on_another_confirm() {
        let mut bench = Bench::default();
        let [lost, carrier] = [bench.publish(later()), bench.publish(later())];
        lost.write.send(Ok(())).unwrap();
        carrier.write.send(Ok(())).unwrap();
        assert!(bench.poll().is_ready());

        carrier.confirm.send(ack_with_return_of(&lost.id)).unwrap();
        lost.confirm.send(ack()).unwrap();
        assert!(bench.poll().is_ready());

        let mut answers = bench.answers();
        answers.sort_by_key(|(ticket, _)| *ticket);
        assert_eq!(answers, [(0, Some(ErrorKind::Unroutable)), (1, None)]);
    }

    #[test]
    fn a_return_is_found_that_hangs_on_one_of_a_batch_that_is_being_written() {
        let mut bench = Bench::default();
        let lost = bench.publish(later());
        lost.write.send(Ok(())).unwrap();
        assert!(bench.poll().is_ready());
        let carrier = bench.publish(later());
        let _unwritten = bench.publish(later());
        assert!(bench.poll().is_pending());

        carrier.write.send(Ok(())).unwrap();
        carrier.confirm.send(ack_with_return_of(&lost.id)).unwrap();
        lost.confirm.send(ack()).unwrap();
        assert!(bench.poll().is_ready());

        let mut answers = bench.answers();
        answers.sort_by_key(|(ticket, _)| *ticket);
        assert_eq!(answers, [(0, Some(ErrorKind::Unroutable)), (1, None)]);
        assert!(bench.pipeline.is_writing());
    }

    #[test]
    fn what_never_left_comes_back_in_order_and_what_may_have_left_does_not() {
        let mut bench = Bench::default();
        let [first, second, third] = [bench.publish(later()), bench.publish(later()), bench.publish(later())];
        first.write.send(Err(lapin::ErrorKind::MissingHeartbeatError.into())).unwrap();
        second.write.send(Err(channel_is_closed())).unwrap();
        assert!(bench.poll().is_pending());
        third.write.send(Err(channel_is_closed())).unwrap();
        assert!(bench.poll().is_ready());

        assert_eq!(bench.answers(), [(0, Some(ErrorKind::Disconnected))]);
        let unsent: Vec<u64> = bench.news.unsent.iter().map(|publish| publish.ticket).collect();
        assert_eq!(unsent, [1, 2]);
        assert!(bench.news.broken.is_some() && bench.pipeline.is_empty());
    }

    #[test]
    fn whoever_was_told_that_it_is_not_known_is_not_sent_again() {
        let mut bench = Bench::default();
        let now = Instant::now();
        let client = bench.publish(now);
        bench.pipeline.expire(now, drop);
        client.write.send(Err(channel_is_closed())).unwrap();
        assert!(bench.poll().is_ready());
        assert!(bench.news.unsent.is_empty());
        assert_eq!(bench.answers(), [(0, Some(ErrorKind::Disconnected))]);
    }

    #[test]
    fn what_is_given_up_is_named() {
        let mut bench = Bench::default();
        let [waits, _writing] = [bench.publish(later()), bench.publish(later())];
        waits.write.send(Ok(())).unwrap();
        assert!(bench.poll().is_pending());
        let left: Vec<u64> = bench.pipeline.give_up().map(|waiting| waiting.ticket).collect();
        assert_eq!(left, [0, 1]);
        assert!(bench.pipeline.is_empty() && bench.pipeline.may_write());
    }
}
