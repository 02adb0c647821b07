use messaging_macros::listener;

#[listener(topic = "weather_data", ephemeral)]
async fn handle_order() {}

fn main() {}
