use messaging_macros::listener;

#[listener]
async fn handle_order() {}

fn main() {}
