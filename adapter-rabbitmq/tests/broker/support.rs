//! Shared by the adapter's own tests: the server, names, and connections by the adapter and by the client itself.

use std::sync::Arc;

use integration_tests::runner::Verdict;
use integration_tests::{Broker as Server, Kind};
use lapin::{Channel, Connection, ConnectionProperties};
use messaging_core::{Broker, BrokerUrl, ConnectOptions, MessageId, Registry, Settings};
use serde_json::{Value, json};

/// The server that all cases of a program share.
pub(crate) async fn server() -> Result<Arc<dyn Server>, integration_tests::Error> {
    integration_tests::shared(Kind::RabbitMq).await
}

/// A name that nobody has used.
pub(crate) fn fresh(stem: &str) -> String {
    format!("{stem}-{}", MessageId::generate())
}

/// Options for an address, which wait for no queue to grow old: no node is killed here.
pub(crate) fn options(url: &str) -> Verdict<ConnectOptions> {
    options_with(url, [])
}

/// The same, with more of the adapter's keys.
pub(crate) fn options_with<const N: usize>(url: &str, keys: [(&str, Value); N]) -> Verdict<ConnectOptions> {
    let keys = keys.into_iter().chain([("new_queue_wait", json!("0s"))]);
    Ok(ConnectOptions::new(BrokerUrl::parse(url)?).with_settings(Settings::new("the test", keys)))
}

/// Connects by the adapter.
pub(crate) async fn connect(options: ConnectOptions) -> messaging_core::Result<Arc<dyn Broker>> {
    Registry::new().with(adapter_rabbitmq::DRIVER)?.connect(options).await
}

/// A channel of the client itself; its connection lives as long as the first.
pub(crate) async fn raw(url: &str) -> Verdict<(Connection, Channel)> {
    let connection = Connection::connect(url, ConnectionProperties::default()).await?;
    let channel = connection.create_channel().await?;
    Ok((connection, channel))
}
