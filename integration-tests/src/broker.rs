//! One trait for a broker, however it was obtained.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

use async_trait::async_trait;

use crate::{Error, Kind, Proxy, Result, Route};

/// How a broker was obtained.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// Its address was in the environment: somebody else's, so it can be used and cut off, but not stopped.
    Environment,
    /// A container of this run.
    Container,
    /// A process of this run.
    Native,
}

impl fmt::Display for Way {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str(match self {
            Self::Environment => "environment",
            Self::Container => "container",
            Self::Native => "native",
        })
    }
}

/// A way in to a broker. Which there are depends on the broker and on how it was obtained.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Door {
    /// Straight to the server, with no login where the broker knows such a thing, else as the administrator.
    Plain,
    /// The same through [`Broker::proxy`].
    Proxied,
    /// Where a login is required and permissions count.
    Login,
    /// Encrypted, with the server certificate of [`certificates`](crate::tls::certificates).
    Tls,
    /// Encrypted, and a login is required. The same as [`Door::Tls`] but for Kafka, which has a listener for each.
    TlsLogin,
    /// The HTTP management interface.
    Management,
}

/// A user and the password it is tried with.
#[derive(Clone, PartialEq, Eq)]
pub struct Account {
    /// The user's name.
    pub user: &'static str,
    /// The password. `Debug` does not show it.
    pub password: &'static str,
}

impl fmt::Debug for Account {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.debug_struct("Account").field("user", &self.user).finish_non_exhaustive()
    }
}

/// The accounts of every broker with logins.
#[derive(Debug, Clone)]
pub struct Accounts {
    /// May do everything.
    pub admin: Account,
    /// May log in and not publish (on Kafka and Redis: nothing but see that it is there).
    pub limited: Account,
    /// The administrator with a password that is wrong.
    pub wrong: Account,
}

/// A broker: where it is, and what can be done to it.
///
/// `start`, `stop`, `kill`, `pause` and `resume` return when it is so: after `start` a message has gone through by the raw
/// client; after `kill` the process is gone. On a broker from the environment they are
/// [`Unsupported`](crate::ErrorKind::Unsupported). Dropping a broker of one's own ends it and removes its data; a shared
/// one ends with the process.
#[async_trait]
pub trait Broker: fmt::Debug + Send + Sync {
    /// Which server it is.
    fn kind(&self) -> Kind;

    /// How it was obtained.
    fn way(&self) -> Way;

    /// The address behind a door.
    ///
    /// # Errors
    /// [`Unsupported`](crate::ErrorKind::Unsupported) if this broker has no such door.
    fn address(&self, door: Door) -> Result<SocketAddr>;

    /// The URL of a door for an account; without one, as the door's usual user.
    ///
    /// # Errors
    /// [`Unsupported`](crate::ErrorKind::Unsupported) if this broker has no such door.
    fn url_at(&self, door: Door, account: Option<&Account>) -> Result<String>;

    /// The proxy that [`Door::Proxied`] goes through.
    fn proxy(&self) -> &Proxy;

    /// Accounts that can log in at [`Door::Login`] and [`Door::TlsLogin`], if this broker knows logins.
    fn accounts(&self) -> Option<&Accounts>;

    /// Where the server writes its output, if it is ours.
    fn log_file(&self) -> Option<PathBuf>;

    /// Starts it on the data it had, and returns once a message went through. Already running: just waits for that.
    async fn start(&self) -> Result<()>;

    /// Ends it as an administrator would; by force if it takes longer than 20 s. Its data stays.
    async fn stop(&self) -> Result<()>;

    /// Ends it by SIGKILL. Its data stays as it was at that moment.
    async fn kill(&self) -> Result<()>;

    /// Stops its process where it is, sockets open: it is silent and not dead.
    async fn pause(&self) -> Result<()>;

    /// Lets a paused process go on.
    async fn resume(&self) -> Result<()>;

    /// The URL of [`Door::Plain`].
    fn url(&self) -> String;

    /// The URL of [`Door::Proxied`].
    fn proxied_url(&self) -> String;

    /// Runs the server's own command line for administrators: `rabbitmqctl` with these arguments; of Kafka the class that comes
    /// first, such as `org.apache.kafka.tools.TopicCommand`, with the rest. Returns what it printed.
    ///
    /// # Errors
    /// [`Unsupported`](crate::ErrorKind::Unsupported) for one that is not native, and for other kinds; what it printed, if it
    /// failed.
    async fn administer(&self, arguments: &[&str]) -> Result<String> {
        let text =
            format!("this {} has no command line here, asked for {arguments:?}: use a native server", self.kind());
        Err(Error::unsupported(text))
    }

    /// A way in through a proxy of the caller's own, so that its faults meet nobody else. Of Kafka there are eight: the call
    /// waits for one to be given back.
    ///
    /// # Errors
    /// [`Unsupported`](crate::ErrorKind::Unsupported) for a Kafka that is no native server of one node: it would send its clients
    /// past the proxy.
    async fn route(&self) -> Result<Route>;

    /// Stops it and starts it on the same data.
    async fn restart(&self) -> Result<()> {
        self.stop().await?;
        self.start().await
    }
}
