//! Login and certificates, taken by every adapter with the same keys and the same checks.

use std::fmt;
use std::fs;

use secrecy::{ExposeSecret, SecretString};

use crate::error::ErrorKind;
use crate::settings::Settings;
use crate::url::BrokerUrl;

/// Login and certificates of a connection.
///
/// The keys are `user`, `password`, `password_file`, `ca_file`, `certificate_file` and `key_file`. Files are read and checked
/// when the options are read, so that a wrong one is reported at the start and by its key. Debugging output shows no secret.
#[derive(Clone)]
pub struct Access {
    url: BrokerUrl,
    default_user: Option<&'static str>,
    authority: Option<String>,
    identity: Option<ClientIdentity>,
}

/// The client's own certificate and its key, in PEM.
#[derive(Clone)]
pub struct ClientIdentity {
    /// The certificate, and those between it and the authority.
    pub certificate: String,
    /// The private key.
    pub key: SecretString,
}

impl Access {
    /// The login of an address, without certificates. `default_user` is the one that a password without a user belongs to, if
    /// the broker has such a user.
    #[must_use]
    pub fn new(url: BrokerUrl, default_user: Option<&'static str>) -> Self {
        Self { url, default_user, authority: None, identity: None }
    }

    /// Takes the keys of login and certificates over what is known already.
    pub fn take(&mut self, settings: &mut Settings) {
        if let Some(path) = settings.take_text("ca_file") {
            self.authority = read_pem(settings, "ca_file", &path, "CERTIFICATE");
        }
        let (certificate, key) = (settings.take_text("certificate_file"), settings.take_text("key_file"));
        match (certificate, key) {
            (Some(certificate), Some(key)) => {
                let certificate = read_pem(settings, "certificate_file", &certificate, "CERTIFICATE");
                let key = read_pem(settings, "key_file", &key, "PRIVATE KEY").map(SecretString::from);
                self.identity = certificate.zip(key).map(|(certificate, key)| ClientIdentity { certificate, key });
            }
            (Some(_), None) => {
                settings.invalid("certificate_file", "goes together with \"key_file\", which is missing")
            }
            (None, Some(_)) => {
                settings.invalid("key_file", "goes together with \"certificate_file\", which is missing")
            }
            (None, None) => {}
        }
        self.take_login(settings);
    }

    fn take_login(&mut self, settings: &mut Settings) {
        let user = settings.take_text("user");
        let given = settings.take_secret("password");
        let password = match settings.take_text("password_file") {
            Some(_) if given.is_some() => {
                settings.invalid("password_file", "stands beside \"password\": leave one of them out");
                return;
            }
            // Editors and `echo` end a file with a line break, which is no part of a password.
            Some(path) => read(settings, "password_file", &path)
                .map(|text| SecretString::from(text.trim_end_matches(['\r', '\n']).to_owned())),
            None => given,
        };
        if user.is_none() && password.is_none() {
            return;
        }
        let known = self.url.user().or(self.default_user).map(str::to_owned);
        let Some(user) = user.or(known) else {
            settings.fault("has a password and no \"user\": add user = \"…\", or put it into the address");
            return;
        };
        let password = password.or_else(|| self.url.password().cloned()).unwrap_or_default();
        self.url = self.url.clone().with_login(user, password);
    }

    /// The address with the login that holds.
    #[must_use]
    pub fn url(&self) -> &BrokerUrl {
        &self.url
    }

    /// The user, if there is one.
    #[must_use]
    pub fn user(&self) -> Option<&str> {
        self.url.user()
    }

    /// The password; empty without one.
    #[must_use]
    pub fn password(&self) -> &str {
        self.url.password().map_or("", |password| password.expose_secret())
    }

    /// The certificates that are trusted besides the system's, in PEM.
    #[must_use]
    pub fn authority(&self) -> Option<&str> {
        self.authority.as_deref()
    }

    /// The client's own certificate and key.
    #[must_use]
    pub fn identity(&self) -> Option<&ClientIdentity> {
        self.identity.as_ref()
    }
}

impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Access")
            .field("url", &self.url)
            .field("authority", &self.authority.is_some())
            .field("identity", &self.identity.is_some())
            .finish()
    }
}

impl fmt::Debug for ClientIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientIdentity").finish_non_exhaustive()
    }
}

fn read(settings: &Settings, key: &str, path: &str) -> Option<String> {
    match fs::read_to_string(path) {
        Ok(text) => Some(text),
        Err(error) => {
            settings.invalid_as(
                ErrorKind::NotFound,
                key,
                format_args!("names the file {path:?}, which cannot be read: {error}"),
            );
            None
        }
    }
}

/// Reads a file that has to hold something of this kind in PEM; clients find that out only while they connect, if at all.
fn read_pem(settings: &Settings, key: &str, path: &str, kind: &str) -> Option<String> {
    let text = read(settings, key, path)?;
    let is_marked = |begin: &str| {
        text.lines().any(|line| line.starts_with(begin) && line.trim_end().ends_with(&format!("{kind}-----")))
    };
    if is_marked("-----BEGIN ") && is_marked("-----END ") {
        return Some(text);
    }
    let what = kind.to_lowercase();
    settings.invalid(
        key,
        format_args!("names the file {path:?}, which holds no {what} in PEM: give one that begins with -----BEGIN"),
    );
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Result;

    fn take(url: &str, pairs: &[(&str, &str)]) -> Result<Access> {
        let mut access = Access::new(BrokerUrl::parse(url).unwrap(), None);
        let mut settings = Settings::new("here", pairs.iter().copied());
        access.take(&mut settings);
        settings.finish().map(|()| access)
    }

    fn file(name: &str, text: &str) -> String {
        let path = std::env::temp_dir().join(format!("messaging-access-{}-{name}", std::process::id()));
        fs::write(&path, text).unwrap();
        path.display().to_string()
    }

    #[test]
    fn options_go_before_the_login_of_the_address_and_nothing_shows_them() {
        let secret = file("password", "s3cret\n");
        let access = take("amqp://me:old@h", &[("password_file", &secret)]).unwrap();
        assert_eq!((access.user(), access.password()), (Some("me"), "s3cret"));
        let access = take("amqp://h", &[("user", "you"), ("password", "s3cret")]).unwrap();
        assert_eq!((access.user(), access.password()), (Some("you"), "s3cret"));
        assert!(!format!("{access:?} {}", access.url()).contains("s3cret"));
        assert_eq!(take("amqp://me:old@h", &[]).unwrap().password(), "old");
        fs::remove_file(secret).unwrap();
    }

    #[test]
    fn files_are_checked_when_the_options_are_read() {
        let pem = |kind: &str| format!("-----BEGIN {kind}-----\nAA==\n-----END {kind}-----\n");
        let (certificate, key) = (file("c.pem", &pem("CERTIFICATE")), file("k.pem", &pem("EC PRIVATE KEY")));
        let files = [("ca_file", certificate.as_str()), ("certificate_file", &certificate), ("key_file", &key)];
        let access = take("amqps://h", &files).unwrap();
        assert!(access.authority().is_some() && access.identity().is_some());
        for (pairs, kind, named) in [
            (
                vec![("ca_file", "/no/such.pem")],
                ErrorKind::NotFound,
                "\"ca_file\" in here names the file \"/no/such.pem\"",
            ),
            (vec![("ca_file", key.as_str())], ErrorKind::Config, "holds no certificate in PEM"),
            (vec![("certificate_file", certificate.as_str())], ErrorKind::Config, "goes together with \"key_file\""),
            (vec![("key_file", key.as_str())], ErrorKind::Config, "goes together with \"certificate_file\""),
            (vec![("password", "a"), ("password_file", "b")], ErrorKind::Config, "stands beside \"password\""),
            (vec![("password", "a")], ErrorKind::Config, "has a password and no \"user\""),
            (vec![("ca_file", "/no"), ("password_file", "/none")], ErrorKind::NotFound, "2 faults"),
        ] {
            let error = take("amqps://h", &pairs).unwrap_err();
            assert_eq!(error.kind(), kind, "{error}");
            assert!(error.text().contains(named), "{error}");
        }
        fs::remove_file(certificate).unwrap();
        fs::remove_file(key).unwrap();
    }
}
