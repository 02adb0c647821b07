//! Which destination a name in the code stands for.

use messaging::{Config, Destination, ErrorKind, UsedAs};

use crate::{load, with_broker};

const ALL: [UsedAs; 3] = [UsedAs::Queue, UsedAs::Topic, UsedAs::Publish];

fn destination(config: &Config, name: &str, used_as: UsedAs) -> String {
    config.binding(name, used_as).unwrap().destination.to_string()
}

#[test]
fn without_bindings_a_name_is_that_of_its_destination() {
    let config = with_broker("");
    assert_eq!(destination(&config, "orders", UsedAs::Queue), "queue \"orders\"");
    assert_eq!(destination(&config, "orders", UsedAs::Topic), "topic \"orders\"");
    assert_eq!(destination(&config, "orders", UsedAs::Publish), "queue \"orders\"");
    assert_eq!(config.binding("orders", UsedAs::Queue).unwrap().broker.as_str(), "main");
    assert_eq!(config.binding_names().count(), 0);
    for used_as in ALL {
        assert_eq!(config.binding("No_Name", used_as).unwrap_err().kind(), ErrorKind::InvalidName);
    }
}

#[test]
fn with_bindings_only_these_are_known() {
    let config = with_broker("[bindings.orders]\nqueue = \"orders.eu\"\n[bindings.weather]\ntopic = \"weather\"\n");
    assert_eq!(config.binding_names().collect::<Vec<_>>(), ["orders", "weather"]);
    assert_eq!(destination(&config, "orders", UsedAs::Queue), "queue \"orders.eu\"");
    for used_as in ALL {
        let error = config.binding("ordres", used_as).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
        assert!(error.text().starts_with("binding \"ordres\" is not configured in "), "{error}");
        assert!(error.text().ends_with("app.toml: add [bindings.ordres]; did you mean \"orders\"?"), "{error}");
    }
    // An empty table is a table, too.
    let config = with_broker("[bindings]\n");
    let error = config.binding("orders", UsedAs::Queue).unwrap_err();
    assert!(error.text().contains("none are known here"), "{error}");
}

#[test]
fn a_queue_listener_can_be_a_member_of_a_durable_subscription() {
    let config = with_broker(
        "[bindings.orders]\ntopic = \"sales\"\nsubscription = \"audit\"\n[bindings.bare]\ntopic = \"sales\"\n",
    );
    let binding = config.binding("orders", UsedAs::Queue).unwrap();
    assert_eq!(binding.destination, Destination::topic("sales").unwrap());
    assert_eq!(binding.subscription.unwrap().as_str(), "audit");
    let error = config.binding("bare", UsedAs::Queue).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.text().contains("add subscription = "), "{error}");
    assert_eq!(config.binding("bare", UsedAs::Topic).unwrap().subscription, None);
    assert_eq!(destination(&config, "bare", UsedAs::Publish), "topic \"sales\"");
}

#[test]
fn a_topic_listener_needs_a_topic() {
    let config = with_broker("[bindings.orders]\nqueue = \"orders\"\n");
    let error = config.binding("orders", UsedAs::Topic).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(
        error.text().contains("binding \"orders\" is used as a topic") && error.text().contains("queue \"orders\"")
    );
}

#[test]
fn the_default_broker_is_the_only_one_or_main() {
    let other = "[brokers.other]\nurl = \"memory://\"\n";
    let bindings = "[bindings.a]\nqueue = \"a\"\n[bindings.b]\nqueue = \"b\"\nbroker = \"other\"\n";
    let only = load(&format!("{other}{bindings}"), &[]).unwrap();
    assert_eq!(only.binding("a", UsedAs::Queue).unwrap().broker.as_str(), "other");
    let two = with_broker(&format!("{other}{bindings}"));
    assert_eq!(two.binding("a", UsedAs::Queue).unwrap().broker.as_str(), "main");
    assert_eq!(two.binding("b", UsedAs::Queue).unwrap().broker.as_str(), "other");
    let brokers = two.brokers().unwrap();
    assert_eq!(brokers.iter().map(|broker| broker.name.as_str()).collect::<Vec<_>>(), ["main", "other"]);
    assert_eq!(brokers.iter().map(|broker| broker.destinations.len()).collect::<Vec<_>>(), [1, 1]);

    let none = load(&format!("{other}[brokers.third]\nurl = \"memory://\"\n"), &[]).unwrap();
    let error = none.binding("a", UsedAs::Queue).unwrap_err();
    assert!(error.text().contains("broker = \"other\" or \"third\""), "{error}");
}

#[test]
fn brokers_know_what_bindings_say_of_destinations() {
    let config = with_broker(
        r#"
        [bindings.orders]
        queue = "orders"
        native = "LEGACY.ORDERS"
        order_by = "key"
        options = { type = "classic" }
        [bindings.again]
        queue = "orders"
        [bindings.plain]
        topic = "orders"
        "#,
    );
    let mut destinations = config.brokers().unwrap().remove(0).destinations;
    assert_eq!(destinations.len(), 2);
    let queue = destinations.get_mut(&Destination::queue("orders").unwrap()).unwrap();
    assert_eq!(queue.native.as_deref(), Some("LEGACY.ORDERS"));
    assert!(queue.driver.place().starts_with("[bindings.orders.options] in "), "{}", queue.driver.place());
    assert_eq!(queue.driver.take_text("type").as_deref(), Some("classic"));
    assert_eq!(destinations[&Destination::topic("orders").unwrap()].native, None);
}

#[test]
fn a_name_with_a_dot_is_written_in_quotes() {
    let config = with_broker("[bindings.\"orders.eu\"]\nqueue = \"a\"\n");
    assert_eq!(destination(&config, "orders.eu", UsedAs::Queue), "queue \"a\"");
}
