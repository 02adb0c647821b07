//! How many members a Kafka group has, asked in Kafka's own protocol.
//!
//! librdkafka's list of groups shows those of the newer protocol as dead, and its other call is not in `rdkafka`. The two
//! requests are those of <https://kafka.apache.org/protocol>: `ConsumerGroupDescribe` for the newer groups, `DescribeGroups`
//! for the classic ones.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::{Error, Result};

const CONSUMER_GROUP_DESCRIBE: i16 = 69;
const DESCRIBE_GROUPS: i16 = 15;
const GROUP_ID_NOT_FOUND: i16 = 69;
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
const LARGEST_ANSWER: i32 = 16 * 1024 * 1024;

/// The members of a group, of either protocol; none of a group that is not there.
pub(crate) async fn members(host: &str, group: &str) -> Result<usize> {
    let asking = async {
        match newer(host, group).await? {
            Some(members) => Ok(members),
            None => classic(host, group).await,
        }
    };
    let slow =
        |_| Error::new(crate::ErrorKind::TimedOut, format!("kafka did not describe a group in {ANSWER_TIMEOUT:?}"));
    tokio::time::timeout(ANSWER_TIMEOUT, asking).await.map_err(slow)?
}

/// None if it is no group of the newer protocol.
async fn newer(host: &str, group: &str) -> Result<Option<usize>> {
    // No client id and no tags in the header; one group, whose permissions nobody wants; no tags.
    let mut request = vec![0xff, 0xff, 0, 2];
    request.extend_from_slice(&length_before_text(group)?);
    request.extend_from_slice(group.as_bytes());
    request.extend_from_slice(&[0, 0]);
    let answer = ask(host, CONSUMER_GROUP_DESCRIBE, &request).await?;
    let mut answer = Answer(&answer);
    let (_tags, _throttled, _groups) = (answer.small()?, answer.int()?, answer.small()?);
    let code = answer.short()?;
    if code == GROUP_ID_NOT_FOUND {
        return Ok(None);
    }
    if code != 0 {
        return Err(Error::failed(format!("kafka describes no group {group}: code {code}")));
    }
    for _error_group_and_state in 0..3 {
        answer.text()?;
    }
    let (_epoch, _assignment_epoch, ()) = (answer.int()?, answer.int()?, answer.text()?);
    Ok(Some(answer.small()?.saturating_sub(1)))
}

/// A length of up to two bytes, seven bits in each: a name has at most some hundred letters.
fn length_before_text(text: &str) -> Result<Vec<u8>> {
    let length = u16::try_from(text.len() + 1).ok().filter(|length| *length < 1 << 14).ok_or_else(too_long)?;
    let [high, low] = (length << 1).to_be_bytes();
    Ok(if length < 0x80 { vec![low >> 1] } else { vec![low >> 1 | 0x80, high] })
}

async fn classic(host: &str, group: &str) -> Result<usize> {
    let mut request = vec![0xff, 0xff, 0, 0, 0, 1];
    request.extend_from_slice(&i16::try_from(group.len()).map_err(|_| too_long())?.to_be_bytes());
    request.extend_from_slice(group.as_bytes());
    let answer = ask(host, DESCRIBE_GROUPS, &request).await?;
    let mut answer = Answer(&answer);
    let (_groups, code) = (answer.int()?, answer.short()?);
    if code == GROUP_ID_NOT_FOUND {
        return Ok(0);
    }
    if code != 0 {
        return Err(Error::failed(format!("kafka describes no group {group}: code {code}")));
    }
    for _name_state_protocol_and_its_data in 0..4 {
        let length = usize::try_from(answer.short()?).unwrap_or(0);
        answer.take(length)?;
    }
    usize::try_from(answer.int()?).map_err(|_| cut_short())
}

/// Sends one request of version 0 and returns what follows its number in the answer.
async fn ask(host: &str, request: i16, body: &[u8]) -> Result<Vec<u8>> {
    let cannot = |error: std::io::Error| Error::caused(format!("kafka at {host} does not describe groups"), error);
    let mut stream = TcpStream::connect(host).await.map_err(cannot)?;
    let length = i32::try_from(body.len() + 8).map_err(|_| too_long())?;
    let mut bytes = length.to_be_bytes().to_vec();
    bytes.extend_from_slice(&request.to_be_bytes());
    bytes.extend_from_slice(&[0, 0, 0, 0, 0, 1]);
    bytes.extend_from_slice(body);
    stream.write_all(&bytes).await.map_err(cannot)?;
    let length = stream.read_i32().await.map_err(cannot)?;
    let length = usize::try_from(length.clamp(4, LARGEST_ANSWER)).map_err(|_| cut_short())?;
    let mut answer = vec![0; length];
    stream.read_exact(&mut answer).await.map_err(cannot)?;
    Ok(answer.split_off(4))
}

/// Unread rest of an answer.
struct Answer<'a>(&'a [u8]);

impl Answer<'_> {
    fn take(&mut self, length: usize) -> Result<&[u8]> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or_else(cut_short)?;
        self.0 = rest;
        Ok(taken)
    }

    fn short(&mut self) -> Result<i16> {
        self.take(2)?.try_into().map(i16::from_be_bytes).map_err(|_| cut_short())
    }

    fn int(&mut self) -> Result<i32> {
        self.take(4)?.try_into().map(i32::from_be_bytes).map_err(|_| cut_short())
    }

    /// A number of variable length.
    fn small(&mut self) -> Result<usize> {
        let mut number = 0;
        for place in 0..5 {
            let byte = self.take(1)?.first().copied().ok_or_else(cut_short)?;
            number |= usize::from(byte & 0x7f) << (7 * place);
            if byte < 0x80 {
                return Ok(number);
            }
        }
        Err(cut_short())
    }

    /// Passes over a text whose length comes first, one too large, or zero for none.
    fn text(&mut self) -> Result<()> {
        let length = self.small()?.saturating_sub(1);
        self.take(length).map(drop)
    }
}

fn cut_short() -> Error {
    Error::failed("kafka's answer about a group ends too soon")
}

fn too_long() -> Error {
    Error::failed("a group's name is too long to be asked for")
}
