//! Attempts are calls of the handler, also on a broker that counts messages which were only fetched and given back.

use std::sync::Arc;

use adapter_memory::MemoryServer;
use async_trait::async_trait;
use messaging::{
    App, Attempt, Broker, Capabilities, ConsumeOptions, Consumer, DeadLetterReason, Destination, DrainReport, Feature,
    Health, Identity, Inspect, Listen, Place, PublishOptions, Publisher, PublisherExt, QueueConsumer, QueueName,
    Result, Retry, RunningApp, State, SubscribeOptions, Subscriber, TopicName,
};
use tokio::time::Instant;

use super::support::{Seen, dead_letters, queue, until_tally};

/// A broker that cannot take a delivery back without counting it.
#[derive(Debug)]
struct CountsEveryDelivery(Arc<dyn Broker>);

#[async_trait]
impl QueueConsumer for CountsEveryDelivery {
    async fn consume(&self, queue: &QueueName, options: ConsumeOptions) -> Result<Consumer> {
        self.0.consume(queue, options).await
    }
}

#[async_trait]
impl Subscriber for CountsEveryDelivery {
    async fn subscribe(&self, topic: &TopicName, options: SubscribeOptions) -> Result<Consumer> {
        self.0.subscribe(topic, options).await
    }
}

#[async_trait]
impl Broker for CountsEveryDelivery {
    fn identity(&self) -> &Identity {
        self.0.identity()
    }

    fn capabilities(&self, of: Place<'_>) -> Capabilities {
        self.0.capabilities(of).without(Feature::Release, "every delivery is counted")
    }

    async fn publisher(&self, destination: &Destination, options: PublishOptions) -> Result<Arc<dyn Publisher>> {
        self.0.publisher(destination, options).await
    }

    fn health(&self) -> Health {
        self.0.health()
    }

    async fn close(&self, by: Instant) -> DrainReport {
        self.0.close(by).await
    }

    fn inspect(&self) -> &dyn Inspect {
        self.0.inspect()
    }
}

/// Starts a listener with 3 attempts on a queue whose only message was delivered so often without a call of a handler.
async fn after_deliveries(count: u32, seen: &Seen<u32>, is_failing: bool) -> RunningApp {
    let server = MemoryServer::private();
    let broker = server.broker();
    let publisher = broker.publisher(&Destination::queue("orders").unwrap(), PublishOptions::default()).await.unwrap();
    publisher.publish("x").await.unwrap();
    let name = QueueName::parse("orders").unwrap();
    for _ in 0..count {
        let mut consumer = broker.consume(&name, ConsumeOptions::default()).await.unwrap();
        drop(consumer.next().await.unwrap().unwrap());
    }
    let listen = Listen::queue("orders").retry(Retry::default().attempts(3));
    let broker = Arc::new(CountsEveryDelivery(server.broker()));
    let app = App::new().broker("main", broker).state(seen.clone()).state(is_failing).listen(listen, handle);
    app.start().await.unwrap()
}

async fn handle(
    Attempt(attempt): Attempt,
    State(seen): State<Seen<u32>>,
    State(is_failing): State<bool>,
) -> std::io::Result<()> {
    seen.add(attempt);
    if is_failing { Err(std::io::Error::other("disk full")) } else { Ok(()) }
}

#[tokio::test(start_paused = true)]
async fn a_message_that_restarts_only_gave_back_is_handled() {
    for deliveries in [3, 10, 11] {
        let seen = Seen::new();
        let running = after_deliveries(deliveries, &seen, false).await;
        let counts = until_tally(&running, "orders", |tally| tally.acked == 1).await;
        assert_eq!((seen.all(), counts.received, counts.dead_lettered), (vec![deliveries + 1], 1, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn past_its_attempts_a_message_gets_one_call_and_the_reason_is_that_calls_error() {
    let seen = Seen::new();
    let running = after_deliveries(10, &seen, true).await;
    until_tally(&running, "orders", |tally| tally.dead_lettered == 1).await;
    assert_eq!(seen.all(), [11]);
    let dead = dead_letters(&running, &queue("orders")).await.remove(0);
    assert_eq!(dead.reason.code, DeadLetterReason::ATTEMPTS_EXHAUSTED);
    assert_eq!(dead.reason.errors, ["disk full"]);
}

#[tokio::test(start_paused = true)]
async fn a_message_that_ends_each_process_goes_to_the_dead_letter_past_four_times_its_attempts() {
    let seen = Seen::new();
    let running = after_deliveries(12, &seen, false).await;
    until_tally(&running, "orders", |tally| tally.dead_lettered == 1).await;
    assert_eq!(seen.len(), 0, "the handler ran");
    let dead = dead_letters(&running, &queue("orders")).await.remove(0);
    assert_eq!(dead.reason.code, DeadLetterReason::ATTEMPTS_EXHAUSTED);
    assert_eq!(
        dead.reason.errors,
        [
            "12 deliveries ended without a settlement, 4 for each of the 3 attempts, as when the message kills its process each time; the handler was not called again"
        ]
    );
}
