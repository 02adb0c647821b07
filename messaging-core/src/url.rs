//! Broker addresses: several hosts, strict parameters, credentials that are never printed.

use std::fmt;

use secrecy::{ExposeSecret, SecretString};
use url::Url;

use crate::error::{Error, ErrorKind, Result};
use crate::settings::Settings;

/// The address of a broker, such as `amqp://user:password@host-1:5672,host-2:5672/vhost?heartbeat=10s`.
///
/// Printing it, for people or for debugging, shows neither the password nor the values of parameters.
#[derive(Clone)]
pub struct BrokerUrl {
    scheme: String,
    user: Option<String>,
    password: Option<SecretString>,
    /// The password as it stands in the address, percent-encoded.
    encoded: Option<SecretString>,
    hosts: Vec<Host>,
    path: String,
    parameters: Vec<(String, String)>,
}

/// One host of a broker's address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    /// Name or address; an IPv6 address without brackets.
    pub name: String,
    /// The port, where one is given.
    pub port: Option<u16>,
}

impl BrokerUrl {
    /// Parses an address.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] if it is not of the form `scheme://[user[:password]@]host[:port][,host…][/path][?key=value…]`.
    /// The text of the error does not repeat the address, which may hold a password.
    pub fn parse(text: &str) -> Result<Self> {
        let (scheme, rest) =
            text.split_once("://").ok_or_else(|| fault("it has no scheme: write for example \"memory://name\""))?;
        let scheme_is_valid = scheme.starts_with(|c: char| c.is_ascii_lowercase())
            && scheme.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '+' | '-' | '.'));
        if !scheme_is_valid {
            return Err(fault("its scheme has to be lower-case letters, digits, \"+\", \"-\" and \".\""));
        }
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, tail) = rest.split_at(end);
        let (login, hosts) = match authority.rsplit_once('@') {
            Some((login, hosts)) => (format!("{login}@"), hosts),
            None => (String::new(), authority),
        };
        let mut parsed = hosts.split(',').enumerate().map(|(index, host)| {
            // The `url` crate knows one host: each is parsed by itself, the first with login, path and parameters.
            let (login, tail) = if index == 0 { (login.as_str(), tail) } else { ("", "") };
            Url::parse(&format!("{scheme}://{login}{host}{tail}"))
                .map_err(|error| fault(&format!("host {} of it is not valid: {error}", index + 1)))
        });
        let Some(first) = parsed.next().transpose()? else { return Err(fault("it has no host")) };
        if first.fragment().is_some() {
            return Err(fault("it has a fragment (\"#…\"), which means nothing here; write %23 for a literal \"#\""));
        }
        if tail.split('?').next().is_some_and(|path| path.contains('@')) {
            // A password with a bare slash ends up in the path, and would be printed with it.
            return Err(fault(
                "it has an \"@\" after the host: write %2F for a \"/\" in the password, and %40 for an \"@\" in the path",
            ));
        }
        let mut hosts = host_of(&first).into_iter().collect::<Vec<_>>();
        for other in parsed {
            hosts.extend(host_of(&other?));
        }
        Ok(Self {
            scheme: scheme.to_owned(),
            user: (!first.username().is_empty()).then(|| decode(first.username())),
            password: first.password().map(|password| SecretString::from(decode(password))),
            encoded: first.password().filter(|password| !password.is_empty()).map(SecretString::from),
            hosts,
            path: decode(first.path().strip_prefix('/').unwrap_or(first.path())),
            parameters: first.query().map(parameters_of).unwrap_or_default(),
        })
    }

    /// The scheme, which chooses the driver.
    #[must_use]
    pub fn scheme(&self) -> &str {
        &self.scheme
    }

    /// The user name, if there is one.
    #[must_use]
    pub fn user(&self) -> Option<&str> {
        self.user.as_deref()
    }

    /// The password, if there is one.
    #[must_use]
    pub fn password(&self) -> Option<&SecretString> {
        self.password.as_ref()
    }

    /// The hosts; none in an address such as `memory://`.
    #[must_use]
    pub fn hosts(&self) -> &[Host] {
        &self.hosts
    }

    /// The path without its leading slash, percent-decoded.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The parameters, to be taken one by one.
    #[must_use]
    pub fn parameters(&self) -> Settings {
        let pairs = self.parameters.iter().map(|(key, value)| (key.clone(), value.clone()));
        Settings::new(format!("the parameters of {self}"), pairs)
    }

    /// Replaces the credentials, as when they come from a file or the environment.
    #[must_use]
    pub fn with_login(mut self, user: impl Into<String>, password: SecretString) -> Self {
        self.user = Some(user.into());
        self.password = Some(password);
        self.encoded = None;
        self
    }

    /// Takes every occurrence of the password out of a text, such as a client library's error.
    #[must_use]
    pub fn redact(&self, text: &str) -> String {
        match &self.password {
            Some(password) if !password.expose_secret().is_empty() => {
                let text = text.replace(password.expose_secret(), "***");
                // Also as it stands in the address.
                self.encoded.as_ref().map_or(text.clone(), |encoded| text.replace(encoded.expose_secret(), "***"))
            }
            _ => text.to_owned(),
        }
    }
}

#[cold]
fn fault(why: &str) -> Error {
    Error::new(ErrorKind::Config, format!("the broker's url is not valid: {why}"))
}

fn host_of(url: &Url) -> Option<Host> {
    let name = url.host_str().filter(|name| !name.is_empty())?;
    let name = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    Some(Host { name: decode(name), port: url.port() })
}

/// The parameters of a query, percent-decoded. A `+` is a plus, as everywhere else in an address: only forms of web pages
/// mean a space by it, and passwords and time zones have one.
fn parameters_of(query: &str) -> Vec<(String, String)> {
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    let pairs = pairs.map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    pairs.map(|(key, value)| (decode(key), decode(value))).collect()
}

fn decode(text: &str) -> String {
    percent_encoding::percent_decode_str(text).decode_utf8_lossy().into_owned()
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let v6 = self.name.contains(':');
        if v6 {
            write!(f, "[{}]", self.name)?
        } else {
            f.write_str(&self.name)?
        }
        self.port.map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

impl fmt::Display for BrokerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://", self.scheme)?;
        if let Some(user) = &self.user {
            let password = if self.password.is_some() { ":***" } else { "" };
            write!(f, "{user}{password}@")?;
        }
        for (index, host) in self.hosts.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            write!(f, "{comma}{host}")?;
        }
        if self.path.is_empty() { Ok(()) } else { write!(f, "/{}", self.path) }
    }
}

impl fmt::Debug for BrokerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BrokerUrl({self})")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn parsing_never_panics(text in "(amqp|memory|http|file)?(://)?.{0,60}") {
            if let Ok(url) = BrokerUrl::parse(&text) {
                let _ = (url.to_string(), url.redact(&text), url.parameters());
            }
        }

        #[test]
        fn a_password_is_never_shown(
            password in "[A-Z][ -~é]{7,20}Z",
            rest in "(host-1|h:5672,i|\\[::1\\]|h:x|h:99999|h#f|)(/v)?(\\?a=b)?",
            encode in any::<bool>(),
        ) {
            let encoded = percent_encoding::utf8_percent_encode(&password, percent_encoding::NON_ALPHANUMERIC).to_string();
            let written = if encode { encoded.as_str() } else { password.as_str() };
            match BrokerUrl::parse(&format!("amqp://me:{written}@{rest}")) {
                Ok(url) => {
                    if encode {
                        prop_assert_eq!(url.password().unwrap().expose_secret(), &password);
                        let shown = url.redact(&format!("a {password} b {encoded} c"));
                        prop_assert!(!shown.contains(&password) && !shown.contains(&encoded), "{}", shown);
                    }
                    for shown in [format!("{url}"), format!("{url:?}"), format!("{:?}", url.parameters())] {
                        prop_assert!(!shown.contains(&password) && !shown.contains(&encoded), "{}", shown);
                    }
                }
                Err(error) => {
                    for shown in [error.to_string(), format!("{error:?}")] {
                        prop_assert!(!shown.contains(&password) && !shown.contains(&encoded), "{}", shown);
                    }
                }
            }
        }
    }

    #[test]
    fn several_hosts_a_path_and_parameters() {
        let url = BrokerUrl::parse("amqp://me:p%40ss@a:1,b,[::1]:3/v%2Fhost?x=1&y=two%20words&z=a+b%2Bc&flag").unwrap();
        assert_eq!(url.scheme(), "amqp");
        assert_eq!(url.user(), Some("me"));
        assert_eq!(url.password().unwrap().expose_secret(), "p@ss");
        assert_eq!(url.hosts().iter().map(ToString::to_string).collect::<Vec<_>>(), ["a:1", "b", "[::1]:3"]);
        assert_eq!(url.path(), "v/host");
        let mut parameters = url.parameters();
        assert_eq!(parameters.take_text("y").as_deref(), Some("two words"));
        assert_eq!(parameters.take_text("z").as_deref(), Some("a+b+c"));
        assert_eq!(parameters.take_text("flag").as_deref(), Some(""));
    }

    #[test]
    fn printing_hides_the_password() {
        let url = BrokerUrl::parse("amqp://me:s3cret@host/v?token=s3cret").unwrap();
        for shown in [format!("{url}"), format!("{url:?}"), format!("{:?}", url.parameters())] {
            assert!(!shown.contains("s3cret"), "{shown}");
        }
        assert_eq!(url.redact("login me:s3cret failed"), "login me:*** failed");
    }

    #[test]
    fn wrong_ones_are_refused_without_repeating_them() {
        for bad in ["", "memory", "MEM://x", "amqp://u:s3cret@h:99999", "amqp://u:s3cret@h:x", "amqp://h#s3cret"] {
            let error = BrokerUrl::parse(bad).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config, "{bad}");
            assert!(!error.to_string().contains("s3cret"), "{error}");
        }
        assert!(BrokerUrl::parse("memory://").unwrap().hosts().is_empty());
        assert_eq!(BrokerUrl::parse("memory://shop").unwrap().hosts()[0].name, "shop");
    }
}
