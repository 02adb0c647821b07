//! JSON costs what serde itself needs, and nothing more.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use allocation_counter::measure;
use messaging::{Codecs, Json, Message};
use serde::{Deserialize, Serialize};

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Order {
    id: u64,
    customer: String,
    lines: Vec<u32>,
}

fn order() -> Order {
    Order { id: 7, customer: "c".repeat(300), lines: (0..20).collect() }
}

#[test]
fn encoding_takes_one_allocation_for_the_payload_and_one_for_the_message() {
    let order = order();
    let encode = || Json(&order).into_message().unwrap().build().unwrap();
    // The first message of a thread makes its buffer and its source of ids.
    drop(encode());
    assert_eq!(measure(|| drop(encode())).count_total, 2);
}

#[test]
fn decoding_takes_what_the_value_holds() {
    let message = Json(order()).into_message().unwrap().build().unwrap();
    let alone = measure(|| drop(serde_json::from_slice::<Order>(message.payload()).unwrap())).count_total;
    assert_eq!(measure(|| drop(Json::<Order>::decode(&message).unwrap())).count_total, alone);
    let codecs = Codecs::default();
    assert_eq!(measure(|| drop(codecs.decode::<Order>(&message).unwrap())).count_total, alone);
    let bare = Message::new("7");
    assert_eq!(measure(|| assert_eq!(codecs.decode::<u64>(&bare).unwrap(), 7)).count_total, 0);
}
