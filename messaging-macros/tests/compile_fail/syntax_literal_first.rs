use messaging_macros::listener;

#[listener("orders")]
async fn handle_order() {}

fn main() {}
