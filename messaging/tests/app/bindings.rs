//! What the configuration makes of a listener: bindings, overrides, several brokers.

use std::time::Duration;

use adapter_memory::MemoryServer;
use bytes::Bytes;
use messaging::{
    App, ConnectOptions, Destination, HandlerError, Listen, Message, PublisherExt, Publishers, Retry, Start, State,
};

use super::support::{Seen, config, dead_letters, memory_and, queue, subscription, text, until_tally};

async fn remember(payload: Bytes, State(seen): State<Seen<String>>) {
    seen.add(text(&payload));
}

async fn fail() -> Result<(), String> {
    Err("on purpose".to_owned())
}

#[tokio::test(start_paused = true)]
async fn a_queue_listener_becomes_a_member_of_a_durable_subscription() {
    let name = "bound-to-subscription";
    let url = format!("[brokers.main]\nurl = \"memory://{name}\"\n");
    let team = |subscription: &str| {
        config(&format!("{url}[bindings.orders]\ntopic = \"all-orders\"\nsubscription = \"{subscription}\""))
    };
    let (seen_billing, seen_mail) = (Seen::<String>::new(), Seen::<String>::new());
    // The same code twice: what it listens to is the configuration's affair.
    let start = async |config, seen: Seen<String>| {
        App::with_config(config).state(seen).listen(Listen::queue("orders"), remember).start().await.unwrap()
    };
    let billing_1 = start(team("billing"), seen_billing.clone()).await;
    let billing_2 = start(team("billing"), seen_billing.clone()).await;
    let mail = start(team("mail"), seen_mail.clone()).await;
    let publisher = billing_1.publisher("orders").await.unwrap();
    assert_eq!(publisher.core().scope().place(), "topic \"all-orders\"");
    for n in 0..10 {
        publisher.publish(n.to_string()).await.unwrap();
    }
    seen_billing.reach(10).await;
    seen_mail.reach(10).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!((seen_billing.len(), seen_mail.len()), (10, 10), "members share, groups do not");
    for running in [billing_1, billing_2, mail] {
        running.shutdown().await.unwrap();
    }
    MemoryServer::forget(name);
}

#[tokio::test(start_paused = true)]
async fn the_configuration_names_the_subscription_of_a_topic_listener() {
    let config = memory_and(
        "[bindings.weather]\ntopic = \"weather\"\nsubscription = \"dashboard\"\n[listeners.weather]\nretry = { attempts = 1 }",
    );
    let app = App::with_config(config).listen(Listen::topic("weather"), fail);
    let running = app.start().await.unwrap();
    running.publishers().publish("weather", "rain").await.unwrap();
    until_tally(&running, "weather", |tally| tally.dead_lettered == 1).await;
    assert_eq!(dead_letters(&running, &subscription("weather", "dashboard")).await.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn every_attribute_can_be_overridden() {
    let config = memory_and(
        r#"
        [listeners.work]
        concurrency = 3
        prefetch = 3
        retry = { attempts = 2, initial = "1h", max = "2h", jitter = false }
        dead_letter = "discard"
        timeout = "5s"
        requires = ["delayed_retry", "priority"]
        "#,
    );
    async fn hang(State(seen): State<Seen<String>>) {
        seen.add(String::new());
        std::future::pending::<()>().await;
    }
    let seen = Seen::<String>::new();
    let listen = Listen::queue("q").id("work").retry(Retry::default().attempts(9).multiplier(1.5));
    let mut app = App::with_config(config).state(seen.clone()).listen(listen, hang);
    let publisher = app.publisher("q");
    let running = app.start().await.unwrap();
    for _ in 0..10 {
        publisher.publish("x").await.unwrap();
    }
    seen.reach(3).await;
    let depth = running.broker("main").unwrap().inspect().depth(&queue("q")).await.unwrap();
    assert_eq!((depth.unsettled, depth.ready), (Some(3), 7), "three workers, each with one");
    until_tally(&running, "work", |tally| tally.timeouts == 3).await;
    assert!(seen.times()[3] >= Duration::from_secs(5));
    drop(running);
}

#[tokio::test(start_paused = true)]
async fn retries_are_overridden_field_by_field() {
    let config = memory_and("[listeners.q]\nretry = { attempts = 2, jitter = false }");
    async fn handle(State(seen): State<Seen<String>>) -> Result<(), String> {
        seen.add(String::new());
        Err("on purpose".to_owned())
    }
    let seen = Seen::<String>::new();
    let retry = Retry::default().initial(Duration::from_secs(7)).attempts(5);
    let mut app = App::with_config(config).state(seen.clone()).listen(Listen::queue("q").retry(retry), handle);
    let publisher = app.publisher("q");
    let running = app.start().await.unwrap();
    publisher.publish("x").await.unwrap();
    until_tally(&running, "q", |tally| tally.dead_lettered == 1).await;
    let waited = seen.times()[1] - seen.times()[0];
    assert!((Duration::from_secs(7)..Duration::from_millis(7_010)).contains(&waited), "{waited:?}");
}

#[tokio::test(start_paused = true)]
async fn a_disabled_listener_is_not_started() {
    let config = memory_and("[listeners.q]\nenabled = false");
    let app = App::with_config(config).state(Seen::<String>::new()).listen(Listen::queue("q"), remember);
    let running = app.start().await.unwrap();
    assert_eq!(running.ledger().listeners().count(), 0);
}

#[tokio::test(start_paused = true)]
async fn start_and_filter_are_the_subscriptions() {
    let server = MemoryServer::private();
    let broker = server.broker();
    let topic = Destination::topic("stocks").unwrap();
    let publisher = broker.publisher(&topic, Default::default()).await.unwrap();
    let stock = |name: &str, n: u32| {
        Message::builder(format!("{name}-{n}")).subject(format!("stock.{name}").as_str()).build().unwrap()
    };
    for name in ["apple", "other"] {
        publisher.publish(stock(name, 1)).await.unwrap();
    }
    let seen = Seen::<String>::new();
    let listen = Listen::topic("stocks").subscription("apple").filter("stock.apple").start(Start::Earliest);
    let app = App::new().broker("main", server.broker()).state(seen.clone()).listen(listen, remember);
    let running = app.start().await.unwrap();
    for name in ["apple", "other", "apple"] {
        publisher.publish(stock(name, 2)).await.unwrap();
    }
    until_tally(&running, "stocks--apple", |tally| tally.acked == 3).await;
    assert_eq!(seen.all(), ["apple-1", "apple-2", "apple-2"]);
}

#[tokio::test(start_paused = true)]
async fn several_brokers_in_one_app_and_publishing_from_one_to_the_other() {
    let config = config(
        r#"
        [brokers.main]
        url = "memory://"
        [brokers.archive]
        url = "memory://"
        [bindings.orders]
        broker = "main"
        queue = "orders"
        [bindings.old-orders]
        broker = "archive"
        queue = "orders"
        "#,
    );
    async fn forward(message: Message, publishers: Publishers) -> Result<(), HandlerError> {
        publishers.publish("old-orders", message.to_builder().header("via", "main").build()?).await?;
        Ok(())
    }
    async fn archive(message: Message, State(seen): State<Seen<String>>) {
        seen.add(message.headers().get("via").unwrap_or_default().to_owned());
    }
    let seen = Seen::<String>::new();
    let app = App::with_config(config)
        .state(seen.clone())
        .listen(Listen::queue("orders"), forward)
        .listen(Listen::queue("old-orders"), archive);
    let running = app.start().await.unwrap();
    running.publishers().publish("orders", "x").await.unwrap();
    until_tally(&running, "old-orders", |tally| tally.acked == 1).await;
    assert_eq!(seen.all(), ["main"]);
    assert_eq!(running.health().brokers.len(), 2);
    let error = running.broker("archiv").unwrap_err();
    assert!(error.to_string().contains("did you mean \"archive\"?"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn an_ephemeral_subscription_counts_what_it_missed() {
    let server = MemoryServer::private();
    let seen = Seen::<String>::new();
    let listen = Listen::topic("ticks").ephemeral().dead_letter(messaging::DeadLetterPolicy::Discard);
    let mut app = App::new().broker("main", server.broker()).state(seen.clone()).listen(listen, remember);
    let ticks = app.publisher("ticks");
    let running = app.start().await.unwrap();
    ticks.publish("1").await.unwrap();
    seen.reach(1).await;
    server.set_link(adapter_memory::Link::Down);
    let outside = server.open(ConnectOptions::new(messaging::BrokerUrl::parse("memory://").unwrap()));
    drop(outside);
    super::support::until("the listener is degraded", || running.health().state() != messaging::HealthState::Up).await;
    server.set_link(adapter_memory::Link::Up);
    ticks.publish("2").await.unwrap();
    seen.reach(2).await;
    super::support::until("the listener is well", || running.health().state() == messaging::HealthState::Up).await;
}
