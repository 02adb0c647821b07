//! A listener without the macro: the binding's name, its options, and any async function of extractors.
#![allow(clippy::print_stdout, reason = "a program for people")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use messaging::{App, Attempt, Json, Listen, Result, State};
use serde::{Deserialize, Serialize};

#[derive(Deserialize, Serialize)]
struct Parcel {
    weight_kg: u32,
}

#[derive(Clone, Default)]
struct Scales(Arc<AtomicU32>);

async fn weigh(Json(parcel): Json<Parcel>, Attempt(attempt): Attempt, State(scales): State<Scales>) {
    let sum = scales.0.fetch_add(parcel.weight_kg, Ordering::Relaxed) + parcel.weight_kg;
    println!("attempt {attempt}: {} kg, {sum} kg in all", parcel.weight_kg);
}

#[tokio::main]
async fn main() -> Result<()> {
    let scales = Scales::default();
    let mut app = App::new().state(scales.clone()).listen(Listen::queue("parcels").concurrency(2), weigh);
    let parcels = app.publisher("parcels");
    let running = app.start().await?; // everything is checked before a message moves

    for weight_kg in 1..=4 {
        parcels.publish(Json(Parcel { weight_kg }).into_message()?.build()?).await?;
    }
    while running.ledger().total().acked < 4 {
        tokio::task::yield_now().await;
    }

    let report = running.shutdown().await?; // drains: what has started is finished
    println!("{}", report.ledger);
    assert_eq!(scales.0.load(Ordering::Relaxed), 10);
    Ok(())
}
