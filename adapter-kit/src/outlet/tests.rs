use std::collections::{BTreeMap, VecDeque};
use std::sync::Barrier;
use std::task::{Context, Poll, Wake, Waker};
use std::thread;
use std::time::Duration;

use messaging_core::spi::{Settler, Unsettled};
use messaging_core::{
    Acked, BrokerName, Capabilities, ConsumeOptions, Event, Feature, Message, Order, Outcome, RetryMode, Scope,
    Settlement,
};
use proptest::prelude::*;

use super::*;
use crate::due_queue::instant_after;
use crate::epoch::Epoch;

const LONG_WAIT: Duration = Duration::from_secs(3600);

/// Counts what the outlet asks of its feeder.
#[derive(Default)]
struct Counting {
    wakes: AtomicUsize,
    disowned: AtomicUsize,
    finished: AtomicUsize,
}

#[async_trait]
impl Feeder for Counting {
    fn wake(&self) {
        self.wakes.fetch_add(1, Ordering::SeqCst);
    }

    async fn flush(&self, _by: Instant) -> Result<()> {
        Ok(())
    }

    async fn finish(&self, _by: Instant) -> Finished {
        self.finished.fetch_add(1, Ordering::SeqCst);
        Finished { released: 1, ..Finished::default() }
    }

    fn disown(&self) {
        self.disowned.fetch_add(1, Ordering::SeqCst);
    }
}

/// One registration of a broker that keeps nothing itself, and the settler of its deliveries.
struct Registration {
    epoch: Epoch,
    outlet: Outlet<Item>,
    capabilities: Capabilities,
    expired: AtomicUsize,
    given_back: AtomicUsize,
}

impl Registration {
    fn item(self: &Arc<Self>, tag: u64, key: &str) -> Item {
        let message = Message::builder(vec![0; 10]).key(key).build().unwrap();
        let unsettled = Unsettled { message, tag, attempt: 1, redriven: 0, position: None };
        Item { unsettled, expires: None, of: Arc::clone(self) }
    }

    /// Reads messages of these keys, from tag 0 on.
    fn read(self: &Arc<Self>, keys: &[&str]) {
        let mut batch = (0..).zip(keys).map(|(tag, key)| self.item(tag, key)).collect();
        self.outlet.offer(&mut batch);
    }

    fn finish(&self, tags: &[u64]) -> bool {
        let is_live = self.epoch.take_back(tags.len());
        self.outlet.free_keys(tags.iter().map(|tag| self.epoch.id(*tag)));
        if is_live {
            self.outlet.settled(tags.len());
        }
        is_live
    }
}

impl fmt::Debug for Registration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.epoch, f)
    }
}

impl Settler for Registration {
    fn settle(self: Arc<Self>, delivery: Unsettled, how: Settlement) -> Outcome {
        let (tag, stale) = (delivery.tag, || Err(Error::new(ErrorKind::StaleDelivery, "stale")));
        let after = match how {
            Settlement::Ack => return Outcome::ready(if self.finish(&[tag]) { Ok(()) } else { stale() }),
            Settlement::Retry { after } => after,
            _ => Duration::ZERO,
        };
        if !self.epoch.take_back(1) {
            self.outlet.free_key(self.epoch.id(tag));
            return Outcome::ready(stale());
        }
        let due = (!after.is_zero()).then(|| instant_after(after));
        let item = Item { unsettled: delivery, expires: None, of: Arc::clone(&self) };
        if self.outlet.put_back(item, due).is_some() {
            self.given_back.fetch_add(1, Ordering::SeqCst);
        }
        self.outlet.settled(1);
        Outcome::ready(Ok(()))
    }

    fn ack_many(&self, tags: &[u64]) -> Outcome<Acked> {
        let (count, is_live) = (tags.len() as u64, self.finish(tags));
        let (acked, stale) = if is_live { (count, 0) } else { (0, count) };
        Outcome::ready(Ok(Acked { acked, stale }))
    }

    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }
}

struct Item {
    unsettled: Unsettled,
    expires: Option<Instant>,
    of: Arc<Registration>,
}

impl Held for Item {
    fn id(&self) -> DeliveryId {
        self.of.epoch.id(self.unsettled.tag)
    }

    fn key(&self) -> Option<Cow<'_, str>> {
        self.unsettled.message.key().map(Cow::Borrowed)
    }

    fn size(&self) -> usize {
        self.unsettled.message.size()
    }

    fn expires(&self) -> Option<Instant> {
        self.expires
    }

    fn is_wanted(&self) -> bool {
        self.of.epoch.is_wanted()
    }

    fn handed_out(items: &[Self]) {
        items.iter().for_each(|item| item.of.epoch.hand_out(1));
    }

    fn expire(self) {
        self.of.expired.fetch_add(1, Ordering::SeqCst);
        self.of.outlet.free_key(self.id());
    }

    fn into_delivery(self) -> Delivery {
        let Self { unsettled, of, .. } = self;
        Delivery::new(unsettled, of)
    }
}

fn scope() -> Scope {
    Scope::new(BrokerName::parse("main").unwrap(), "test", "queue \"orders\"")
}

fn outlet_with(options: OutletOptions) -> (Outlet<Item>, Arc<Counting>) {
    let feeder = Arc::new(Counting::default());
    (Outlet::new(options, Arc::clone(&feeder) as Arc<dyn Feeder>), feeder)
}

fn outlet(options: &ConsumeOptions) -> Outlet<Item> {
    outlet_with(OutletOptions::new(scope(), options)).0
}

fn by_key() -> ConsumeOptions {
    ConsumeOptions::default().with_order(Order::ByKey).with_retry_mode(RetryMode::Hold)
}

fn register(outlet: &Outlet<Item>) -> Arc<Registration> {
    let mut capabilities = Capabilities::none().with_native([Feature::Release, Feature::DelayedRetry]);
    capabilities.limits.retry_delay = LONG_WAIT;
    let (expired, given_back) = Default::default();
    Arc::new(Registration { epoch: outlet.begin_epoch(), outlet: outlet.clone(), capabilities, expired, given_back })
}

fn take(outlet: &Outlet<Item>, max: usize) -> Vec<Delivery> {
    let mut out = Vec::new();
    let _ = outlet.0.poll_next(&Context::from_waker(Waker::noop()), max, &mut Vec::new(), &mut out);
    out
}

/// Waker that counts.
#[derive(Default)]
struct Bell(AtomicUsize);

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// Polls as a receiver that waits; returns the deliveries if there were any.
fn poll(outlet: &Outlet<Item>, bell: &Arc<Bell>, max: usize) -> Option<Vec<Delivery>> {
    let (mut out, waker) = (Vec::new(), Waker::from(Arc::clone(bell)));
    let polled = outlet.0.poll_next(&Context::from_waker(&waker), max, &mut Vec::new(), &mut out);
    polled.is_ready().then_some(out)
}

/// While a registration is taken away and settlers act at the same time, each place is freed once, and nothing of it stays.
#[test]
fn a_registration_that_is_taken_away_frees_each_place_once() {
    for round in 0..300 {
        let outlet = outlet(&ConsumeOptions::default());
        let going = register(&outlet);
        going.read(&["a"; 64]);
        let mut left = take(&outlet, 64);
        let right = left.split_off(32);
        let all = &Barrier::new(3);
        thread::scope(|scope| {
            scope.spawn(move || {
                all.wait();
                left.into_iter().for_each(|delivery| drop(delivery.ack()));
            });
            scope.spawn(move || {
                all.wait();
                right.into_iter().for_each(|delivery| drop(delivery.release()));
            });
            all.wait();
            (0..round).for_each(|_| thread::yield_now());
            drop(outlet.end_epoch(&going.epoch));
        });
        assert_eq!(outlet.unsettled(), 0, "round {round}");
        assert_eq!(outlet.buffered().messages, 0, "round {round}");
        assert_eq!(outlet.buffered().bytes, 0, "round {round}");
    }
}

#[test]
fn a_delivery_given_back_while_its_registration_leaves_is_not_kept() {
    let outlet = outlet(&by_key());
    let (going, staying) = (register(&outlet), register(&outlet));
    going.read(&["a", "b"]);
    staying.read(&["a", "b"]);
    let mut out = take(&outlet, 2);
    assert!(take(&outlet, 1).is_empty(), "each waits behind its key");
    going.epoch.leave();
    drop(out.remove(0).release());
    drop(out.remove(0).retry_after(LONG_WAIT));

    assert_eq!(going.given_back.load(Ordering::SeqCst), 2);
    let others = take(&outlet, 9);
    assert_eq!(others.len(), 2, "the keys are free for the others");
    let buffered = outlet.buffered();
    assert_eq!((buffered.messages, buffered.held), (0, 0));
}

#[test]
fn a_key_is_free_once_the_handler_of_a_lost_registration_is_done() {
    let outlet = outlet(&by_key());
    let lost = register(&outlet);
    lost.read(&["a", "a"]);
    let first = take(&outlet, 9).remove(0);
    assert_eq!(outlet.end_epoch(&lost.epoch).len(), 1);
    let again = register(&outlet);
    again.read(&["a", "a"]);

    assert!(take(&outlet, 9).is_empty(), "two of a key at once");
    drop(first.ack());
    let mut out = take(&outlet, 9);
    assert_eq!(out.len(), 1);
    drop(out.remove(0).ack());
    assert_eq!(take(&outlet, 9).len(), 1);
}

#[test]
fn delayed_messages_do_not_block_due_ones() {
    let now = Instant::now();
    let options = OutletOptions::new(scope(), &ConsumeOptions::default())
        .with_delayed(Bound { messages: 2, bytes: usize::MAX })
        .with_read_ahead(Bound { messages: 2, bytes: usize::MAX });
    let (outlet, _) = outlet_with(options);
    let registration = register(&outlet);
    outlet.delay(registration.item(0, "a"), now + LONG_WAIT);
    assert!(outlet.has_room() && !outlet.buffered().is_full_of_delayed(false));
    assert!(outlet.buffered().is_full_of_delayed(true), "low water is half");
    outlet.delay(registration.item(1, "a"), now + 2 * LONG_WAIT);
    assert!(outlet.has_room() && outlet.buffered().is_full_of_delayed(false));

    assert_eq!(outlet.release_due(now), Some(now + LONG_WAIT));
    assert_eq!(outlet.release_due(now + LONG_WAIT), Some(now + 2 * LONG_WAIT));
    assert_eq!(outlet.release_due(now + 2 * LONG_WAIT), None);
    assert!(!outlet.has_room(), "it is to be handed out now");
    let buffered = outlet.buffered();
    assert_eq!((buffered.messages, buffered.delayed, buffered.delayed_bytes), (2, 0, 0));
    let out = take(&outlet, 2);
    assert_eq!((out.len(), outlet.buffered().bytes), (2, 0));
}

#[test]
fn held_retries_use_the_prefetch() {
    let outlet = outlet(&by_key().with_prefetch(2));
    let registration = register(&outlet);
    registration.read(&["a", "b", "c", "d"]);
    let mut out = take(&outlet, 9);
    assert_eq!(out.len(), 2);
    drop(out.remove(0).retry_after(LONG_WAIT));
    assert!(take(&outlet, 9).is_empty(), "the held one has its place");
    drop(out.remove(0).ack());
    out.extend(take(&outlet, 9));
    assert_eq!(out.len(), 1);

    assert_eq!(outlet.release_due(Instant::now() + 2 * LONG_WAIT), None);
    out.extend(take(&outlet, 9));
    assert_eq!(out.len(), 2, "its place came free when it was due");
    assert_eq!(out[1].message().key(), Some("a"), "it goes before what was not started");
    outlet.set_flow(Flow::Stopped);
    assert_eq!(outlet.take_unstarted(|_| true).len(), 1);
    drop(out);
    assert_eq!((outlet.unsettled(), outlet.buffered().messages), (0, 0));
    assert_eq!(registration.given_back.load(Ordering::SeqCst), 2);
}

#[test]
fn where_others_go_on_retries_use_the_prefetch_only_when_there_are_too_many() {
    let options = ConsumeOptions::default().with_prefetch(1);
    let options = OutletOptions::new(scope(), &options).with_read_ahead(Bound { messages: 2, bytes: usize::MAX });
    let (outlet, _) = outlet_with(options);
    let registration = register(&outlet);
    registration.read(&["a"; 3]);
    drop(take(&outlet, 9).remove(0).retry_after(LONG_WAIT));
    let mut out = take(&outlet, 9);
    assert_eq!(out.len(), 1, "others go on");
    drop(out.remove(0).retry_after(LONG_WAIT));
    assert!(take(&outlet, 9).is_empty(), "what is held has a bound");
}

#[test]
fn a_settlement_wakes_a_receiver_that_waits_for_a_place() {
    let outlet = outlet(&ConsumeOptions::default().with_prefetch(1));
    let registration = register(&outlet);
    let bell = Arc::new(Bell::default());
    assert!(poll(&outlet, &bell, 9).is_none());
    registration.read(&["a", "b"]);
    assert_eq!(bell.0.load(Ordering::SeqCst), 1, "an offer wakes it");
    let out = poll(&outlet, &bell, 9).unwrap();
    assert!(poll(&outlet, &bell, 9).is_none());
    out.into_iter().for_each(|delivery| drop(delivery.ack()));
    assert_eq!(bell.0.load(Ordering::SeqCst), 2);
    let out = poll(&outlet, &bell, 9).unwrap();
    out.into_iter().for_each(|delivery| drop(delivery.ack()));
    assert_eq!(bell.0.load(Ordering::SeqCst), 2, "nobody waits");
}

/// No wake-up is lost between a receiver that finds no place and the settlement that frees one.
#[test]
fn a_receiver_and_a_settler_never_wait_for_each_other() {
    let outlet = outlet(&ConsumeOptions::default().with_prefetch(1));
    let registration = register(&outlet);
    registration.read(&["a"; 2_000]);
    let (send, receive) = std::sync::mpsc::channel::<Delivery>();
    let settling = thread::spawn(move || receive.into_iter().for_each(|delivery| drop(delivery.ack())));
    let bell = Arc::new(Bell::default());
    let (mut received, mut rung) = (0, 0);
    let give_up = std::time::Instant::now() + Duration::from_secs(60);
    while received < 2_000 {
        match poll(&outlet, &bell, 1) {
            Some(out) => {
                received += out.len();
                out.into_iter().for_each(|delivery| send.send(delivery).unwrap());
            }
            None => {
                while bell.0.load(Ordering::SeqCst) == rung {
                    assert!(std::time::Instant::now() < give_up, "a wake-up was lost after {received}");
                    thread::yield_now();
                }
            }
        }
        rung = bell.0.load(Ordering::SeqCst);
    }
    drop(send);
    settling.join().unwrap();
}

#[test]
fn reading_on_has_a_high_and_a_low_water_mark() {
    let options = ConsumeOptions::default().with_prefetch(100);
    let options = OutletOptions::new(scope(), &options).with_read_ahead(Bound { messages: 10, bytes: usize::MAX });
    let (outlet, feeder) = outlet_with(options);
    register(&outlet).read(&["a"; 10]);
    assert!(!outlet.has_room());
    let mut out = take(&outlet, 5);
    assert_eq!((outlet.has_room(), feeder.wakes.load(Ordering::SeqCst)), (false, 0));
    out.extend(take(&outlet, 1));
    assert_eq!((outlet.has_room(), feeder.wakes.load(Ordering::SeqCst)), (true, 1));
    outlet.set_flow(Flow::Paused);
    assert!(!outlet.has_room(), "nothing is read while it is paused");
    outlet.set_flow(Flow::Running);
    assert!(outlet.has_room());
}

#[test]
fn nothing_is_handed_out_past_its_time_to_live() {
    let outlet = outlet(&by_key());
    let registration = register(&outlet);
    let expired = Item { expires: Some(Instant::now()), ..registration.item(0, "a") };
    outlet.offer(&mut VecDeque::from([expired, registration.item(1, "a")]));
    assert!(take(&outlet, 9).is_empty(), "the second waited behind the first");
    assert_eq!(registration.expired.load(Ordering::SeqCst), 1);
    assert_eq!(take(&outlet, 9).len(), 1);
}

#[test]
fn a_stopped_consumer_never_runs_again_and_an_ended_one_says_why() {
    let outlet = outlet(&ConsumeOptions::default());
    register(&outlet).read(&["a"]);
    outlet.set_flow(Flow::Stopped);
    outlet.set_flow(Flow::Running);
    assert_eq!(outlet.flow(), Flow::Stopped);
    let cx = Context::from_waker(Waker::noop());
    let polled = |outlet: &Outlet<Item>| outlet.0.poll_next(&cx, 1, &mut Vec::new(), &mut Vec::new());
    assert!(matches!(polled(&outlet), Poll::Ready(Ok(0))));
    outlet.end(EndReason::new(ErrorKind::NotFound, "the queue was deleted"));
    outlet.end(EndReason::closed());
    assert!(matches!(polled(&outlet), Poll::Ready(Err(error)) if error.kind() == ErrorKind::NotFound));
    let reasons = outlet.health().reasons;
    assert_eq!(reasons, ["the consumer of queue \"orders\" has ended: the queue was deleted"]);
}

#[tokio::test(start_paused = true)]
async fn a_lost_connection_is_in_health_and_reported_once() {
    let outlet = outlet(&ConsumeOptions::default());
    outlet.lost("reset by peer");
    outlet.lost("connection refused");
    assert_eq!(outlet.health().state, HealthState::Degraded);
    assert_eq!(outlet.trouble().as_deref(), Some("connection refused"));
    outlet.back();
    outlet.back();
    assert_eq!(outlet.health(), Health::up());
    let cx = Context::from_waker(Waker::noop());
    assert_eq!(outlet.0.poll_event(&cx), Poll::Ready(Event::Disconnected));
    assert_eq!(outlet.0.poll_event(&cx), Poll::Ready(Event::Reconnected));
    assert_eq!(outlet.0.poll_event(&cx), Poll::Pending);
}

#[tokio::test(start_paused = true)]
async fn a_drain_waits_for_what_is_out_and_reports_each_fact_once() {
    let (outlet, feeder) = outlet_with(OutletOptions::new(scope(), &ConsumeOptions::default()));
    let registration = register(&outlet);
    registration.read(&["a"; 5]);
    let mut out = take(&outlet, 2);
    let last = out.pop().unwrap();
    drop(out.pop().unwrap().ack());
    let settling = tokio::spawn(async move {
        tokio::time::sleep(Duration::from_secs(5)).await;
        drop(last.ack());
    });
    let by = instant_after(Duration::from_secs(60));
    let (report, other) = tokio::join!(outlet.drain(by), outlet.drain(by));
    settling.await.unwrap();
    assert!(Instant::now() < by, "it ends with the last settlement");
    // Three were not handed out, and the feeder found one more.
    assert_eq!((report.settled, report.released, report.abandoned), (1, 4, 0));
    assert_eq!((other.settled, other.released, other.errors.len()), (0, 0, 0));
    assert_eq!(feeder.finished.load(Ordering::SeqCst), 1);
    assert_eq!(feeder.disowned.load(Ordering::SeqCst), 0);
}

#[tokio::test(start_paused = true)]
async fn a_drain_ends_by_its_deadline_and_makes_stale_what_is_out() {
    let (outlet, feeder) = outlet_with(OutletOptions::new(scope(), &ConsumeOptions::default()));
    register(&outlet).read(&["a"; 2]);
    let out = take(&outlet, 2);
    let report = outlet.drain(instant_after(Duration::from_secs(1))).await;
    assert_eq!((report.settled, report.abandoned), (0, 2));
    assert_eq!(feeder.disowned.load(Ordering::SeqCst), 1);
    drop(out);
}

#[test]
fn dropping_the_deliveries_stops_the_consumer() {
    let (outlet, feeder) = outlet_with(OutletOptions::new(scope(), &ConsumeOptions::default()));
    drop(outlet.deliveries());
    assert!(outlet.is_dropped() && outlet.flow() == Flow::Stopped);
    assert_eq!(feeder.disowned.load(Ordering::SeqCst), 1);
    assert!(feeder.wakes.load(Ordering::SeqCst) > 0);
}

/// Step of the model.
#[derive(Clone, Debug)]
enum Step {
    Offer { of: usize, keys: Vec<u8> },
    Take(usize),
    Ack(usize),
    Retry { at: usize, later: bool },
    Release,
    Lose(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (0_usize..2, proptest::collection::vec(0_u8..3, 1..6)).prop_map(|(of, keys)| Step::Offer { of, keys }),
        4 => (1_usize..5).prop_map(Step::Take),
        4 => (0_usize..6).prop_map(Step::Ack),
        2 => (0_usize..6, any::<bool>()).prop_map(|(at, later)| Step::Retry { at, later }),
        1 => Just(Step::Release),
        1 => (0_usize..2).prop_map(Step::Lose),
    ]
}

proptest! {
    /// Prefetch, key order and completeness under any order of offers, settlements, retries and lost registrations.
    #[test]
    fn each_message_comes_until_it_is_settled_in_the_order_of_its_key(steps in proptest::collection::vec(step(), 0..80)) {
        let outlet = outlet(&by_key().with_prefetch(3));
        let mut registrations = [register(&outlet), register(&outlet)];
        let mut tags = [0_u64; 2];
        let mut out: Vec<(DeliveryId, Delivery)> = Vec::new();
        // Messages of live registrations that are not settled, and the highest tag acknowledged of each key.
        let mut open: BTreeMap<DeliveryId, String> = BTreeMap::new();
        let mut acknowledged: BTreeMap<(u64, String), u64> = BTreeMap::new();
        for step in steps {
            match step {
                Step::Offer { of, keys } => {
                    let mut batch = VecDeque::new();
                    for key in keys {
                        let item = registrations[of].item(tags[of], &key.to_string());
                        tags[of] += 1;
                        open.insert(item.id(), key.to_string());
                        batch.push_back(item);
                    }
                    outlet.offer(&mut batch);
                }
                Step::Take(max) => {
                    for delivery in take(&outlet, max) {
                        let (unsettled, settler) = delivery.into_parts();
                        let of = registrations.iter().find(|one| std::ptr::addr_eq(Arc::as_ptr(one), Arc::as_ptr(&settler)));
                        let epoch = of.unwrap().epoch.number();
                        let key = unsettled.message.key().unwrap().to_owned();
                        let id = DeliveryId { epoch, tag: unsettled.tag };
                        prop_assert!(open.contains_key(&id));
                        prop_assert!(out.iter().all(|(_, other)| other.message().key() != Some(&key)), "two of a key");
                        let last = acknowledged.get(&(epoch, key)).copied();
                        prop_assert!(last.is_none_or(|last| last < unsettled.tag), "out of order");
                        out.push((id, Delivery::new(unsettled, settler)));
                    }
                    prop_assert!(outlet.unsettled() + outlet.buffered().held <= 3);
                }
                Step::Ack(at) if at < out.len() => {
                    let (id, delivery) = out.remove(at);
                    let key = delivery.message().key().unwrap().to_owned();
                    if open.remove(&id).is_some() {
                        acknowledged.insert((id.epoch, key), id.tag);
                    }
                    drop(delivery.ack());
                }
                Step::Retry { at, later } if at < out.len() => {
                    let (_, delivery) = out.remove(at);
                    drop(delivery.retry_after(if later { LONG_WAIT } else { Duration::ZERO }));
                }
                Step::Ack(_) | Step::Retry { .. } => {}
                Step::Release => drop(outlet.release_due(Instant::now() + 2 * LONG_WAIT)),
                Step::Lose(of) => {
                    let lost = std::mem::replace(&mut registrations[of], register(&outlet));
                    drop(outlet.end_epoch(&lost.epoch));
                    open.retain(|id, _| id.epoch != lost.epoch.number());
                    tags[of] = 0;
                }
            }
        }
        // In the end everything that is open comes, once the keys are free.
        loop {
            out.drain(..).for_each(|(id, delivery)| {
                open.remove(&id);
                drop(delivery.ack());
            });
            outlet.release_due(Instant::now() + 2 * LONG_WAIT);
            let taken = take(&outlet, 9);
            if taken.is_empty() {
                break;
            }
            for delivery in taken {
                let (unsettled, settler) = delivery.into_parts();
                let of = registrations.iter().find(|one| std::ptr::addr_eq(Arc::as_ptr(one), Arc::as_ptr(&settler)));
                out.push((of.unwrap().epoch.id(unsettled.tag), Delivery::new(unsettled, settler)));
            }
        }
        prop_assert!(open.is_empty(), "left: {open:?}");
        prop_assert_eq!((outlet.unsettled(), outlet.buffered().messages, outlet.buffered().bytes), (0, 0, 0));
    }
}
