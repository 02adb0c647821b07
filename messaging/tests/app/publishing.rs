//! Publishing by binding name.

use messaging::{App, ErrorKind, HandlerError, Listen, Message, Publishers};

use super::support::{memory_and, says, until_tally};

async fn nothing() {}

#[tokio::test]
async fn before_the_start_and_after_the_shutdown_nothing_is_published() {
    let mut app = App::new().listen(Listen::queue("orders"), nothing);
    let orders = app.publisher("orders");
    let error = orders.publish("too early").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Closed);
    says(&error, &["has not started yet", "\"orders\"", "App::start"]);
    let running = app.start().await.unwrap();
    orders.publish("in time").await.unwrap();
    until_tally(&running, "orders", |tally| tally.acked == 1).await;
    let publishers = running.publishers();
    running.shutdown().await.unwrap();
    assert_eq!(orders.publish("too late").await.unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!(publishers.publish("other", "too late").await.unwrap_err().kind(), ErrorKind::Closed);
}

#[tokio::test]
async fn from_a_handler_a_binding_that_is_not_configured_names_the_nearest() {
    async fn forward(message: Message, publishers: Publishers) -> Result<(), HandlerError> {
        let error = publishers.publish("invoces", message).await.unwrap_err();
        says(&error, &["\"invoces\"", "did you mean \"invoices\"?"]);
        assert_eq!(error.kind(), ErrorKind::NotFound);
        Ok(())
    }
    let config = memory_and("[bindings.orders]\nqueue = \"orders\"\n[bindings.invoices]\nqueue = \"invoices\"");
    let mut app = App::with_config(config).listen(Listen::queue("orders"), forward);
    let orders = app.publisher("orders");
    let running = app.start().await.unwrap();
    orders.publish("x").await.unwrap();
    until_tally(&running, "orders", |tally| tally.acked == 1).await;
}

#[tokio::test]
async fn publishers_are_opened_once_and_shared() {
    let app =
        App::with_config(memory_and("[publishers.orders]\nin_flight = 7")).listen(Listen::queue("orders"), nothing);
    let running = app.start().await.unwrap();
    let publishers = running.publishers();
    let (first, second) = tokio::join!(publishers.to("orders"), publishers.to("orders"));
    assert!(std::sync::Arc::ptr_eq(&first.unwrap(), &second.unwrap()));
    assert!(format!("{:?}", publishers.to("orders").await.unwrap().core().in_flight()).contains("count: 7"));
}
