use messaging_macros::listener;

#[listener(subscription = "dashboard")]
async fn handle_order() {}

fn main() {}
