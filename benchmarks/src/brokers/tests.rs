//! Our side moves what it says it moves: tried on the memory broker.

use std::sync::Arc;

use adapter_memory::MemoryServer;
use messaging::{Broker, BrokerUrl, ConnectOptions};

use super::load::{self, Load};
use super::ours::{self, From, Taking};

fn broker(server: &MemoryServer) -> Arc<dyn Broker> {
    server.open(ConnectOptions::new(BrokerUrl::parse("memory://").unwrap())).unwrap()
}

/// A source with so many messages in it.
async fn filled(broker: &dyn Broker, from: &From, load: &Load, messages: u64) {
    let publisher = ours::publisher(broker, &from.destination(), 100).await;
    ours::publish(&*publisher, load, messages, 100).await;
}

fn sources() -> [From; 2] {
    let (topic, subscription) = ("news".to_owned(), "reader".to_owned());
    [From::Queue("work".to_owned()), From::Topic { topic, subscription }]
}

#[tokio::test]
async fn what_is_published_is_consumed_in_each_way_and_from_each_source() {
    for from in sources() {
        for taking in [Taking::Many(64), Taking::One] {
            let server = MemoryServer::private();
            let broker = broker(&server);
            drop(from.consumer(&*broker, 10).await);
            filled(&*broker, &from, &Load::of(100), 1_000).await;
            let consumer = from.consumer(&*broker, 100).await;
            assert!(!ours::consume(consumer, 999, taking).await.is_zero());
            let mut rest = from.consumer(&*broker, 100).await;
            let last = rest.next().await.unwrap().unwrap();
            assert_eq!((last.message().payload().len(), last.message().headers().len()), (100, 2));
            last.ack().await.unwrap();
        }
    }
}

#[test]
fn a_load_is_as_large_as_it_says() {
    let sizes = [100, 1_024, 16 * 1_024].map(|size| Load::of(size).size());
    assert_eq!(sizes, ["100 B", "1 KiB", "16 KiB"]);
    assert_eq!(Load::of(300).payload.len(), 300);
}

#[tokio::test]
async fn one_in_flight_is_one_in_flight() {
    let server = MemoryServer::private();
    let broker = broker(&server);
    let from = From::Queue("work".to_owned());
    let publisher = ours::publisher(&*broker, &from.destination(), 1).await;
    ours::publish(&*publisher, &Load::of(16), 10, 1).await;
    ours::consume(from.consumer(&*broker, 10).await, 10, Taking::One).await;
}

#[tokio::test]
async fn a_listener_decodes_all_orders() {
    for from in sources() {
        let server = MemoryServer::private();
        let broker = broker(&server);
        drop(from.consumer(&*broker, 10).await);
        let load = Load::order();
        assert!(load.payload.len().abs_diff(load::USUAL_PAYLOAD_BYTES) < 32);
        filled(&*broker, &from, &load, 500).await;
        ours::listen(broker, &from, 500, 100).await;
    }
}

#[tokio::test]
async fn latency_counts_what_comes_after_the_warm_up() {
    let server = MemoryServer::private();
    let samples = ours::latency(broker(&server), &From::Queue("work".to_owned()), 20, 5).await;
    assert_eq!(samples.len(), 20);
    assert!(samples.iter().all(|nanos| *nanos > 0 && *nanos < 5_000_000_000));
}
