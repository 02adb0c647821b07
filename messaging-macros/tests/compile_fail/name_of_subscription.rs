use messaging_macros::listener;

#[listener(topic = "weather", subscription = "dash--board")]
async fn handle_order() {}

fn main() {}
