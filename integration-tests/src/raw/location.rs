//! A broker's URL, taken apart.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::{fmt, fs};

use crate::{Error, Result};

/// Where a broker is and who comes, as the URL says it.
#[derive(Clone)]
pub struct Location {
    url: String,
    encrypted: bool,
    login: Option<(String, String)>,
    hosts: Vec<String>,
    trust: Option<PathBuf>,
}

impl Location {
    /// Takes `scheme://user:password@host:port,host:port/path` apart.
    ///
    /// # Errors
    /// If it has no scheme or no host. The text never repeats the URL, which may hold a password.
    pub fn parse(url: &str, trust: Option<&Path>) -> Result<Self> {
        let wrong = || Error::unsupported("a broker's url must look like scheme://host:port");
        let (scheme, rest) = url.split_once("://").ok_or_else(wrong)?;
        let authority = rest.split('/').next().unwrap_or(rest);
        let (login, hosts) = match authority.rsplit_once('@') {
            Some((login, hosts)) => (Some(login), hosts),
            None => (None, authority),
        };
        if hosts.is_empty() {
            return Err(wrong());
        }
        Ok(Self {
            url: url.to_owned(),
            encrypted: matches!(scheme, "amqps" | "kafkas" | "rediss" | "https"),
            login: login.and_then(|login| login.split_once(':')).map(|(user, word)| (user.to_owned(), word.to_owned())),
            hosts: hosts.split(',').map(str::to_owned).collect(),
            trust: trust.map(Path::to_owned),
        })
    }

    /// The URL as it was given.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The hosts with their ports, separated by commas.
    pub fn hosts(&self) -> String {
        self.hosts.join(",")
    }

    /// One URL for each host.
    pub fn each_url(&self) -> Vec<String> {
        let all = self.hosts();
        self.hosts.iter().map(|host| self.url.replacen(&all, host, 1)).collect()
    }

    /// True if the scheme asks for encryption.
    pub fn is_encrypted(&self) -> bool {
        self.encrypted
    }

    /// User and password.
    pub fn login(&self) -> Option<(&str, &str)> {
        self.login.as_ref().map(|(user, word)| (user.as_str(), word.as_str()))
    }

    /// The file with the authority to trust.
    pub fn trust_file(&self) -> Option<&Path> {
        self.trust.as_deref()
    }

    /// Content of [`Self::trust_file`].
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn trust(&self) -> Result<Option<String>> {
        let Some(path) = &self.trust else { return Ok(None) };
        fs::read_to_string(path).map(Some).map_err(Error::at(path))
    }

    /// The address of the first host, looked up.
    ///
    /// # Errors
    /// If it has none.
    pub async fn first_address(&self) -> Result<SocketAddr> {
        let host = self.hosts.first().map(String::as_str).unwrap_or_default();
        let found = tokio::net::lookup_host(host).await;
        let found = found.map_err(|error| Error::caused(format!("cannot find the address of {host}"), error))?.next();
        found.ok_or_else(|| Error::failed(format!("{host} has no address")))
    }
}

impl fmt::Debug for Location {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.debug_struct("Location")
            .field("hosts", &self.hosts)
            .field("encrypted", &self.encrypted)
            .finish_non_exhaustive()
    }
}
