//! Poison: orders that fail. Bounded retries, a dead letter with the reason, and a redrive after the "fix".

use std::collections::BTreeSet;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use messaging::{Attempt, Json, Message, Redrive, Result, State, listener, listeners};

use crate::input::{Line, Order};
use crate::picture::{self, Progress};
use crate::report::{Faults, Report, expect};
use crate::stage::Stage;

/// How many orders are in the scene; every third is poison, the second fails once.
const ORDERS: usize = 12;

#[derive(Clone, Default)]
struct Workshop {
    fixed: Arc<AtomicBool>,
    done: Arc<Mutex<BTreeSet<u64>>>,
}

impl Workshop {
    fn done(&self) -> u64 {
        self.done.lock().unwrap_or_else(PoisonError::into_inner).len() as u64
    }
}

/// Why an order cannot be handled.
#[derive(Debug)]
struct Broken {
    order: u64,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "order {} has an address that the label printer cannot read", self.order)
    }
}

impl std::error::Error for Broken {}

fn is_poison(order: u64) -> bool {
    order.is_multiple_of(3)
}

#[listener(queue = "repairs", id = "repair", retry(attempts = 3, initial = "20ms"))]
async fn repair(
    Json(order): Json<Order>,
    Attempt(attempt): Attempt,
    State(workshop): State<Workshop>,
) -> std::result::Result<(), Broken> {
    let fails_now = is_poison(order.order) || (order.order == 2 && attempt == 1);
    if fails_now && !workshop.fixed.load(Ordering::Relaxed) {
        return Err(Broken { order: order.order });
    }
    workshop.done.lock().unwrap_or_else(PoisonError::into_inner).insert(order.order);
    Ok(())
}

pub(crate) async fn play(stage: &mut Stage, report: &mut Report, lines: &[Line], faults: &mut Faults) -> Result<()> {
    picture::title(
        5,
        "Poison",
        "Some orders fail at first: bounded retries, then the dead letter with the reason, then redrive after the fix.",
    );
    stage.clear(&["repairs"], &[]).await?;
    let mut orders: Vec<Order> = super::readable(lines).take(ORDERS).collect();
    for (index, order) in orders.iter_mut().enumerate() {
        order.order = index as u64 + 1;
    }
    let poison = orders.iter().filter(|order| is_poison(order.order)).count() as u64;
    let all = orders.len() as u64;

    let workshop = Workshop::default();
    let mut app = stage.app().state(workshop.clone()).mount(listeners![repair]);
    let publisher = app.publisher("repairs");
    let running = app.start().await?;
    let message = |order: &Order| -> Result<Message> { Json(order).into_message()?.build() };
    let messages = orders.iter().map(message).collect::<Result<Vec<_>>>()?;
    stage.publish(publisher.publisher()?, messages, &Progress::of(orders.len())).await?;
    let tally = || running.ledger().total();
    stage.until("orders handled or dead-lettered", all, || workshop.done() + tally().dead_lettered).await?;

    let source = running.source_of("repairs")?;
    let broker = running.broker_of("repairs")?;
    let dead = broker.inspect().dead_letters(&source, ORDERS).await?;
    picture::line(&format!(
        "{} handled, {} retries, {} in the dead letter:",
        workshop.done(),
        tally().retried,
        dead.len()
    ));
    for letter in &dead {
        let cause = letter.reason.errors.last().map_or("", String::as_str);
        picture::line(&format!(
            "   {} after {}: {cause}",
            letter.reason.code,
            picture::count(u64::from(letter.attempts), "attempt")
        ));
    }
    let dead_lettered = dead.len() as u64;

    workshop.fixed.store(true, Ordering::Relaxed);
    let redriven = if stage.is_interrupted() { 0 } else { broker.repair().redrive(&source, Redrive::All).await? };
    stage.until("orders handled", all, || workshop.done()).await?;
    picture::line(&format!("the printer is fixed: {redriven} redriven, {} of {all} handled in all", workshop.done()));
    let left = broker.inspect().dead_letters(&source, 1).await?.len() as u64;
    stage.close(running).await?;

    report.orders.dead_lettered += dead_lettered;
    report.orders.redriven = redriven;
    if !stage.is_interrupted() {
        expect(faults, "poisonous orders dead-lettered", dead_lettered, poison);
        expect(faults, "poisonous orders redriven", redriven, poison);
        expect(faults, "orders handled in the end", workshop.done(), all);
        expect(faults, "dead letters left", left, 0);
    }
    Ok(())
}
