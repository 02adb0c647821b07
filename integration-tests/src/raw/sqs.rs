//! SQS by `aws-sdk-sqs`: a standard queue, long polls of a second.

use std::collections::HashMap;

use async_trait::async_trait;
use aws_sdk_sqs::config::retry::RetryConfig;
use aws_sdk_sqs::config::{BehaviorVersion, Credentials, Region};
use aws_sdk_sqs::error::{DisplayErrorContext, SdkError};
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_smithy_http_client::tls::{Provider, TlsContext, TrustStore};

use super::{Location, RawClient};
use crate::{Error, Result};

#[derive(Debug)]
pub(super) struct Client {
    sqs: aws_sdk_sqs::Client,
    /// The queues' URLs, each asked for once: a send is then one call, so that what happens to it happens to the message.
    urls: HashMap<String, String>,
}

impl Client {
    pub(super) fn connect(at: &Location) -> Result<Self> {
        let mut config = aws_sdk_sqs::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new("us-east-1"))
            .credentials_provider(Credentials::new("test", "test", None, None, "tests"))
            // A fault must be seen, not papered over.
            .retry_config(RetryConfig::disabled())
            .endpoint_url(at.url());
        if let Some(authority) = at.trust()? {
            let trust = TrustStore::empty().with_pem_certificate(authority);
            let context = TlsContext::builder().with_trust_store(trust).build();
            let context = context.map_err(|error| Error::caused("sqs' client cannot trust this authority", error))?;
            let http = aws_smithy_http_client::Builder::new();
            let http = http.tls_provider(Provider::Rustls(CryptoMode::AwsLc)).tls_context(context).build_https();
            config = config.http_client(http);
        }
        Ok(Self { sqs: aws_sdk_sqs::Client::from_conf(config.build()), urls: HashMap::new() })
    }

    async fn url(&mut self, name: &str) -> Result<String> {
        if let Some(url) = self.urls.get(name) {
            return Ok(url.clone());
        }
        let found = self.sqs.get_queue_url().queue_name(name).send().await.map_err(cannot("find a queue"))?;
        let url = found.queue_url.ok_or_else(|| Error::failed("sqs found a queue without a url"))?;
        self.urls.insert(name.to_owned(), url.clone());
        Ok(url)
    }
}

#[async_trait]
impl RawClient for Client {
    async fn create(&mut self, name: &str) -> Result<()> {
        self.sqs.create_queue().queue_name(name).send().await.map(drop).map_err(cannot("create a queue"))
    }

    async fn put(&mut self, name: &str, text: &str) -> Result<()> {
        let queue = self.url(name).await?;
        let sent = self.sqs.send_message().queue_url(queue).message_body(text).send().await;
        sent.map(drop).map_err(cannot("send"))
    }

    async fn take(&mut self, name: &str) -> Result<String> {
        let queue = self.url(name).await?;
        loop {
            let received = self.sqs.receive_message().queue_url(&queue).wait_time_seconds(1).send().await;
            let message = received.map_err(cannot("receive"))?.messages.unwrap_or_default().into_iter().next();
            if let Some(message) = message {
                let handle = message.receipt_handle.unwrap_or_default();
                let deleted = self.sqs.delete_message().queue_url(&queue).receipt_handle(handle).send().await;
                deleted.map_err(cannot("delete a message"))?;
                return Ok(message.body.unwrap_or_default());
            }
        }
    }

    async fn remove(&mut self, name: &str) -> Result<()> {
        let queue = self.url(name).await?;
        self.urls.remove(name);
        self.sqs.delete_queue().queue_url(queue).send().await.map(drop).map_err(cannot("delete a queue"))
    }
}

fn cannot<E, R>(what: &'static str) -> impl Fn(SdkError<E, R>) -> Error
where
    SdkError<E, R>: std::error::Error,
{
    move |error| Error::failed(format!("sqs' client could not {what}: {}", DisplayErrorContext(&error)))
}
