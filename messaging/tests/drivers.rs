//! Which brokers this build can open, and what it says of those it cannot.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use messaging::{ErrorKind, connect, drivers};

#[tokio::test]
async fn a_broker_without_an_adapter_is_said_to_have_none() {
    for url in ["redis://me:s3cret@host", "rediss://h", "sqs://h", "activemq://h"] {
        let error = connect(url).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(error.text().contains("in this version yet"), "{error}");
        assert!(!error.to_string().contains("s3cret"), "{error}");
    }
}

/// The whole text of the error for an address that cannot be opened.
async fn refusal(url: &str) -> String {
    let error = connect(url).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    error.text().to_owned()
}

#[tokio::test]
async fn an_unknown_scheme_is_answered_with_this_builds_and_the_nearest() {
    let built = drivers().schemes();
    assert_eq!(refusal("mqtt://x").await, format!("no driver serves mqtt:// (this build has {built})"));
    let enable =
        if cfg!(feature = "memory") { "" } else { " enable the feature \"memory\" of the crate \"messaging\"" };
    assert_eq!(
        refusal("memroy://x").await,
        format!("no driver serves memroy:// (this build has {built}); did you mean memory://?{enable}")
    );
}

#[tokio::test]
async fn the_name_of_rabbitmq_is_answered_with_its_scheme() {
    let built = drivers().schemes();
    let enable =
        if cfg!(feature = "rabbitmq") { "" } else { "; enable the feature \"rabbitmq\" of the crate \"messaging\"" };
    for scheme in ["rabbit", "rabbitmq"] {
        assert_eq!(
            refusal(&format!("{scheme}://me:s3cret@h")).await,
            format!(
                "no driver serves {scheme}:// (this build has {built}); the scheme of RabbitMQ is amqp://, or amqps:// with TLS{enable}"
            )
        );
    }
}

#[tokio::test]
async fn an_address_without_a_scheme_is_answered_with_this_builds() {
    let built = drivers().schemes();
    for url in ["localhost:5672", "s3cret", ""] {
        assert_eq!(
            refusal(url).await,
            format!(
                "the broker's url is not valid: it has no scheme, which chooses the adapter: write SCHEME:// before the host (this build has {built})"
            )
        );
    }
}

#[cfg(feature = "memory")]
mod with_memory {
    use messaging::{Config, ConsumeOptions, Message, PublishOptions, PublisherExt, QueueName, UsedAs};

    use super::*;

    #[test]
    fn the_registry_lists_it() {
        let names: Vec<&str> = drivers().drivers().iter().map(|driver| driver.name).collect();
        assert_eq!(names.first(), Some(&"memory"));
        assert!(drivers().driver("redis").unwrap_err().text().contains("(this build has memory://"));
    }

    #[tokio::test]
    async fn a_configuration_opens_it_and_a_message_goes_through() {
        let config = Config::from_toml(
            "namespace = \"dev\"\n[brokers.main]\nurl = \"memory://\"\noptions = { capacity = 10 }\n[bindings.orders]\nqueue = \"orders.eu\"",
        )
        .unwrap();
        let options = config.brokers().unwrap().remove(0);
        let broker = drivers().connect(options).await.unwrap();
        let binding = config.binding("orders", UsedAs::Publish).unwrap();
        let publisher = broker.publisher(&binding.destination, PublishOptions::default()).await.unwrap();
        publisher.publish(Message::new("hello")).await.unwrap();
        let queue = QueueName::parse("orders.eu").unwrap();
        let mut consumer = broker.consume(&queue, ConsumeOptions::default()).await.unwrap();
        let delivery = consumer.next().await.unwrap().unwrap();
        assert_eq!(delivery.message().payload(), "hello");
        delivery.ack().await.unwrap();
    }

    #[tokio::test]
    async fn the_driver_refuses_an_option_it_does_not_know_and_names_its_place() {
        let config = Config::from_toml("[brokers.main]\nurl = \"memory://\"\noptions = { capcity = 10 }").unwrap();
        let error = drivers().connect(config.brokers().unwrap().remove(0)).await.unwrap_err();
        assert!(error.text().contains("\"capcity\" in [brokers.main.options] in the TOML text"), "{error}");
    }

    #[tokio::test]
    async fn the_default_configuration_opens() {
        let options = Config::memory().brokers().unwrap().remove(0);
        assert_eq!(drivers().connect(options).await.unwrap().identity().name().as_str(), "main");
    }
}

#[test]
fn a_scheme_that_another_build_serves_says_which_feature_to_enable() {
    for (scheme, feature) in [("amqp", "rabbitmq"), ("amqps", "rabbitmq"), ("kafka", "kafka"), ("kafkas", "kafka")] {
        match drivers().driver(scheme) {
            Ok(driver) => assert_eq!(driver.name, feature),
            Err(error) => assert!(error.text().contains(&format!("enable the feature {feature:?}")), "{error}"),
        }
    }
}

#[cfg(not(feature = "memory"))]
#[test]
fn memory_says_which_feature_to_enable() {
    let error = drivers().driver("memory").unwrap_err();
    assert!(error.text().contains("enable the feature \"memory\""), "{error}");
}
