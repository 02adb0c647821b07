//! The conformance suite on a real Kafka.

#![allow(clippy::unwrap_used, reason = "a test program")]

use std::sync::Arc;

use async_trait::async_trait;
use integration_tests::{Broker as _, Kind};
use messaging_conformance::{About, Harness, Power, Reality, Stage, conformance};
use messaging_core::{Broker, BrokerUrl, ConnectOptions, Destination, Registry, Result};

struct Kafka;
struct KafkaStage(String);

#[async_trait]
impl Harness for Kafka {
    fn about(&self) -> About {
        About { driver: "kafka", option: "", version: "4.3.0".to_owned(), reality: Reality::Real }
    }
    fn powers(&self) -> &[Power] {
        &[]
    }
    fn pinned(&self) -> &str {
        ""
    }
    fn absent(&self) -> Option<String> {
        None
    }
    async fn begin(&self) -> Result<Arc<dyn Stage>> {
        let broker = integration_tests::shared(Kind::Kafka).await.unwrap();
        Ok(Arc::new(KafkaStage(broker.url())))
    }
}

#[async_trait]
impl Stage for KafkaStage {
    fn options(&self) -> ConnectOptions {
        ConnectOptions::new(BrokerUrl::parse(&self.0).unwrap())
    }
    async fn connect(&self, options: ConnectOptions) -> Result<Arc<dyn Broker>> {
        Registry::new().with(adapter_kafka::DRIVER)?.connect(options).await
    }
    async fn sweep(&self, _made: &[Destination]) -> Result<usize> {
        Ok(0)
    }
}

conformance!(Kafka);
