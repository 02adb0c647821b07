use messaging_macros::listener;

#[listener(topic = "weather", ephemeral = true)]
async fn handle_order() {}

fn main() {}
