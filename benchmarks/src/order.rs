//! The order that the listeners with JSON handle.

use serde::{Deserialize, Serialize};

/// As JSON about 256 bytes.
#[derive(Serialize, Deserialize)]
pub(crate) struct Order {
    pub(crate) id: u64,
    customer: String,
    product: String,
    quantity: u32,
    unit_price: f64,
    note: String,
}

impl Order {
    pub(crate) fn numbered(id: u64) -> Self {
        Self {
            id,
            customer: "customer-0042".to_owned(),
            product: "a chair of oak, four legs, unpainted".to_owned(),
            quantity: 4,
            unit_price: 129.95,
            note: "x".repeat(100),
        }
    }
}
