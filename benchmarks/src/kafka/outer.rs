//! Kafka's own measuring tools, on the same broker: how far the client library is from Java's.

use std::sync::Arc;

use super::cases::PAYLOAD_SIZES;
use super::{PARTITIONS, Sides};
use crate::brokers::load::Load;
use crate::report::Amount;
use crate::stats::median;

/// How often each tool runs.
const RUN_COUNT: usize = 3;

/// How many messages a run has, and how many bytes at most.
const RUN_MESSAGES: usize = 2_000_000;
const TOPIC_BYTES: usize = 512 * 1024 * 1024;

/// Messages a second of `kafka-producer-perf-test` and `kafka-consumer-perf-test`. They send no headers and no ids.
pub(super) fn measure(sides: &Arc<Sides>, is_quick: bool) -> Vec<Amount> {
    if let Err(error) = integration_tests::kafka_tool("org.apache.kafka.tools.ProducerPerformance") {
        eprintln!("kafka's own tools are left out: {error}");
        return Vec::new();
    }
    let mut amounts = Vec::new();
    for partitions in PARTITIONS {
        for size in PAYLOAD_SIZES {
            let (runs, messages) =
                if is_quick { (1, 5_000) } else { (RUN_COUNT, RUN_MESSAGES.min(TOPIC_BYTES / size)) };
            eprintln!("outer p{partitions}, {messages} x {size} B");
            let (mut published, mut consumed) = (Vec::new(), Vec::new());
            for _ in 0..runs {
                sides.with_topic(partitions, |topic| {
                    published.push(produce(sides, &topic, messages, size));
                    consumed.push(consume(sides, &topic, messages));
                });
            }
            for (tool, rates) in [("kafka-producer-perf-test", published), ("kafka-consumer-perf-test", consumed)] {
                let what = format!("{tool} p{partitions}, {}", Load::of(size).size());
                amounts.push(Amount { what, unit: "messages/s", value: median(&rates), goal: None });
            }
        }
    }
    amounts
}

fn produce(sides: &Sides, topic: &str, messages: usize, size: usize) -> f64 {
    let (messages, size) = (messages.to_string(), size.to_string());
    let mut arguments = vec!["--bootstrap-server", &sides.servers, "--topic", topic, "--num-records", &messages];
    arguments.extend(["--record-size", &size, "--throughput", "-1", "--command-property", "acks=all"]);
    arguments.extend(["linger.ms=0", "batch.size=1000000", "compression.type=lz4"]);
    let said = run("org.apache.kafka.tools.ProducerPerformance", &arguments);
    // The last line of all: "2000000 records sent, 512345.6 records/sec (125.1 MB/sec), …".
    let rate = said.lines().rev().find_map(|line| line.split_once(" records sent, ")?.1.split(' ').next());
    rate.and_then(|rate| rate.parse().ok()).unwrap()
}

fn consume(sides: &Sides, topic: &str, messages: usize) -> f64 {
    let messages = messages.to_string();
    let arguments = ["--bootstrap-server", &sides.servers, "--topic", topic, "--num-records", &messages];
    let said = run("org.apache.kafka.tools.ConsumerPerformance", &arguments);
    // A head and a line of values; `fetch.nMsg.sec` leaves out the time until the group has met, as we do.
    let lines: Vec<Vec<&str>> = said.lines().map(|line| line.split(", ").collect()).collect();
    let head = lines.iter().position(|line| line.contains(&"fetch.nMsg.sec")).unwrap();
    let column = lines[head].iter().position(|name| *name == "fetch.nMsg.sec").unwrap();
    lines[head + 1][column].trim().parse().unwrap()
}

fn run(class: &str, arguments: &[&str]) -> String {
    let output = integration_tests::kafka_tool(class).unwrap().args(arguments).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{class} failed: {said} {}", String::from_utf8_lossy(&output.stderr));
    said
}
