//! The addresses of one broker, and the URLs made of them.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use crate::proxy::Lanes;
use crate::run::Claim;
use crate::{Account, Accounts, Door, Error, Kind, Proxy, Result, Route};

/// How many tests can have a way of their own through Kafka's proxies at once.
const ROUTE_PORTS: usize = 8;

/// The ports a server listens on, with its proxy.
#[derive(Debug)]
pub(crate) struct Doors {
    kind: Kind,
    plain: SocketAddr,
    /// Where the proxy sends what comes to it.
    behind_proxy: SocketAddr,
    login: Option<SocketAddr>,
    tls: Option<SocketAddr>,
    tls_login: Option<SocketAddr>,
    management: Option<SocketAddr>,
    proxy: Proxy,
    /// Where a client must be told its proxy by the server: more proxies, and the listeners behind them.
    lanes: Option<(Arc<Lanes>, Vec<Lane>)>,
    accounts: Option<Accounts>,
    /// Kept until the server is gone for good: a server that is down must find its ports again.
    claims: Vec<Claim>,
}

/// A listener that sends its clients to a proxy.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Lane {
    pub(crate) listener: SocketAddr,
    pub(crate) advertised: SocketAddr,
}

impl Doors {
    /// One plain door at an address, as is all that is known of a server in the environment.
    pub(crate) async fn at(kind: Kind, plain: SocketAddr) -> Result<Self> {
        let proxy = Proxy::start(plain).await?;
        Ok(Self {
            kind,
            plain,
            behind_proxy: plain,
            login: None,
            tls: None,
            tls_login: None,
            management: None,
            proxy,
            lanes: None,
            // RabbitMQ's first user is needed even where nothing else is known.
            accounts: (kind == Kind::RabbitMq).then(|| accounts(kind)),
            claims: Vec::new(),
        })
    }

    /// All doors that a native server of this kind has, on ports of this run.
    pub(crate) async fn native(kind: Kind) -> Result<Self> {
        let mut claims = Vec::new();
        let mut claim = || -> Result<SocketAddr> {
            let claim = Claim::new()?;
            let port = claim.port();
            claims.push(claim);
            Ok(local(port))
        };
        let plain = claim()?;
        // Kafka sends a client where the listener it came to says, so the proxy needs a listener of its own.
        let behind_proxy = if kind == Kind::Kafka { claim()? } else { plain };
        let emulated = matches!(kind, Kind::Sqs | Kind::ElasticMq);
        let login = match kind {
            _ if emulated => None,
            Kind::Kafka => Some(claim()?),
            _ => Some(plain),
        };
        let tls = match kind {
            Kind::ElasticMq => None,
            // One port tells TLS from HTTP by the first byte.
            Kind::Sqs => Some(plain),
            _ => Some(claim()?),
        };
        let tls_login = match kind {
            _ if emulated => None,
            // There a listener wants a login of everybody or of nobody.
            Kind::Kafka => Some(claim()?),
            _ => tls,
        };
        let management = if kind == Kind::RabbitMq { Some(claim()?) } else { None };
        let accounts = (!emulated).then(|| accounts(kind));
        let proxy = Proxy::start(behind_proxy).await?;
        Ok(Self { kind, plain, behind_proxy, login, tls, tls_login, management, proxy, lanes: None, accounts, claims })
    }

    /// The same, with what [`Self::route`] needs.
    pub(crate) async fn with_lanes(kind: Kind) -> Result<Self> {
        let mut doors = Self::native(kind).await?;
        if kind == Kind::Kafka {
            let (mut proxies, mut lanes) = (Vec::new(), Vec::new());
            for _ in 0..ROUTE_PORTS {
                let claim = Claim::new()?;
                let listener = local(claim.port());
                doors.claims.push(claim);
                let proxy = Proxy::start(listener).await?;
                lanes.push(Lane { listener, advertised: proxy.address() });
                proxies.push(proxy);
            }
            doors.lanes = Some((Lanes::new(proxies), lanes));
        }
        Ok(doors)
    }

    /// The listeners of Kafka's lanes.
    pub(crate) fn lanes(&self) -> &[Lane] {
        self.lanes.as_ref().map_or(&[], |(_, lanes)| lanes)
    }

    /// A way of the caller's own, where `url` is that of the plain door.
    pub(crate) async fn route(&self, url: &str) -> Result<Route> {
        match &self.lanes {
            Some((lanes, _)) => lanes.borrow(|proxy| with_address(url, proxy.address())).await,
            None if self.kind == Kind::Kafka => Err(Error::unsupported(
                "kafka sends its clients to the address it advertises: only a native server of one node has more than one proxy",
            )),
            None => {
                let proxy = Proxy::start(self.behind_proxy).await?;
                let url = with_address(url, proxy.address());
                Ok(Route::own(proxy, url))
            }
        }
    }

    pub(crate) fn proxy(&self) -> &Proxy {
        &self.proxy
    }

    pub(crate) fn behind_proxy(&self) -> SocketAddr {
        self.behind_proxy
    }

    pub(crate) fn accounts(&self) -> Option<&Accounts> {
        self.accounts.as_ref()
    }

    /// Where the server itself listens, as far as this crate asked it to.
    pub(crate) fn own(&self) -> impl Iterator<Item = SocketAddr> {
        let doors = [Some(self.plain), Some(self.behind_proxy), self.login, self.tls, self.tls_login, self.management];
        let lanes = self.lanes().iter().map(|lane| lane.listener);
        doors.into_iter().flatten().chain(lanes).collect::<BTreeSet<_>>().into_iter()
    }

    pub(crate) fn address(&self, door: Door) -> Result<SocketAddr> {
        let found = match door {
            Door::Plain => Some(self.plain),
            Door::Proxied => Some(self.proxy.address()),
            Door::Login => self.login,
            Door::Tls => self.tls,
            Door::TlsLogin => self.tls_login,
            Door::Management => self.management,
        };
        let none = || {
            format!("this {} has no door {door:?}: only native servers have all, and emulators no logins", self.kind)
        };
        found.ok_or_else(|| Error::unsupported(none()))
    }

    pub(crate) fn plain_url(&self) -> String {
        self.url_of(Door::Plain, self.plain, None)
    }

    pub(crate) fn proxied_url(&self) -> String {
        self.url_of(Door::Proxied, self.proxy.address(), None)
    }

    pub(crate) fn url(&self, door: Door, account: Option<&Account>) -> Result<String> {
        Ok(self.url_of(door, self.address(door)?, account))
    }

    fn url_of(&self, door: Door, address: SocketAddr, account: Option<&Account>) -> String {
        let (plain, encrypted, path) = match self.kind {
            _ if door == Door::Management => ("http", "https", "/"),
            Kind::RabbitMq => ("amqp", "amqps", "/%2f"),
            Kind::Kafka => ("kafka", "kafkas", ""),
            Kind::Redis | Kind::Valkey => ("redis", "rediss", "/"),
            Kind::Sqs | Kind::ElasticMq => ("http", "https", ""),
            Kind::ActiveMq => ("amqp", "amqps", ""),
        };
        let scheme = if matches!(door, Door::Tls | Door::TlsLogin) { encrypted } else { plain };
        let account = account.or_else(|| self.usual(door));
        let login = account.map(|account| format!("{}:{}@", account.user, account.password)).unwrap_or_default();
        format!("{scheme}://{login}{address}{path}")
    }

    /// Account that a door expects; none where no login is needed.
    fn usual(&self, door: Door) -> Option<&Account> {
        let always = matches!(self.kind, Kind::RabbitMq | Kind::ActiveMq);
        let asked = always || matches!(door, Door::Login | Door::TlsLogin);
        self.accounts.as_ref().filter(|_| asked).map(|accounts| &accounts.admin)
    }
}

/// The accounts every broker of this kind is set up with.
pub(crate) fn accounts(kind: Kind) -> Accounts {
    // RabbitMQ's own first user, so that an address from elsewhere works with it too.
    let (user, password) = if kind == Kind::RabbitMq { ("guest", "guest") } else { ("admin", "admin-password") };
    Accounts {
        admin: Account { user, password },
        limited: Account { user: "limited", password: "limited-password" },
        wrong: Account { user, password: "not-the-password" },
    }
}

pub(crate) fn local(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

/// A URL with another address: login and path are kept.
pub(crate) fn with_address(url: &str, address: SocketAddr) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let (authority, path) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
    let login = authority.rsplit_once('@').map(|(login, _)| format!("{login}@")).unwrap_or_default();
    format!("{scheme}://{login}{address}{path}")
}
