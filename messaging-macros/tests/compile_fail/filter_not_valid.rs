use messaging_macros::listener;

#[listener(topic = "weather", ephemeral, filter = "stock.A*")]
async fn handle_order() {}

fn main() {}
