use messaging_macros::listener;

#[listener(topic = "weather", subscription = "dashboard", ephemeral)]
async fn handle_order() {}

fn main() {}
