//! Encrypted and guarded doors.

use std::time::Duration;

use integration_tests::proxy::TlsFront;
use integration_tests::tls::{Identity, certificates};
use integration_tests::{Door, Kind, Proxy, Result};

use crate::site::{Site, expect, in_time};
use integration_tests::runner::Verdict;

/// Longer than any refusal takes; a client that only keeps trying is refused as well.
const REFUSAL: Duration = Duration::from_secs(4);

/// Whoever trusts the authority gets in; whoever trusts another does not.
pub(crate) async fn encrypted(site: &Site) -> Verdict {
    let queue = site.queue().await?;
    let url = site.broker.url_at(Door::Tls, None)?;
    let tls = certificates()?;

    let mut client = in_time(site.client_at(&url, Some(&tls.authority))).await?;
    in_time(client.put(&queue, "secret")).await?;
    expect(in_time(client.take(&queue)).await? == "secret", "another message came out than went in")?;

    expect(put(site, &url, Some(&tls.stranger), &queue).await.is_err(), "a stranger's authority was good enough")?;
    Ok(())
}

/// A certificate that ran out, or is for somebody else, is refused by the client: no handshake is ended. The front with the good
/// one shows that it is the certificate that is refused, and not the front.
pub(crate) async fn wrong_certificates(site: &Site) -> Verdict {
    let queue = site.queue().await?;
    let tls = certificates()?;

    let good = Front::of(site, &tls.server).await?;
    let accepted = put(site, &good.url, Some(&tls.authority), &queue).await;
    // Kafka sends its client on from here, to a door that is not encrypted.
    if site.kind != Kind::Kafka {
        accepted?;
    }
    expect(good.handshakes() > 0, "the good certificate was refused")?;
    for identity in [&tls.expired, &tls.another_name] {
        let front = Front::of(site, identity).await?;
        let refused = put(site, &front.url, Some(&tls.authority), &queue).await.is_err();
        expect(refused && front.handshakes() == 0, format!("the certificate {} was accepted", identity.name()))?;
    }
    Ok(())
}

/// A certificate in front of a server. Only a client that accepted it gets as far as the proxy between.
struct Front {
    url: String,
    between: Proxy,
    _tls: TlsFront,
}

impl Front {
    async fn of(site: &Site, identity: &Identity) -> Result<Self> {
        let between = Proxy::start(site.broker.address(Door::Plain)?).await?;
        let tls = TlsFront::start(identity, between.address()).await?;
        let behind = site.broker.address(Door::Tls)?.to_string();
        let url = site.broker.url_at(Door::Tls, None)?.replace(&behind, &tls.address().to_string());
        Ok(Self { url, between, _tls: tls })
    }

    fn handshakes(&self) -> u64 {
        self.between.accepted()
    }
}

/// The right password opens, a wrong one does not, and a user who may not publish is told so.
pub(crate) async fn logins(site: &Site) -> Verdict {
    let queue = site.queue().await?;
    let accounts = site.broker.accounts().expect("this kind has accounts");
    let url = |account| site.broker.url_at(Door::Login, Some(account));

    put(site, &url(&accounts.admin)?, None, &queue).await?;
    let wrong = put(site, &url(&accounts.wrong)?, None, &queue).await;
    let limited = put(site, &url(&accounts.limited)?, None, &queue).await;

    let wrong = wrong.err().map(|error| error.to_string()).ok_or("a wrong password was good enough")?;
    expect(!wrong.contains(accounts.wrong.password), "an error shows a password")?;
    let limited = limited.err().map(|error| error.to_string()).ok_or("a user without permission could publish")?;
    let denied = match site.kind {
        Kind::RabbitMq => "ACCESS_REFUSED",
        Kind::Kafka => "uthorization failed",
        Kind::Redis | Kind::Valkey => "NOPERM",
        _ => "not authorized",
    };
    expect(limited.to_lowercase().contains(&denied.to_lowercase()), format!("refused for another reason: {limited}"))?;
    Ok(())
}

async fn put(site: &Site, url: &str, trust: Option<&std::path::Path>, queue: &str) -> Result<()> {
    let call = async { site.client_at(url, trust).await?.put(queue, "x").await };
    let silent = |_| integration_tests::Error::failed("never answered");
    tokio::time::timeout(REFUSAL, call).await.map_err(silent)?
}
