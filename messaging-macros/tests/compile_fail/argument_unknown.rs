use messaging_macros::listener;

#[listener(queue = "orders", prefech = 64)]
async fn handle_order() {}

fn main() {}
