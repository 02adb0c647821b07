//! Partitions and the outlet together: what is out, what is given back, and what is committed of it.

use std::collections::VecDeque;
use std::sync::{Arc, Barrier};
use std::task::{Context, Waker};
use std::thread;
use std::time::Duration;

use messaging_core::spi::Deliveries;
use messaging_core::{BrokerName, Capabilities, ConsumeOptions, Delivery, Feature, Message, Order, RetryMode, Scope};

use super::item::{Content, Item};
use super::metadata::{Ending, Metadata};
use super::partition::{Partition, Read};
use super::shared::{Settings, Shared};
use crate::connection::Connection;
use crate::topology::{Role, Topics};

const HOUR: Duration = Duration::from_secs(3600);

fn settings(options: ConsumeOptions) -> Settings {
    let mut capabilities = Capabilities::none().with_native([Feature::Release, Feature::DelayedRetry]);
    capabilities.limits.retry_delay = HOUR;
    Settings {
        source: None,
        topics: Topics { main: "orders".to_owned(), retry: None, delayed: None, dead: None, retry_partitions: 0 },
        options,
        filter: None,
        only_key: None,
        capabilities: Arc::new(capabilities),
        connection: Connection::nowhere(),
    }
}

fn consumer(options: ConsumeOptions) -> (Arc<Shared>, Box<dyn Deliveries>) {
    let shared = Shared::new(settings(options), Scope::new(BrokerName::main(), "kafka", "queue \"orders\""));
    let deliveries = shared.outlet.deliveries();
    (shared, deliveries)
}

fn by_key() -> ConsumeOptions {
    ConsumeOptions::default().with_order(Order::ByKey).with_retry_mode(RetryMode::Hold)
}

fn partition(shared: &Arc<Shared>) -> Arc<Partition> {
    with_past(shared, [])
}

fn with_past<const N: usize>(shared: &Arc<Shared>, tried: [(u32, u32); N]) -> Arc<Partition> {
    let past = Metadata { ending: Ending::Clean, tried: tried.into() };
    let partition = Arc::new(Partition::new(Arc::clone(shared), "orders".into(), 0, Role::Main, 0, past));
    shared.feed.add_partition(&partition);
    partition
}

/// Reads messages of these keys from offset 0 on.
fn read(partition: &Arc<Partition>, keys: &[&str]) {
    let item = |(offset, key): (i64, &&str)| {
        let message = Message::builder(vec![0]).key(*key).build().unwrap();
        Item { content: Content::Made(Arc::clone(partition), message), offset, attempt: 1, redriven: 0, expires: None }
    };
    let mut items: VecDeque<Item> = (0..).zip(keys).map(item).collect();
    partition.note_read(items.iter().map(|item| (item.offset, Read::Kept)));
    partition.shared.outlet.offer(&mut items);
}

fn take(deliveries: &mut Box<dyn Deliveries>, max: usize) -> Vec<Delivery> {
    let mut out = Vec::new();
    let _ = deliveries.poll_next_many(&mut Context::from_waker(Waker::noop()), max, &mut out);
    out
}

/// As the polling thread does.
fn take_away(partition: &Arc<Partition>) {
    partition.window.lock().is_leaving = true;
    partition.shared.withhold(Partition::is_leaving);
    partition.shared.remove_partition(partition);
}

/// Settlers race with the loss of their partition: each place comes free once, and nothing of the partition is left behind.
#[test]
fn a_partition_that_is_taken_away_frees_each_place_once() {
    for round in 0..300 {
        let (shared, mut deliveries) = consumer(ConsumeOptions::default());
        let partition = partition(&shared);
        read(&partition, &["a"; 64]);
        let mut left = take(&mut deliveries, 64);
        let right = left.split_off(32);
        let all = Barrier::new(3);
        let all = &all;
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
            take_away(&partition);
        });
        assert_eq!(shared.outlet.unsettled(), 0, "round {round}");
        assert_eq!(shared.outlet.buffered().messages, 0, "round {round}");
        assert!(shared.ids().is_empty());
    }
}

#[test]
fn a_message_given_back_while_its_partition_goes_is_not_kept() {
    let (shared, mut deliveries) = consumer(by_key());
    let (going, staying) = (partition(&shared), partition(&shared));
    read(&going, &["a", "b"]);
    read(&staying, &["a", "b"]);
    let mut out = take(&mut deliveries, 2);
    assert!(take(&mut deliveries, 1).is_empty(), "each waits behind its key");
    going.window.lock().is_leaving = true;
    drop(out.remove(0).release());
    drop(out.remove(0).retry_after(HOUR));

    // Their keys are free for the others.
    let freed = take(&mut deliveries, 9);
    assert_eq!(freed.len(), 2);
    let buffered = shared.outlet.buffered();
    assert_eq!((buffered.messages, buffered.held), (0, 0));
}

#[test]
fn a_key_is_free_once_the_handler_of_a_lost_partition_is_done() {
    let (shared, mut deliveries) = consumer(by_key());
    let lost = partition(&shared);
    read(&lost, &["a", "a"]);
    let first = take(&mut deliveries, 9).remove(0);
    take_away(&lost);
    let again = partition(&shared);
    read(&again, &["a", "a"]);

    assert!(take(&mut deliveries, 9).is_empty(), "two of a key at once");
    drop(first.ack());
    let mut out = take(&mut deliveries, 9);
    assert_eq!(out.len(), 1);
    drop(out.remove(0).ack());
    assert_eq!(take(&mut deliveries, 9).len(), 1);
}

#[test]
fn attempts_of_the_past_stay_known_and_grow_with_what_is_handed_out() {
    let (shared, mut deliveries) = consumer(ConsumeOptions::default());
    let partition = with_past(&shared, [(0, 1), (1, 4), (3, 3), (9, 2)]);
    read(&partition, &["a"; 5]);
    let mut out = take(&mut deliveries, 4);
    drop(out.remove(1).ack());
    drop(out.remove(1).release());
    drop(out.remove(1).retry());
    shared.withhold(|_| true);

    let (offset, metadata) = partition.take_commit(Ending::Clean).unwrap();
    // 0 is out, 1 is settled, 2 was released, 3 was tried once (the test's items say so), 4 waited, and 9 was not read yet.
    assert_eq!((offset, metadata.tried), (0, [(0, 2), (3, 3), (9, 2)].into()));
}

#[tokio::test]
async fn unconfirmed_is_at_least_what_comes_again_and_at_most_what_was_settled() {
    let (shared, mut deliveries) = consumer(ConsumeOptions::default());
    let partition = partition(&shared);
    read(&partition, &["a"; 6]);
    let mut out = take(&mut deliveries, 6);
    let open = out.remove(2);
    out.into_iter().for_each(|delivery| drop(delivery.ack()));
    // Of five settled ones two lie before the open one, and are committed; the others come again.
    assert_eq!(partition.take_commit(Ending::Unknown).map(|(offset, _)| offset), Some(2));
    assert_eq!(partition.unconfirmed(), 5, "the answer is not there yet");
    partition.note_committed();
    assert_eq!(partition.unconfirmed(), 3);
    drop(open.ack());
    assert_eq!(partition.unconfirmed(), 4);
    assert_eq!(partition.take_commit(Ending::Unknown).map(|(offset, _)| offset), Some(6));
    partition.note_committed();
    assert_eq!(partition.unconfirmed(), 0);
}
