//! Orders: a queue, three servers that compete, and the order of each customer's purchases kept.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use messaging::{App, Json, Listen, Message, Order as KeepOrder, Result};

use crate::input::{Line, Order};
use crate::picture::{self, Progress};
use crate::report::{Faults, Report, expect};
use crate::stage::Stage;

const SERVER_NAMES: [&str; 3] = ["server-1", "server-2", "server-3"];

/// Orders that the three servers have handled, as if in one database.
#[derive(Default)]
struct Books {
    seen: HashSet<u64>,
    duplicates: u64,
    cents: i64,
    by_server: BTreeMap<String, (u64, i64)>,
    /// The last order of each customer: a later one must have a higher number.
    last: HashMap<String, u64>,
    violations: u64,
}

impl Books {
    fn enter(&mut self, server: &str, order: &Order) {
        if !self.seen.insert(order.order) {
            self.duplicates += 1;
            return;
        }
        let last = self.last.entry(order.customer.clone()).or_default();
        if *last > order.order {
            self.violations += 1;
        }
        *last = order.order;
        self.cents += order.cents();
        let (orders, cents) = self.by_server.entry(server.to_owned()).or_default();
        *orders += 1;
        *cents += order.cents();
    }
}

pub(crate) async fn play(stage: &mut Stage, report: &mut Report, lines: &[Line], faults: &mut Faults) -> Result<()> {
    picture::title(
        1,
        "Orders",
        "A queue. Three servers compete for its messages; each customer's orders stay in order (key = customer).",
    );
    stage.clear(&["orders"], &[]).await?;
    let books = Arc::new(Mutex::new(Books::default()));
    let mut app = stage.app();
    let till = app.publisher("orders");
    let running = with_servers(app, &books).start().await?;

    let progress = Progress::of(lines.len());
    let messages = lines.iter().map(message).collect::<Result<Vec<_>>>()?;
    let readable = super::readable(lines).map(|order| order.order).collect::<HashSet<_>>().len() as u64;
    let bad = lines.len() as u64 - super::readable(lines).count() as u64;
    let published = stage.publish(till.publisher()?, messages, &progress).await?;
    drop(progress);
    let settled = || running.ledger().total().acked + running.ledger().total().dead_lettered;
    stage.until("orders settled", published, settled).await?;
    let ledger = stage.close(running).await?;

    let books = std::mem::take(&mut *books.lock().unwrap_or_else(PoisonError::into_inner));
    let rows = SERVER_NAMES.map(|server| {
        let (orders, cents) = books.by_server.get(server).copied().unwrap_or_default();
        (server, orders, format!("orders  {:>12}", picture::dollars(cents)))
    });
    picture::bars(rows);
    picture::line(&format!(
        "{} published, {} handled, {} duplicates, {} out of order, {} in all",
        published,
        books.seen.len(),
        books.duplicates,
        books.violations,
        picture::dollars(books.cents)
    ));

    let orders = &mut report.orders;
    orders.published = published;
    orders.handled = books.seen.len() as u64;
    orders.duplicates = books.duplicates;
    orders.order_violations = books.violations;
    orders.total_usd = books.cents as f64 / 100.0;
    orders.by_server =
        SERVER_NAMES.map(|name| (name.to_owned(), books.by_server.get(name).map_or(0, |(orders, _)| *orders))).into();
    orders.bad_lines = ledger.total().dead_lettered;
    orders.dead_lettered = ledger.total().dead_lettered;
    if !stage.is_interrupted() {
        expect(faults, "orders handled", orders.handled, readable);
        expect(faults, "bad lines dead-lettered", orders.bad_lines, bad);
        expect(faults, "orders out of order", orders.order_violations, 0);
    }
    Ok(())
}

/// Three servers. Each is a listener of its own on the same queue, as it would be on a machine of its own.
fn with_servers(mut app: App, books: &Arc<Mutex<Books>>) -> App {
    for server in SERVER_NAMES {
        let books = Arc::clone(books);
        let listen = Listen::queue("orders").id(server).order_by(KeepOrder::ByKey).prefetch(16);
        app = app.listen(listen, move |Json(order): Json<Order>| {
            let books = Arc::clone(&books);
            async move {
                // Where a real server would wait for its database, this one lets the others have their turn.
                tokio::task::yield_now().await;
                books.lock().unwrap_or_else(PoisonError::into_inner).enter(server, &order);
            }
        });
    }
    app
}

/// A line as a message: its bytes as they stand, so that a bad one can be told by what it says.
pub(super) fn message(line: &Line) -> Result<Message> {
    let message = Message::builder(line.bytes.clone())
        .content_type("application/json")
        .message_type("order.placed")
        .header("line", line.number.to_string());
    match serde_json::from_slice::<Order>(&line.bytes) {
        Ok(order) => message.key(order.customer).build(),
        Err(_) => message.build(),
    }
}
