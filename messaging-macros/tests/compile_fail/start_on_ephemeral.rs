use messaging_macros::listener;

#[listener(topic = "weather", ephemeral, start = earliest)]
async fn handle_order() {}

fn main() {}
