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

#[tokio::test]
async fn an_unknown_scheme_names_those_near_and_known() {
    let error = connect("memroy://x").await.unwrap_err();
    assert!(error.text().contains("memroy://") && error.text().contains("did you mean \"memory\"?"), "{error}");
    let error = connect("mqtt://x").await.unwrap_err();
    assert!(error.text().contains("known here") || error.text().contains("did you mean"), "{error}");
    assert!(connect("nothing").await.unwrap_err().text().contains("no scheme"));
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
