//! The proxy against an echo server: each fault does what it says, and nothing else.

use std::io::ErrorKind;
use std::time::{Duration, Instant};

use integration_tests::cases;
use integration_tests::proxy::{Direction, Fault};
use integration_tests::runner::{Case, Verdict};
use integration_tests::{Proxy, until};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::timeout;

pub(crate) fn cases() -> Vec<Case> {
    cases![
        without_a_fault_a_megabyte_comes_back_unchanged_and_the_end_is_passed_on,
        a_cut_resets_what_is_open_and_lets_others_in,
        a_cut_reaches_what_was_only_just_accepted,
        a_black_hole_holds_bytes_and_ends_without_losing_any,
        a_black_hole_hides_the_end_of_a_connection,
        a_cut_ends_a_black_hole_for_the_connection_in_it,
        one_direction_can_fail_alone,
        a_delay_is_added_each_way_and_costs_no_throughput,
        a_throttle_takes_a_message_s_size_s_time,
        refusing_closes_the_port_until_it_is_healed,
        nobody_behind_it_is_a_reset,
        dropped_it_is_gone,
        its_port_is_below_the_clients,
    ]
}

const SURE: Duration = Duration::from_secs(10);
const SILENCE: Duration = Duration::from_millis(300);

/// Answers every byte with itself.
async fn echo() -> (std::net::SocketAddr, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let task = tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut from, mut to) = stream.split();
                let _ = tokio::io::copy(&mut from, &mut to).await;
                let _ = to.shutdown().await;
            });
        }
    });
    (address, task)
}

async fn proxied() -> (Proxy, TcpStream) {
    let (address, _) = echo().await;
    let proxy = Proxy::start(address).await.unwrap();
    let mut client = TcpStream::connect(proxy.address()).await.unwrap();
    assert_eq!(say(&mut client, b"hello").await, b"hello");
    (proxy, client)
}

async fn say(client: &mut TcpStream, bytes: &[u8]) -> Vec<u8> {
    client.write_all(bytes).await.unwrap();
    hear(client, bytes.len()).await
}

async fn hear(client: &mut TcpStream, length: usize) -> Vec<u8> {
    let mut heard = vec![0; length];
    timeout(SURE, client.read_exact(&mut heard)).await.expect("heard in time").unwrap();
    heard
}

async fn hears_nothing(client: &mut TcpStream) -> bool {
    timeout(SILENCE, client.read_u8()).await.is_err()
}

async fn without_a_fault_a_megabyte_comes_back_unchanged_and_the_end_is_passed_on() -> Verdict {
    let (proxy, mut client) = proxied().await;
    let sent: Vec<u8> = (0..1_000_000_u32).map(|n| (n % 251) as u8).collect();
    let (mut from, mut to) = client.split();

    let mut heard = Vec::new();
    let (written, read) = tokio::join!(
        async {
            to.write_all(&sent).await?;
            to.shutdown().await
        },
        timeout(SURE, from.read_to_end(&mut heard)),
    );

    written.unwrap();
    read.expect("the end was passed on").unwrap();
    assert!(heard == sent, "{} bytes of {} came back, or others", heard.len(), sent.len());
    until("the connection's end", SURE, || async {
        if proxy.open() == 0 { Ok(()) } else { Err(integration_tests::Error::failed("open")) }
    })
    .await
    .unwrap();
    Ok(())
}

async fn a_cut_resets_what_is_open_and_lets_others_in() -> Verdict {
    let (proxy, mut client) = proxied().await;

    proxy.cut();

    let error = timeout(SURE, client.read_u8()).await.expect("noticed in time").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    let mut other = TcpStream::connect(proxy.address()).await.unwrap();
    assert_eq!(say(&mut other, b"again").await, b"again");
    assert_eq!((proxy.accepted(), proxy.open()), (2, 1));
    Ok(())
}

/// However young a connection is: a cut that comes before its first byte concerns it too.
async fn a_cut_reaches_what_was_only_just_accepted() -> Verdict {
    let (address, _) = echo().await;
    let proxy = Proxy::start(address).await.unwrap();
    for nth in 1..=200 {
        let mut client = TcpStream::connect(proxy.address()).await.unwrap();
        while proxy.accepted() < nth {
            tokio::task::yield_now().await;
        }

        proxy.cut();

        let ended = timeout(SURE, client.read_u8()).await;
        ended.unwrap_or_else(|_| panic!("connection {nth} outlived a cut")).unwrap_err();
    }
    Ok(())
}

async fn a_black_hole_holds_bytes_and_ends_without_losing_any() -> Verdict {
    let (proxy, mut client) = proxied().await;

    proxy.black_hole();
    client.write_all(b"held").await.unwrap();
    assert!(hears_nothing(&mut client).await);
    let mut newcomer = TcpStream::connect(proxy.address()).await.unwrap();
    newcomer.write_all(b"new").await.unwrap();
    assert!(hears_nothing(&mut newcomer).await);

    proxy.heal().await.unwrap();
    assert_eq!(hear(&mut client, 4).await, b"held");
    assert_eq!(hear(&mut newcomer, 3).await, b"new");
    Ok(())
}

async fn a_black_hole_hides_the_end_of_a_connection() -> Verdict {
    let (proxy, mut client) = proxied().await;

    proxy.black_hole();
    client.shutdown().await.unwrap();
    assert!(hears_nothing(&mut client).await);

    proxy.heal().await.unwrap();
    let mut rest = Vec::new();
    timeout(SURE, client.read_to_end(&mut rest)).await.expect("the end came").unwrap();
    assert!(rest.is_empty());
    Ok(())
}

async fn a_cut_ends_a_black_hole_for_the_connection_in_it() -> Verdict {
    let (proxy, mut client) = proxied().await;

    proxy.black_hole();
    client.write_all(b"never").await.unwrap();
    proxy.cut();

    timeout(SURE, client.read_u8()).await.expect("noticed in time").unwrap_err();
    Ok(())
}

async fn one_direction_can_fail_alone() -> Verdict {
    let (address, _) = echo().await;
    // The outer proxy counts what reaches the server's side.
    let inner = Proxy::start(address).await.unwrap();
    let proxy = Proxy::start(inner.address()).await.unwrap();
    proxy.set(Direction::Answers, Fault::BlackHole);

    let mut client = TcpStream::connect(proxy.address()).await.unwrap();
    client.write_all(b"heard").await.unwrap();
    assert!(hears_nothing(&mut client).await);
    assert_eq!(inner.accepted(), 1, "the request was held too");

    proxy.set(Direction::Answers, Fault::None);
    assert_eq!(hear(&mut client, 5).await, b"heard");
    Ok(())
}

async fn a_delay_is_added_each_way_and_costs_no_throughput() -> Verdict {
    const BY: Duration = Duration::from_millis(200);
    let (proxy, mut client) = proxied().await;
    proxy.delay(BY);

    let began = Instant::now();
    assert_eq!(say(&mut client, b"late").await, b"late");
    let once = began.elapsed();
    // A hundred pieces one after the other, not waiting for answers: they are late together, not one by one.
    let began = Instant::now();
    for _ in 0..100 {
        client.write_all(&[7; 1000]).await.unwrap();
    }
    hear(&mut client, 100_000).await;

    assert!(once >= 2 * BY, "{once:?}");
    assert!(began.elapsed() < 10 * BY, "{:?}", began.elapsed());
    Ok(())
}

async fn a_throttle_takes_a_message_s_size_s_time() -> Verdict {
    let (proxy, mut client) = proxied().await;
    proxy.throttle(100_000);

    let began = Instant::now();
    client.write_all(&[7; 50_000]).await.unwrap();
    hear(&mut client, 50_000).await;

    let took = began.elapsed();
    assert!(took >= Duration::from_millis(480), "{took:?}");
    assert!(took < Duration::from_secs(5), "{took:?}");
    Ok(())
}

async fn refusing_closes_the_port_until_it_is_healed() -> Verdict {
    let (proxy, mut client) = proxied().await;

    proxy.refuse().await;
    let error = TcpStream::connect(proxy.address()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    timeout(SURE, client.read_u8()).await.expect("noticed in time").unwrap_err();

    proxy.heal().await.unwrap();
    let mut other = TcpStream::connect(proxy.address()).await.unwrap();
    assert_eq!(say(&mut other, b"back").await, b"back");
    Ok(())
}

async fn nobody_behind_it_is_a_reset() -> Verdict {
    let free = integration_tests::free_port().unwrap();
    let proxy = Proxy::start(([127, 0, 0, 1], free).into()).await.unwrap();

    // The reset may come before the connection is seen to be there.
    let heard = async { TcpStream::connect(proxy.address()).await?.read_u8().await };
    let error = timeout(SURE, heard).await.expect("noticed in time").unwrap_err();

    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    Ok(())
}

async fn dropped_it_is_gone() -> Verdict {
    let (proxy, mut client) = proxied().await;
    let address = proxy.address();

    drop(proxy);

    timeout(SURE, client.read_u8()).await.expect("noticed in time").unwrap_err();
    until("a closed port", SURE, || async {
        match TcpStream::connect(address).await {
            Err(_) => Ok(()),
            Ok(_) => Err(integration_tests::Error::failed("open")),
        }
    })
    .await
    .unwrap();
    Ok(())
}

/// The port is one that no client's end of a connection is given by the kernel.
async fn its_port_is_below_the_clients() -> Verdict {
    let (proxy, _) = proxied().await;

    assert!(proxy.address().port() < 32_768);
    Ok(())
}
