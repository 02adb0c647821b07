//! The conformance suite on the tiny adapter.

#![allow(clippy::unwrap_used, reason = "a test program")]

use std::sync::Arc;

use messaging_conformance::{About, Harness, Power, Reality, Stage, conformance};
use messaging_core::{Broker, BrokerUrl, ConnectOptions, Destination, Result};
use tiny_adapter::TinyServer;

struct Tiny;

struct TinyStage(TinyServer);

#[async_trait::async_trait]
impl Harness for Tiny {
    fn about(&self) -> About {
        About { driver: "tiny", option: "", version: env!("CARGO_PKG_VERSION").to_owned(), reality: Reality::Real }
    }

    fn powers(&self) -> &[Power] {
        &[]
    }

    fn pinned(&self) -> &str {
        include_str!("capabilities.txt")
    }

    fn absent(&self) -> Option<String> {
        None
    }

    async fn begin(&self, _needs: &[Power]) -> Result<Arc<dyn Stage>> {
        Ok(Arc::new(TinyStage(TinyServer::default())))
    }
}

#[async_trait::async_trait]
impl Stage for TinyStage {
    fn options(&self) -> ConnectOptions {
        ConnectOptions::new(BrokerUrl::parse("tiny://").unwrap())
    }

    async fn connect(&self, options: ConnectOptions) -> Result<Arc<dyn Broker>> {
        self.0.connect(options)
    }

    async fn sweep(&self, _made: &[Destination]) -> Result<usize> {
        Ok(0)
    }
}

conformance!(Tiny);
