//! The little that is asked of RabbitMQ's management interface, without an HTTP client.

use std::net::SocketAddr;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::{Error, Result};

/// `guest:guest`, as basic authentication wants it.
const BASIC_LOGIN: &str = "Z3Vlc3Q6Z3Vlc3Q=";

/// The Erlang name of the node that leads a queue; none while there is no leader.
pub(crate) async fn queue_leader(at: SocketAddr, queue: &str) -> Result<Option<String>> {
    let queue = ask(at, &format!("/api/queues/%2f/{queue}")).await?;
    Ok(queue.get("leader").and_then(Value::as_str).map(str::to_owned))
}

/// How many nodes of the cluster run.
pub(crate) async fn running_nodes(at: SocketAddr) -> Result<usize> {
    let nodes = ask(at, "/api/nodes").await?;
    let running = |node: &&Value| node.get("running").and_then(Value::as_bool) == Some(true);
    Ok(nodes.as_array().map_or(0, |nodes| nodes.iter().filter(running).count()))
}

/// Has a RabbitMQ close every client's connection, as an administrator does, and returns how many there were.
///
/// The interface learns of a new connection within 5 s, so that none may be known yet.
///
/// # Errors
/// If there is nobody at `at`, the address of [`Door::Management`](crate::Door::Management).
pub async fn close_connections(at: SocketAddr) -> Result<usize> {
    let connections = ask(at, "/api/connections").await?;
    let names = connections.as_array().into_iter().flatten().filter_map(|connection| connection.get("name")?.as_str());
    let mut closed = 0;
    for name in names {
        let name: String = name.bytes().map(|byte| format!("%{byte:02X}")).collect();
        // Gone by itself meanwhile, it is closed too.
        closed += usize::from(request(at, "DELETE", &format!("/api/connections/{name}")).await.is_ok());
    }
    Ok(closed)
}

/// The subjects of the certificates that clients of a RabbitMQ have shown, one for each connection that shows one.
///
/// The interface learns of a new connection within 5 s, so that none may be known yet.
///
/// # Errors
/// If there is nobody at `at`, the address of [`Door::Management`](crate::Door::Management).
pub async fn client_certificates(at: SocketAddr) -> Result<Vec<String>> {
    let connections = ask(at, "/api/connections").await?;
    let subject = |connection: &Value| connection.get("peer_cert_subject")?.as_str().map(str::to_owned);
    Ok(connections.as_array().into_iter().flatten().filter_map(subject).filter(|subject| !subject.is_empty()).collect())
}

/// The names of this server's queues or exchanges that begin so.
#[cfg(all(feature = "conformance", feature = "rabbitmq"))]
pub(crate) async fn names(at: SocketAddr, what: &str, prefix: &str) -> Result<Vec<String>> {
    let all = ask(at, &format!("/api/{what}/%2f?columns=name&disable_stats=true")).await?;
    let name = |one: &Value| one.get("name").and_then(Value::as_str).map(str::to_owned);
    let named = all.as_array().into_iter().flatten().filter_map(name);
    Ok(named.filter(|name| name.starts_with(prefix)).collect())
}

/// The server's version.
#[cfg(all(feature = "conformance", feature = "rabbitmq"))]
pub(crate) async fn version(at: SocketAddr) -> Result<String> {
    let overview = ask(at, "/api/overview").await?;
    let version = overview.get("rabbitmq_version").and_then(Value::as_str);
    version.map(str::to_owned).ok_or_else(|| Error::failed("rabbitmq's management does not say its version"))
}

/// The arguments that a queue was declared with; none if there is no such queue.
#[cfg(all(feature = "conformance", feature = "rabbitmq"))]
pub(crate) async fn arguments(at: SocketAddr, queue: &str) -> Result<Option<serde_json::Map<String, Value>>> {
    let all = ask(at, "/api/queues/%2f?columns=name,arguments&disable_stats=true").await?;
    let named = |one: &&Value| one.get("name").and_then(Value::as_str) == Some(queue);
    let found = all.as_array().into_iter().flatten().find(named);
    Ok(found.map(|queue| queue.get("arguments").and_then(Value::as_object).cloned().unwrap_or_default()))
}

async fn ask(at: SocketAddr, path: &str) -> Result<Value> {
    let body = request(at, "GET", path).await?;
    serde_json::from_str(&body)
        .map_err(|error| Error::caused("rabbitmq's management answered in another language", error))
}

/// Returns the body of the answer.
async fn request(at: SocketAddr, method: &str, path: &str) -> Result<String> {
    let cannot = |error: std::io::Error| Error::caused(format!("rabbitmq's management at {at} does not answer"), error);
    let mut stream = TcpStream::connect(at).await.map_err(cannot)?;
    // HTTP/1.0 has no chunks, and ends with the connection.
    let request = format!("{method} {path} HTTP/1.0\r\nAuthorization: Basic {BASIC_LOGIN}\r\n\r\n");
    stream.write_all(request.as_bytes()).await.map_err(cannot)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.map_err(cannot)?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let status = head.lines().next().unwrap_or("nothing");
    if !status.contains(" 200 ") && !status.contains(" 204 ") {
        return Err(Error::failed(format!("rabbitmq's management answered {status} to {method} {path}")));
    }
    Ok(body.to_owned())
}
