//! Why keys and `hold` exist: three orders of one customer, of which the first fails once.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use messaging::{Attempt, HandlerError, Json, Listen, Message, Order as KeepOrder, Result, Retry};

use crate::input::{Line, Order};
use crate::picture::{self, Progress};
use crate::report::Faults;
use crate::stage::Stage;

pub(crate) async fn play(stage: &mut Stage, lines: &[Line], faults: &mut Faults) -> Result<()> {
    picture::line("");
    stage.clear(&["unkeyed", "keyed"], &[]).await?;
    let mut orders: Vec<Order> = super::readable(lines).take(3).collect();
    for (index, order) in orders.iter_mut().enumerate() {
        order.order = index as u64 + 1;
    }
    if orders.len() < 3 {
        picture::line("(fewer than three readable orders: too few to show what a retry does to their sequence)");
        return Ok(());
    }

    picture::line("Now three orders of one customer, and the first fails once:");
    let unkeyed = handled_in(stage, "unkeyed", KeepOrder::None, &orders).await?;
    let keyed = handled_in(stage, "keyed", KeepOrder::ByKey, &orders).await?;
    if stage.is_interrupted() {
        return Ok(());
    }
    picture::line(&format!("   without keys       {}   the retry lands behind the others", arrows(&unkeyed)));
    picture::line(&format!("   key and hold       {}   the others of its key wait for it", arrows(&keyed)));
    if unkeyed != [2, 3, 1] {
        faults.push(format!("without keys the orders were handled as {unkeyed:?}, and 2, 3, 1 was expected"));
    }
    if keyed != [1, 2, 3] {
        faults.push(format!("with keys and hold the orders were handled as {keyed:?}, and 1, 2, 3 was expected"));
    }
    Ok(())
}

/// The sequence in which one server gets the orders done.
async fn handled_in(stage: &mut Stage, binding: &str, order_by: KeepOrder, orders: &[Order]) -> Result<Vec<u64>> {
    let handled = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&handled);
    let listen = Listen::queue(binding)
        .order_by(order_by)
        .retry(Retry::default().initial(Duration::from_millis(100)).jitter(false));
    let mut app = stage.app().listen(listen, move |Json(order): Json<Order>, Attempt(attempt)| {
        let seen = Arc::clone(&seen);
        async move {
            if order.order == 1 && attempt == 1 {
                return Err(HandlerError::new("the warehouse did not answer"));
            }
            seen.lock().unwrap_or_else(PoisonError::into_inner).push(order.order);
            Ok(())
        }
    });
    let publisher = app.publisher(binding);
    let running = app.start().await?;
    let message = |order: &Order| -> Result<Message> { Json(order).into_message()?.key("customer-1").build() };
    let messages = orders.iter().map(message).collect::<Result<Vec<_>>>()?;
    stage.publish(publisher.publisher()?, messages, &Progress::of(orders.len())).await?;
    let count = || handled.lock().unwrap_or_else(PoisonError::into_inner).len() as u64;
    stage.until("orders handled", orders.len() as u64, count).await?;
    stage.close(running).await?;
    let sequence = handled.lock().unwrap_or_else(PoisonError::into_inner).clone();
    Ok(sequence)
}

fn arrows(sequence: &[u64]) -> String {
    sequence.iter().map(u64::to_string).collect::<Vec<_>>().join(" → ")
}
