//! From tables to a configuration.

use std::collections::BTreeMap;

use messaging_core::spi::IN_FLIGHT_MAX;
use messaging_core::suggest::hint;
use messaging_core::{
    BrokerName, BrokerUrl, ConnectOptions, Namespace, NoSubscriber, PublishOptions, QueueName, Result, Settings,
    TopologyMode,
};

use super::binding::{Bindings, Bound};
use super::listener::ListenerConfig;
use super::loaded::{Parts, SHUTDOWN_TIMEOUT};

/// Reads everything.
///
/// # Errors
/// [`ErrorKind::Config`](messaging_core::ErrorKind::Config) with every fault.
pub(super) fn read(mut root: Settings) -> Result<Parts> {
    let namespace = root.take_name("namespace", "namespace", |text| Namespace::parse(text));
    let (names, mut brokers) = read_brokers(&mut root, namespace.as_ref());
    let bindings = read_bindings(&mut root, names);
    for broker in &mut brokers {
        broker.destinations = bindings.destinations(&broker.name);
    }
    let listeners = root.take_named("listeners").unwrap_or_default();
    let listeners = listeners.into_iter().map(|(id, table)| (id, ListenerConfig::read(table))).collect();
    let publishers = read_publishers(&mut root, &bindings);
    let shutdown_timeout = root.take_table("app").and_then(|mut app| {
        let timeout = app.take_duration("shutdown_timeout");
        app.close();
        timeout
    });
    root.finish()?;
    let shutdown_timeout = shutdown_timeout.unwrap_or(SHUTDOWN_TIMEOUT);
    Ok(Parts { namespace, brokers, bindings, listeners, publishers, shutdown_timeout })
}

/// The names of all brokers, also of those that have faults: what refers to them is not at fault.
fn read_brokers(root: &mut Settings, namespace: Option<&Namespace>) -> (Vec<BrokerName>, Vec<ConnectOptions>) {
    if root.lacks("brokers") {
        root.note(format!(
            "no broker is configured {}: write for example [brokers.main] with url = \"memory://shop\"",
            root.origin()
        ));
    }
    let (mut names, mut brokers) = (Vec::new(), Vec::new());
    for (name, table) in root.take_named("brokers").unwrap_or_default() {
        let name = BrokerName::parse(&name).map_err(|error| note_name(&table, error.text())).ok();
        names.extend(name.clone());
        brokers.extend(read_broker(name, table, namespace));
    }
    (names, brokers)
}

fn read_broker(name: Option<BrokerName>, mut table: Settings, namespace: Option<&Namespace>) -> Option<ConnectOptions> {
    if !table.has("url") {
        table.fault("has no \"url\": write for example url = \"memory://shop\"");
    }
    let url = table.take_address("url", BrokerUrl::parse);
    let modes = [("create", TopologyMode::Create), ("verify", TopologyMode::Verify), ("assume", TopologyMode::Assume)];
    let topology = table.take_word("topology", &modes).unwrap_or_default();
    let settings = table.take_options("options");
    table.close();
    let mut options = ConnectOptions::new(url?).with_name(name?).with_topology(topology).with_settings(settings);
    options.namespace = namespace.cloned();
    Some(options)
}

fn read_bindings(root: &mut Settings, brokers: Vec<BrokerName>) -> Bindings {
    let default = match brokers.as_slice() {
        [only] => Some(only.clone()),
        several => several.iter().find(|name| **name == BrokerName::main()).cloned(),
    };
    let mut place = root.origin().to_owned();
    let named = root.take_named("bindings").map(|tables| {
        let mut named = BTreeMap::new();
        for (name, table) in tables {
            // A binding's name has the form of a destination's, which it stands for where there is no table.
            if let Err(error) = QueueName::parse(&name) {
                note_name(&table, &error.text().replacen("queue", "binding", 1));
            }
            table.origin().clone_into(&mut place);
            if let Some(bound) = Bound::read(table, &brokers, default.as_ref()) {
                named.insert(name, bound);
            }
        }
        named
    });
    let bindings = Bindings { place, named, brokers, default };
    for (one, other, destination) in bindings.conflicts() {
        root.note(format!(
            "[bindings.{one}] and [bindings.{other}] {} say different things about {destination}: say it in one of them",
            bindings.place
        ));
    }
    bindings
}

fn read_publishers(root: &mut Settings, bindings: &Bindings) -> BTreeMap<String, PublishOptions> {
    let mut publishers = BTreeMap::new();
    for (name, mut table) in root.take_named("publishers").unwrap_or_default() {
        if let Some(named) = &bindings.named
            && !named.contains_key(&name)
        {
            let hint = hint(&name, named.keys().map(String::as_str));
            table.fault(format_args!("is for a binding that is not configured{hint}"));
        }
        let defaults = PublishOptions::default();
        let options = PublishOptions {
            in_flight: table.take_count("in_flight", 1..=IN_FLIGHT_MAX as u64).unwrap_or(defaults.in_flight),
            in_flight_bytes: table.take_count("in_flight_bytes", 1..=u64::MAX).unwrap_or(defaults.in_flight_bytes),
            timeout: table.take_time_limit("timeout").unwrap_or(defaults.timeout),
            no_subscriber: table
                .take_word("no_subscriber", &[("accept", NoSubscriber::Accept), ("refuse", NoSubscriber::Refuse)])
                .unwrap_or(defaults.no_subscriber),
        };
        table.close();
        publishers.insert(name, options);
    }
    publishers
}

/// Reports what a parser says about the name of a table.
fn note_name(table: &Settings, text: &str) {
    table.note(format!("{}: {text}", table.place()));
}
