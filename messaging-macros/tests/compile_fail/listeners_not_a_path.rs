use messaging_macros::listeners;

fn main() {
    let _: Vec<()> = listeners!["handle_order"];
}
