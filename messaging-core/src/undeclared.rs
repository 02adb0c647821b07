//! The refusals that an adapter inherits for what it does not implement.

use async_trait::async_trait;

use crate::capabilities::Feature;
use crate::error::{Error, ErrorKind, Result};
use crate::inspect::Inspect;
use crate::repair::Repair;
use crate::topology::{Declaration, Plan, Topology};

/// The answer of a provided method to a call that the adapter does not implement.
///
/// [`Checked`](crate::spi::Checked) refuses undeclared features before the adapter sees the call, so this is reached only where an
/// adapter declares what it does not implement, which the conformance suite finds.
#[cold]
#[must_use]
pub fn undeclared(feature: Feature) -> Error {
    Error::new(ErrorKind::Unsupported, format!("{feature}: this adapter does not offer it"))
}

/// Topology, inspection and repair of a broker that has none of them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Undeclared;

#[async_trait]
impl Topology for Undeclared {
    async fn plan(&self, _declarations: &[Declaration]) -> Result<Plan> {
        Err(no_topology())
    }

    async fn create(&self, _declarations: &[Declaration]) -> Result<()> {
        Err(no_topology())
    }
}

impl Inspect for Undeclared {}

impl Repair for Undeclared {}

#[cold]
fn no_topology() -> Error {
    Error::new(
        ErrorKind::Unsupported,
        "this adapter plans and makes nothing ahead: open a publisher or a consumer instead",
    )
}
