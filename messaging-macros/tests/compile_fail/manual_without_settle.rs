use messaging_macros::listener;

struct Message;

#[listener(queue = "orders", ack = manual)]
async fn handle_order(_message: Message) {}

fn main() {}
