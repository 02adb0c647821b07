use messaging_macros::listener;

#[listener(topic = "weather", subscription = "dashboard", start = latest)]
async fn handle_order() {}

fn main() {}
