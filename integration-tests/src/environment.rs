//! A broker that somebody else runs, known by its address.

use std::env;
use std::net::SocketAddr;
use std::path::PathBuf;

use async_trait::async_trait;

use crate::doors::{Doors, with_address};
use crate::raw::{Location, round_trip};
use crate::{Account, Accounts, Broker, Door, Error, Kind, Proxy, Result, Route, Way};

/// It can be used, and cut off by the proxy, and nothing else.
#[derive(Debug)]
pub(crate) struct Elsewhere {
    kind: Kind,
    url: String,
    doors: Doors,
}

/// The address given for this kind.
pub(crate) fn given(kind: Kind) -> Option<String> {
    env::var(kind.variable()).ok().filter(|url| !url.is_empty())
}

impl Elsewhere {
    pub(crate) async fn find(kind: Kind, url: String) -> Result<Self> {
        let place = |error: Error| error.within(format!("the {kind} of {}", kind.variable()));
        let address = Location::parse(&url, None).map_err(place)?.first_address().await.map_err(place)?;
        round_trip(kind, &url).await.map_err(place)?;
        Ok(Self { kind, url, doors: Doors::at(kind, address).await? })
    }

    fn not_ours(&self) -> Error {
        let variable = self.kind.variable();
        Error::unsupported(format!("the {} of {variable} is not ours to stop: obtain one of your own", self.kind))
    }
}

#[async_trait]
impl Broker for Elsewhere {
    fn kind(&self) -> Kind {
        self.kind
    }

    fn way(&self) -> Way {
        Way::Environment
    }

    fn address(&self, door: Door) -> Result<SocketAddr> {
        self.doors.address(door)
    }

    fn url_at(&self, door: Door, account: Option<&Account>) -> Result<String> {
        match (door, account) {
            (Door::Plain, None) => Ok(self.url()),
            (Door::Proxied, None) => Ok(self.proxied_url()),
            _ => Err(Error::unsupported(format!(
                "a {} known by its address has no door {door:?} for this account",
                self.kind
            ))),
        }
    }

    fn proxy(&self) -> &Proxy {
        self.doors.proxy()
    }

    fn accounts(&self) -> Option<&Accounts> {
        None
    }

    fn log_file(&self) -> Option<PathBuf> {
        None
    }

    async fn start(&self) -> Result<()> {
        Err(self.not_ours())
    }

    async fn stop(&self) -> Result<()> {
        Err(self.not_ours())
    }

    async fn kill(&self) -> Result<()> {
        Err(self.not_ours())
    }

    async fn pause(&self) -> Result<()> {
        Err(self.not_ours())
    }

    async fn resume(&self) -> Result<()> {
        Err(self.not_ours())
    }

    fn url(&self) -> String {
        self.url.clone()
    }

    async fn route(&self) -> Result<Route> {
        self.doors.route(&self.url).await
    }

    /// With Kafka, a client leaves the proxy at once: the server sends it to the address it advertises.
    fn proxied_url(&self) -> String {
        with_address(&self.url, self.doors.proxy().address())
    }
}
