use messaging_macros::listener;

#[listener(queue = "ooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooo")]
async fn handle_order() {}

fn main() {}
