//! The addresses of one broker, and the URLs made of them.

use std::net::{Ipv4Addr, SocketAddr};

use crate::{Account, Accounts, Door, Error, Kind, Proxy, Result, run::Claim};

/// The ports a server listens on, with its proxy.
#[derive(Debug)]
pub(crate) struct Doors {
    kind: Kind,
    plain: SocketAddr,
    /// Where the proxy sends what comes to it.
    behind_proxy: SocketAddr,
    login: Option<SocketAddr>,
    tls: Option<SocketAddr>,
    management: Option<SocketAddr>,
    proxy: Proxy,
    accounts: Option<Accounts>,
    /// Kept until the server is gone for good: a server that is down must find its ports again.
    _claims: Vec<Claim>,
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
            management: None,
            proxy,
            // RabbitMQ's first user is needed even where nothing else is known.
            accounts: (kind == Kind::RabbitMq).then(|| accounts(kind)),
            _claims: Vec::new(),
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
        let management = if kind == Kind::RabbitMq { Some(claim()?) } else { None };
        let accounts = (!emulated).then(|| accounts(kind));
        let proxy = Proxy::start(behind_proxy).await?;
        Ok(Self { kind, plain, behind_proxy, login, tls, management, proxy, accounts, _claims: claims })
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

    pub(crate) fn address(&self, door: Door) -> Result<SocketAddr> {
        let found = match door {
            Door::Plain => Some(self.plain),
            Door::Proxied => Some(self.proxy.address()),
            Door::Login => self.login,
            Door::Tls => self.tls,
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
        let scheme = if door == Door::Tls { encrypted } else { plain };
        let account = account.or_else(|| self.usual(door));
        let login = account.map(|account| format!("{}:{}@", account.user, account.password)).unwrap_or_default();
        format!("{scheme}://{login}{address}{path}")
    }

    /// Whom a door expects: nobody where nobody needs to log in.
    fn usual(&self, door: Door) -> Option<&Account> {
        let always = matches!(self.kind, Kind::RabbitMq | Kind::ActiveMq);
        self.accounts.as_ref().filter(|_| always || door == Door::Login).map(|accounts| &accounts.admin)
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
