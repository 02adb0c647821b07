//! Who comes in, and how: every way that the options offer to say who one is, on the doors of a real server.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::support::{connect, fresh, options_with, server};
use integration_tests::cases;
use integration_tests::runner::{Case, Verdict};
use integration_tests::{Broker as Server, Door, client_certificates, tls::certificates};
use messaging_core::{
    Broker, ConsumeOptions, Destination, ErrorKind, Message, PublishOptions, PublisherExt, QueueName,
};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep, timeout};

const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) fn cases() -> Vec<Case> {
    cases![
        the_servers_authority_is_trusted_by_file,
        the_clients_certificate_is_shown,
        a_clients_certificate_that_ran_out_is_refused,
        a_password_comes_from_a_file,
        options_win_over_the_login_of_the_url,
        a_wrong_password_in_the_options_is_not_told,
    ]
}

fn file(path: &Path) -> Value {
    json!(path.display().to_string())
}

/// One message there and back, so that the connections of both ways have been used.
async fn there_and_back(broker: &Arc<dyn Broker>) -> Verdict {
    let name = QueueName::parse(fresh("login"))?;
    let publisher = broker.publisher(&Destination::Queue(name.clone()), PublishOptions::default()).await?;
    publisher.publish(Message::new("here")).await?;
    let mut consumer = broker.consume(&name, ConsumeOptions::default()).await?;
    let delivery = timeout(PATIENCE, consumer.next()).await??.ok_or("a delivery")?;
    assert_eq!(delivery.message().payload().as_ref(), b"here");
    delivery.ack().await?;
    Ok(())
}

async fn the_servers_authority_is_trusted_by_file() -> Verdict {
    let url = server().await?.url_at(Door::Tls, None)?;
    let broker = connect(options_with(&url, [("ca_file", file(&certificates()?.authority))])?).await?;
    there_and_back(&broker).await?;
    let _ = broker.close(Instant::now() + PATIENCE).await;
    Ok(())
}

async fn the_clients_certificate_is_shown() -> Verdict {
    let server = server().await?;
    let made = certificates()?;
    let keys = [
        ("ca_file", file(&made.authority)),
        ("certificate_file", file(made.client.certificate_file())),
        ("key_file", file(made.client.key_file())),
    ];
    let broker = connect(options_with(&server.url_at(Door::Tls, None)?, keys)?).await?;
    there_and_back(&broker).await?;
    let management = server.address(Door::Management)?;
    let begun = Instant::now();
    // The interface learns of a connection some seconds after it is there.
    loop {
        let seen = client_certificates(management).await?;
        if seen.iter().any(|subject| subject.contains(&format!("CN={}", made.client.name()))) {
            let _ = broker.close(Instant::now() + PATIENCE).await;
            return Ok(());
        }
        if begun.elapsed() > PATIENCE {
            return Err(format!("the server saw no certificate of ours within {PATIENCE:?}, only {seen:?}").into());
        }
        sleep(Duration::from_millis(200)).await;
    }
}

/// The server looks at what a client shows even where it wants nothing shown.
async fn a_clients_certificate_that_ran_out_is_refused() -> Verdict {
    let made = certificates()?;
    let keys = [
        ("ca_file", file(&made.authority)),
        ("certificate_file", file(made.expired.certificate_file())),
        ("key_file", file(made.expired.key_file())),
    ];
    let url = server().await?.url_at(Door::Tls, None)?;
    let refused = connect(options_with(&url, keys)?).await.err().ok_or("a certificate that ran out was let in")?;
    assert!(matches!(refused.kind(), ErrorKind::Config | ErrorKind::Unauthenticated), "{refused:?}");
    assert!(refused.text().contains("certificate_file"), "{refused}");
    Ok(())
}

/// The server's door with a login, without the login.
fn nobody(server: &Arc<dyn Server>) -> Verdict<(String, String, String)> {
    let accounts = server.accounts().ok_or("a server with accounts")?;
    let url = server.url_at(Door::Login, Some(&accounts.admin))?;
    let (scheme, rest) = url.split_once("://").ok_or("a url")?;
    let (_, place) = rest.split_once('@').ok_or("a login in the url")?;
    Ok((format!("{scheme}://{place}"), accounts.admin.user.to_owned(), accounts.admin.password.to_owned()))
}

async fn a_password_comes_from_a_file() -> Verdict {
    let (url, user, password) = nobody(&server().await?)?;
    let path = std::env::temp_dir().join(fresh("password"));
    std::fs::write(&path, format!("{password}\n"))?;
    let opened = connect(options_with(&url, [("user", json!(user)), ("password_file", file(&path))])?).await;
    std::fs::remove_file(&path)?;
    let broker = opened?;
    there_and_back(&broker).await?;
    let _ = broker.close(Instant::now() + PATIENCE).await;
    Ok(())
}

async fn options_win_over_the_login_of_the_url() -> Verdict {
    let (url, user, password) = nobody(&server().await?)?;
    let (scheme, place) = url.split_once("://").ok_or("a url")?;
    let url = format!("{scheme}://somebody:else@{place}");
    let broker = connect(options_with(&url, [("user", json!(user)), ("password", json!(password))])?).await?;
    let _ = broker.close(Instant::now() + PATIENCE).await;
    Ok(())
}

async fn a_wrong_password_in_the_options_is_not_told() -> Verdict {
    const SECRET: &str = "n0t-the-passw0rd";
    let (url, user, _) = nobody(&server().await?)?;
    let options = options_with(&url, [("user", json!(user)), ("password", json!(SECRET))])?;
    assert!(!format!("{options:?}").contains(SECRET));
    let refused = connect(options).await.err().ok_or("a wrong password was let in")?;
    assert_eq!(refused.kind(), ErrorKind::Unauthenticated);
    assert!(!format!("{refused} {refused:?}").contains(SECRET));
    assert!(refused.text().contains(&user), "{refused}");
    Ok(())
}
