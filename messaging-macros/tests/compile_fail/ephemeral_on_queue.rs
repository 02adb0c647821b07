use messaging_macros::listener;

#[listener(queue = "orders", ephemeral)]
async fn handle_order() {}

fn main() {}
