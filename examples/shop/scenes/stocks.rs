//! Share prices: a topic with subjects. One server takes all of them, one only Apple's. Written with the macro.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use messaging::{Json, Message, Result, State, listener, listeners};

use crate::input::{Price, stock_lines};
use crate::picture::{self, Progress};
use crate::report::{Faults, Report, expect};
use crate::stage::Stage;

/// Prices that the two servers have seen.
#[derive(Clone, Default)]
struct Board {
    seen: Arc<Mutex<BTreeMap<&'static str, Vec<Price>>>>,
}

impl Board {
    fn put(&self, server: &'static str, price: Price) {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).entry(server).or_default().push(price);
    }

    fn count(&self, server: &str) -> u64 {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).get(server).map_or(0, Vec::len) as u64
    }
}

#[listener(topic = "stocks", subscription = "all")]
async fn all_shares(Json(price): Json<Price>, State(board): State<Board>) {
    board.put("all", price);
}

#[listener(topic = "stocks", subscription = "apple", filter = "stock.AAPL")]
async fn only_apple(Json(price): Json<Price>, State(board): State<Board>) {
    board.put("apple", price);
}

pub(crate) async fn play(stage: &mut Stage, report: &mut Report, faults: &mut Faults) -> Result<()> {
    picture::title(
        4,
        "Stocks",
        "A topic with subjects \"stock.AAPL\" and so on: one server takes all, one only Apple's.",
    );
    stage.clear(&[], &[("stocks", "all"), ("stocks", "apple")]).await?;
    let board = Board::default();
    let mut app = stage.app().state(board.clone()).mount(listeners![all_shares, only_apple]);
    let exchange = app.publisher("stocks");
    let running = app.start().await?;

    let prices: Vec<Price> = stock_lines().iter().filter_map(|line| serde_json::from_slice(&line.bytes).ok()).collect();
    let apples = prices.iter().filter(|price| price.symbol == "AAPL").count() as u64;
    let message = |price: &Price| -> Result<Message> {
        let subject = format!("stock.{}", price.symbol);
        Json(price).into_message()?.message_type("share.priced").subject(subject).key(price.symbol.as_str()).build()
    };
    let messages = prices.iter().map(message).collect::<Result<Vec<_>>>()?;
    let published = stage.publish(exchange.publisher()?, messages, &Progress::of(prices.len())).await?;
    stage.until("prices received", published + apples, || board.count("all") + board.count("apple")).await?;
    stage.close(running).await?;

    let received = ["all", "apple"].map(|server| (server, board.count(server)));
    let last = board
        .seen
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .get("apple")
        .and_then(|prices| prices.last().cloned());
    let note = last.map_or_else(String::new, |price| format!("the last one ${} in {}", price.price, price.date));
    picture::bars([(received[0].0, received[0].1, String::new()), (received[1].0, received[1].1, note)]);

    report.stocks.published = published;
    report.stocks.received = received.map(|(name, count)| (name.to_owned(), count)).into();
    if !stage.is_interrupted() {
        expect(faults, "share prices received", received[0].1, published);
        expect(faults, "prices of Apple received", received[1].1, apples);
    }
    Ok(())
}
