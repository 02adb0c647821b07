use std::sync::Barrier;
use std::task::Waker;
use std::thread;
use std::time::Duration;

use messaging_core::{Delivery, Destination, Feature, Message, Names};

use super::waiting::{AHEAD_BYTES, DELAYED_BYTES};
use super::*;
use crate::consumer::metadata::{Ending, Metadata};
use crate::consumer::partition::Read;
use crate::topology::Role;

const HOUR: Duration = Duration::from_secs(3600);

fn intake(options: ConsumeOptions) -> Arc<Intake> {
    let mut capabilities = Capabilities::none().with_native([Feature::Release, Feature::DelayedRetry]);
    capabilities.limits.retry_delay = HOUR;
    Intake::new(Settings {
        source: None,
        topics: Topics::of_destination(&Names::new(None), &Destination::queue("orders").unwrap()),
        options,
        filter: None,
        only_key: None,
        capabilities: Arc::new(capabilities),
        connection: Connection::nowhere(),
    })
}

fn by_key() -> ConsumeOptions {
    ConsumeOptions::default().with_order(Order::ByKey).with_retry_mode(RetryMode::Hold)
}

fn partition(intake: &Arc<Intake>) -> Arc<Partition> {
    with_past(intake, [])
}

fn with_past<const N: usize>(intake: &Arc<Intake>, tried: [(u32, u32); N]) -> Arc<Partition> {
    let past = Metadata { ending: Ending::Clean, tried: tried.into() };
    Arc::new(Partition::new(Arc::clone(intake), "orders".into(), 0, Role::Main, 0, past))
}

fn message(key: &str, payload: usize) -> Message {
    Message::builder(vec![0; payload]).key(key).build().unwrap()
}

fn item(partition: &Arc<Partition>, offset: i64, message: Message) -> Item {
    Item { content: Content::Made(Arc::clone(partition), message), offset, attempt: 1, redriven: 0, expires: 0 }
}

/// Reads messages of these keys from offset 0 on.
fn read(partition: &Arc<Partition>, keys: &[&str]) {
    let items: VecDeque<Item> = (0..).zip(keys).map(|(offset, key)| item(partition, offset, message(key, 1))).collect();
    partition.note_read(items.iter().map(|item| (item.offset, Read::Kept)));
    partition.intake.admit(items);
}

fn take(intake: &Intake, max: usize) -> Vec<Delivery> {
    let mut out = Vec::new();
    let _ = intake.poll_next(&Context::from_waker(Waker::noop()), max, &mut Vec::new(), &mut out);
    out
}

/// As the polling thread does.
fn take_away(partition: &Partition) {
    partition.window.lock().is_leaving = true;
    partition.intake.withhold(Partition::is_leaving);
    let still_out = partition.kill();
    partition.intake.freed(still_out, false);
}

/// Whatever settlers are at when a partition is taken away: each place comes free once, and nothing of it is left behind.
#[test]
fn a_partition_that_is_taken_away_frees_each_place_once() {
    for round in 0..300 {
        let intake = intake(ConsumeOptions::default());
        let partition = partition(&intake);
        read(&partition, &["a"; 64]);
        let mut left = take(&intake, 64);
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
        assert_eq!(intake.unsettled(), 0, "round {round}");
        assert_eq!(intake.waiting().messages, 0, "round {round}");
    }
}

#[test]
fn what_is_given_back_while_its_partition_goes_is_not_kept() {
    let intake = intake(by_key());
    let (going, staying) = (partition(&intake), partition(&intake));
    read(&going, &["a", "b"]);
    read(&staying, &["a", "b"]);
    let mut out = take(&intake, 2);
    assert!(take(&intake, 1).is_empty(), "each waits behind its key");
    going.window.lock().is_leaving = true;
    drop(out.remove(0).release());
    drop(out.remove(0).retry_after(HOUR));

    // Their keys are free for the others.
    let freed = take(&intake, 9);
    assert_eq!(freed.len(), 2);
    let waiting = intake.waiting();
    assert_eq!((waiting.messages, waiting.held), (0, 0));
}

#[test]
fn a_key_is_free_once_the_handler_of_a_lost_partition_is_done() {
    let intake = intake(by_key());
    let lost = partition(&intake);
    read(&lost, &["a", "a"]);
    let first = take(&intake, 9).remove(0);
    take_away(&lost);
    let again = partition(&intake);
    read(&again, &["a", "a"]);

    assert!(take(&intake, 9).is_empty(), "two of a key at once");
    drop(first.ack());
    let mut out = take(&intake, 9);
    assert_eq!(out.len(), 1);
    drop(out.remove(0).ack());
    assert_eq!(take(&intake, 9).len(), 1);
}

#[test]
fn what_is_not_due_does_not_hold_up_what_is() {
    let intake = intake(ConsumeOptions::default());
    let partition = partition(&intake);
    let half = DELAYED_BYTES / 2;
    intake.delay(10, item(&partition, 0, message("a", half)));
    assert!(!intake.waiting().is_enough() && intake.waiting().is_still_enough_delayed());
    assert!(!intake.waiting().is_enough_delayed());
    intake.delay(20, item(&partition, 1, message("a", half)));
    assert!(!intake.waiting().is_still_enough() && intake.waiting().is_enough_delayed());

    assert_eq!(intake.release_due(10), Some(20));
    assert!(intake.waiting().is_enough(), "it is to be handed out now");
    assert_eq!(intake.release_due(20), None);
    assert!(!intake.waiting().is_still_enough_delayed());
    assert_eq!(take(&intake, 2).len(), 2);
    assert_eq!(intake.waiting().bytes, 0);
}

#[test]
fn held_retries_use_the_prefetch() {
    let intake = intake(by_key().with_prefetch(2));
    let partition = partition(&intake);
    read(&partition, &["a", "b", "c", "d"]);
    let mut out = take(&intake, 9);
    assert_eq!(out.len(), 2);
    drop(out.remove(0).retry_after(HOUR));
    assert!(take(&intake, 9).is_empty(), "the held one has its place");
    drop(out.remove(0).ack());
    out.extend(take(&intake, 9));
    assert_eq!(out.len(), 1);

    assert_eq!(intake.release_due(u64::MAX), None);
    out.extend(take(&intake, 9));
    assert_eq!(out.len(), 2, "its place came free when it was due");
    assert_eq!(Intake::set_flow(&intake, Flow::Stopped), 1);
    drop(out);
    assert_eq!((intake.unsettled(), intake.waiting().messages), (0, 0));
}

#[test]
fn where_others_go_on_retries_use_the_prefetch_only_when_there_are_too_many() {
    let intake = intake(ConsumeOptions::default().with_prefetch(1));
    let partition = partition(&intake);
    read(&partition, &["a"; 3]);
    drop(take(&intake, 9).remove(0).retry_after(HOUR));
    let mut out = take(&intake, 9);
    assert_eq!(out.len(), 1, "others go on");

    intake.take_back(item(&partition, 3, message("a", AHEAD_BYTES)), Some(u64::MAX));
    drop(out.remove(0).ack());
    assert!(take(&intake, 9).is_empty(), "what is held has a bound");
}

#[test]
fn attempts_of_the_past_stay_known_and_grow_with_what_is_handed_out() {
    let intake = intake(ConsumeOptions::default());
    let partition = with_past(&intake, [(0, 1), (1, 4), (3, 3), (9, 2)]);
    read(&partition, &["a"; 5]);
    let mut out = take(&intake, 4);
    drop(out.remove(1).ack());
    drop(out.remove(1).release());
    drop(out.remove(1).retry());
    intake.withhold(|_| true);

    let (offset, metadata) = partition.take_commit(Ending::Clean).unwrap();
    // 0 is out, 1 is settled, 2 was released, 3 was tried once (the test's items say so), 4 waited, and 9 was not read yet.
    assert_eq!((offset, metadata.tried), (0, [(0, 2), (3, 3), (9, 2)].into()));
}
