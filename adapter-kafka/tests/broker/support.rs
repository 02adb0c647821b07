//! Shared by the adapter's own tests: the server, names, and connections by the adapter and by the client itself.

use std::sync::Arc;

use integration_tests::{Broker as Server, Kind};
use messaging_core::{Broker, BrokerUrl, ConnectOptions, Registry, Settings};

/// The server that all cases of a program share.
pub(crate) async fn server() -> Result<Arc<dyn Server>, integration_tests::Error> {
    integration_tests::shared(Kind::Kafka).await
}

/// A name that nobody has used.
pub(crate) fn fresh(stem: &str) -> String {
    format!("{stem}-{}", uuid::Uuid::new_v4().simple())
}

/// Connects with settings.
pub(crate) async fn connect<const N: usize>(
    url: &str,
    settings: [(&str, &str); N],
) -> messaging_core::Result<Arc<dyn Broker>> {
    let options = ConnectOptions::new(BrokerUrl::parse(url)?).with_settings(Settings::new("the test", settings));
    Registry::new().with(adapter_kafka::DRIVER)?.connect(options).await
}
