//! A whole consumer against the client's own mock cluster, which answers fetches with errors as it is asked.

use std::sync::Arc;
use std::time::Duration;

use messaging_core::{BrokerName, Capabilities, ConsumeOptions, Event, HealthState, Received, Scope};
use rdkafka::config::ClientConfig;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};
use tokio::time::timeout;

use crate::connection::Connection;
use crate::consumer::{Opening, Settings, open};
use crate::topology::Topics;

const LIMIT: Duration = Duration::from_secs(20);

#[tokio::test]
async fn a_record_that_cannot_be_read_is_in_health_and_an_event() {
    let cluster = MockCluster::new(1).unwrap();
    cluster.create_topic("weather", 1, 1).unwrap();
    let servers = cluster.bootstrap_servers();
    let settings = Settings {
        source: None,
        topics: Topics { main: "weather".to_owned(), retry: None, delayed: None, dead: None, retry_partitions: 0 },
        options: ConsumeOptions::default(),
        filter: None,
        only_key: None,
        capabilities: Arc::new(Capabilities::none()),
        connection: Connection::unopened(&format!("kafka://{servers}")),
    };
    let opening = Opening::Ephemeral { places: vec![("weather".to_owned(), 0)] };
    let scope = Scope::new(BrokerName::main(), "kafka", "weather");
    let (mut consumer, shared) = open(settings, opening, scope).await.unwrap();
    assert_eq!(shared.health().state, HealthState::Up);

    let refusals = [RDKafkaRespErr::RD_KAFKA_RESP_ERR_INVALID_MSG; 40];
    cluster.request_errors(RDKafkaApiKey::Fetch, &refusals);
    let producer: BaseProducer = ClientConfig::new().set("bootstrap.servers", &servers).create().unwrap();
    producer.send(BaseRecord::<(), str>::to("weather").payload("rain")).map_err(|(error, _)| error).unwrap();
    producer.flush(LIMIT).unwrap();

    let event = timeout(LIMIT, consumer.receive()).await.unwrap().unwrap().unwrap();
    assert!(matches!(event, Received::Event(Event::Gap { missed: None })), "{event:?}");
    let health = shared.health();
    assert_eq!(health.state, HealthState::Degraded);
    let reasons = health.reasons.join("; ");
    assert!(reasons.contains("partition weather/0 cannot be read at offset 0"), "{reasons}");
    assert!(reasons.contains("kafka-consumer-groups"), "{reasons}");

    cluster.clear_request_errors(RDKafkaApiKey::Fetch);
    loop {
        match timeout(LIMIT, consumer.receive()).await.unwrap().unwrap().unwrap() {
            Received::Delivery(delivery) => break delivery.ack().await.unwrap(),
            Received::Event(_) => {}
        }
    }
    assert_eq!(shared.health().state, HealthState::Up, "{:?}", shared.health());
}
