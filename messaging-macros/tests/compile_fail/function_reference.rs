use messaging_macros::listener;

struct Message;

#[listener(queue = "orders")]
async fn handle_order(_message: &Message) {}

fn main() {}
