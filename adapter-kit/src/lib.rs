//! Parts of a broker adapter that are the same for every broker.

mod due_queue;
mod epoch;
mod key_gate;
mod opened;
mod trouble;

pub use self::due_queue::{DueQueue, instant_after, instant_of};
pub use self::epoch::{DeliveryId, Epoch};
pub use self::key_gate::KeyGate;
pub use self::opened::Opened;
pub use self::trouble::Trouble;
