use messaging_macros::listeners;

fn main() {
    let _: Vec<()> = listeners![orders::handle orders::pack];
}
