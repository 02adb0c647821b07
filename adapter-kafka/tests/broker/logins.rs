//! Logins and encryption on a real broker: each right way carries messages, and each wrong one says at once where and why, without
//! the password.

use std::time::{Duration, Instant};

use crate::support::fresh;
use integration_tests::cases;
use integration_tests::runner::{Case, Verdict};
use integration_tests::tls::certificates;
use integration_tests::{Broker as Server, Door, Error as Missing, Kind, Way, available, free_port, own_by};
use messaging_core::{
    Broker, BrokerUrl, ConnectOptions, ConsumeOptions, Destination, ErrorKind, PublishOptions, PublisherExt, QueueName,
    Registry, Settings, TopologyMode,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::OnceCell;

pub(crate) fn cases() -> Vec<Case> {
    cases![
        right_logins_publish_and_consume,
        who_shows_a_certificate_is_its_owner,
        a_first_server_that_is_dead_is_passed_over,
        wrong_passwords_and_users_are_refused,
        wrong_certificates_and_protocols_are_told_apart,
        who_has_no_permission_is_told_so,
        ports_without_kafka_are_named,
    ]
}

/// How soon a wrong address is told.
const LIMIT: Duration = Duration::from_secs(5);
const MECHANISMS: [&str; 3] = ["plain", "scram-sha-256", "scram-sha-512"];

/// A native server, the only one with TLS and logins, for all cases.
async fn server() -> Result<&'static dyn Server, Missing> {
    static SERVER: OnceCell<Box<dyn Server>> = OnceCell::const_new();
    available(Kind::Kafka)?;
    let server = SERVER.get_or_try_init(|| own_by(Kind::Kafka, Way::Native)).await?;
    Ok(server.as_ref())
}

/// The same address for another user.
fn login(url: &str, user: &str, password: &str) -> String {
    let (scheme, rest) = url.split_once("://").expect("a url");
    let address = rest.rsplit_once('@').map_or(rest, |(_, address)| address);
    format!("{scheme}://{user}:{password}@{address}")
}

fn settings<'a>(pairs: impl IntoIterator<Item = (&'static str, &'a str)>) -> Settings {
    Settings::new("the test", pairs)
}

async fn connect(url: &str, settings: Settings) -> messaging_core::Result<std::sync::Arc<dyn Broker>> {
    let options = ConnectOptions::new(BrokerUrl::parse(url)?).with_settings(settings);
    Registry::new().with(adapter_kafka::DRIVER)?.connect(options).await
}

/// A message goes out and comes in.
async fn carries(broker: &dyn Broker) -> Verdict {
    let queue = QueueName::parse(fresh("login"))?;
    let mut consumer = broker.consume(&queue, ConsumeOptions::default()).await?;
    let publisher = broker.publisher(&Destination::Queue(queue), PublishOptions::default()).await?;
    publisher.publish("through the door").await?;
    let taken = tokio::time::timeout(Duration::from_secs(30), consumer.next()).await??.ok_or("a delivery")?;
    assert_eq!(taken.message().payload(), &b"through the door"[..]);
    taken.ack().await?;
    Ok(())
}

async fn right_logins_publish_and_consume() -> Verdict {
    let server = server().await?;
    let authority = certificates()?.authority.display().to_string();
    let password = server.accounts().ok_or("accounts")?.admin.password;
    carries(&*connect(&server.url_at(Door::Tls, None)?, settings([("ca_file", authority.as_str())])).await?).await?;
    for mechanism in MECHANISMS {
        for (door, trust) in [(Door::Login, None), (Door::TlsLogin, Some(("ca_file", authority.as_str())))] {
            let settings = settings(trust.into_iter().chain([("sasl_mechanism", mechanism)]));
            let broker = connect(&server.url_at(door, None)?, settings).await?;
            carries(&*broker).await.map_err(|error| format!("{mechanism} at {door:?}: {error}"))?;
            assert!(!format!("{broker:?}").contains(password), "{mechanism} at {door:?}: Debug shows the password");
        }
    }
    Ok(())
}

/// The door asks for a certificate: who shows one is its owner, who may do nothing here, and not the nobody who may do all.
async fn who_shows_a_certificate_is_its_owner() -> Verdict {
    let server = server().await?;
    let made = certificates()?;
    let url = server.url_at(Door::Tls, None)?;
    let authority = made.authority.display().to_string();
    let certificate = made.client.certificate_file().display().to_string();
    let key = made.client.key_file().display().to_string();
    let own = [("ca_file", authority.as_str()), ("certificate_file", certificate.as_str()), ("key_file", key.as_str())];
    let owner = connect(&url, settings(own)).await?;
    let to = Destination::queue(fresh("owned"))?;
    let error = owner.publisher(&to, PublishOptions::default()).await.err().ok_or("the certificate was not shown")?;
    assert_eq!(error.kind(), ErrorKind::Forbidden, "{error}");
    drop(connect(&url, settings([own[0]])).await?.publisher(&to, PublishOptions::default()).await?);
    Ok(())
}

async fn a_first_server_that_is_dead_is_passed_over() -> Verdict {
    let server = server().await?;
    let url = server.url_at(Door::Plain, None)?;
    let closed = format!("kafka://127.0.0.1:{},{}", free_port()?, url.trim_start_matches("kafka://"));
    let begun = Instant::now();
    let broker = connect(&closed, settings([])).await?;
    assert!(begun.elapsed() < 2 * LIMIT, "it took {:?}", begun.elapsed());
    carries(&*broker).await
}

/// Connecting there fails within 5 s with this kind of error, which names the address and the next step and shows no secret.
async fn fails(what: &str, url: &str, settings: Settings, kind: ErrorKind, next: &str) -> Verdict {
    let mut tries = Vec::new();
    // On a machine that is busy with something else a try may be late: that every one is, is the adapter's doing.
    let error = loop {
        let begun = Instant::now();
        let connected = connect(url, settings.clone()).await;
        tries.push(begun.elapsed());
        let error = connected.err().ok_or_else(|| format!("{what}: connected all the same"))?;
        if tries.iter().any(|took| *took < LIMIT) || tries.len() == 3 {
            break error;
        }
    };
    assert!(tries.iter().any(|took| *took < LIMIT), "{what}: it took {tries:?}");
    assert_eq!(error.kind(), kind, "{what}: {error}");
    let (login, address) = url.rsplit_once('@').unwrap_or(url.split_once("://").ok_or("a url")?);
    assert!(error.text().contains(address), "{what}: {address} is not in {error}");
    assert!(error.text().contains(next), "{what}: {next:?} is not in {error}");
    if let Some((_, password)) = login.rsplit_once(':').filter(|_| url.contains('@')) {
        let options = ConnectOptions::new(BrokerUrl::parse(url)?).with_settings(settings);
        let shown = format!("{error} {error:?} {} {options:?}", error.chain().join(" "));
        assert!(!shown.contains(password), "{what}: the password is in {shown}");
    }
    Ok(())
}

async fn wrong_passwords_and_users_are_refused() -> Verdict {
    let server = server().await?;
    let authority = certificates()?.authority.display().to_string();
    let accounts = server.accounts().ok_or("accounts")?;
    let next = "check user";
    for mechanism in MECHANISMS {
        for (door, trust) in [(Door::Login, None), (Door::TlsLogin, Some(("ca_file", authority.as_str())))] {
            let settings = settings(trust.into_iter().chain([("sasl_mechanism", mechanism)]));
            let wrong = server.url_at(door, Some(&accounts.wrong))?;
            let kind = ErrorKind::Unauthenticated;
            fails(&format!("{mechanism}, wrong password, {door:?}"), &wrong, settings.clone(), kind, next).await?;
            let nobody = login(&wrong, "nobody", "s3cret-of-nobody");
            fails(&format!("{mechanism}, unknown user, {door:?}"), &nobody, settings, kind, next).await?;
        }
    }
    Ok(())
}

/// Somebody who may do nothing is told so, and not that nothing is there.
async fn who_has_no_permission_is_told_so() -> Verdict {
    let server = server().await?;
    let limited = &server.accounts().ok_or("accounts")?.limited;
    let queue = fresh("forbidden");
    let to = Destination::queue(&queue)?;
    let url = server.url_at(Door::Login, None)?;
    drop(connect(&url, settings([])).await?.publisher(&to, PublishOptions::default()).await?);
    let url = server.url_at(Door::Login, Some(limited))?;
    for mode in [TopologyMode::Verify, TopologyMode::Create, TopologyMode::Assume] {
        let options = ConnectOptions::new(BrokerUrl::parse(&url)?).with_topology(mode);
        let broker = Registry::new().with(adapter_kafka::DRIVER)?.connect(options).await?;
        let begun = Instant::now();
        let error =
            broker.publisher(&to, PublishOptions::default()).await.err().ok_or("a publisher without permission")?;
        assert_eq!(error.kind(), ErrorKind::Forbidden, "{mode:?}: {error}");
        assert!(error.text().contains(&queue), "{error}");
        assert!(begun.elapsed() < LIMIT, "{mode:?}: it took {:?}", begun.elapsed());
    }
    Ok(())
}

async fn wrong_certificates_and_protocols_are_told_apart() -> Verdict {
    let server = server().await?;
    let made = certificates()?;
    let (authority, stranger) = (made.authority.display().to_string(), made.stranger.display().to_string());
    let trusting = |file: &str| settings([("ca_file", file), ("sasl_mechanism", "scram-sha-512")]);
    let set_ca = "set ca_file";
    let (tls, tls_login) = (server.url_at(Door::Tls, None)?, server.url_at(Door::TlsLogin, None)?);
    for (what, url) in [("without a login", &tls), ("with a login", &tls_login)] {
        let mechanism = settings([("sasl_mechanism", "scram-sha-512")]);
        fails(&format!("the system's authorities, {what}"), url, mechanism, ErrorKind::Config, set_ca).await?;
        let strange = trusting(&stranger);
        fails(&format!("the authority of somebody else, {what}"), url, strange, ErrorKind::Config, set_ca).await?;
    }
    // Encryption where there is none, and none where there is.
    for door in [Door::Plain, Door::Login] {
        let url =
            server.url_at(door, Some(&server.accounts().ok_or("accounts")?.admin))?.replace("kafka://", "kafkas://");
        let next = "does this port speak TLS";
        fails(&format!("TLS to {door:?}"), &url, trusting(&authority), ErrorKind::Unreachable, next).await?;
    }
    for url in [tls, tls_login] {
        let url = url.replace("kafkas://", "kafka://");
        fails("no TLS to a port that wants it", &url, settings([]), ErrorKind::Unreachable, "kafkas://").await?;
    }
    Ok(())
}

async fn ports_without_kafka_are_named() -> Verdict {
    let closed = free_port()?;
    let http = TcpListener::bind("127.0.0.1:0").await?;
    let web = http.local_addr()?;
    let serving = tokio::spawn(answer_in_http(http));
    let authority = certificates()?.authority.display().to_string();
    for scheme in ["kafka", "kafkas"] {
        let trust = settings([("ca_file", authority.as_str()), ("sasl_mechanism", "scram-sha-256")]);
        let url = format!("{scheme}://shop:s3cret-of-shop@127.0.0.1:{closed}");
        let next = "is the broker running";
        fails(&format!("a closed port, {scheme}"), &url, trust.clone(), ErrorKind::Unreachable, next).await?;
        let url = format!("{scheme}://shop:s3cret-of-shop@{web}");
        let (kind, next) = match scheme {
            "kafka" => (ErrorKind::Protocol, "is this kafka's port"),
            _ => (ErrorKind::Unreachable, "does this port speak TLS"),
        };
        fails(&format!("a web server, {scheme}"), &url, trust, kind, next).await?;
    }
    serving.abort();
    Ok(())
}

/// Says to everybody what a web server says to somebody who does not speak HTTP.
async fn answer_in_http(listener: TcpListener) {
    while let Ok((mut client, _)) = listener.accept().await {
        tokio::spawn(async move {
            let mut heard = [0; 1024];
            if client.read(&mut heard).await.is_ok_and(|length| length > 0) {
                let refusal = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
                let _ = client.write_all(refusal).await;
                let _ = client.shutdown().await;
            }
        });
    }
}
