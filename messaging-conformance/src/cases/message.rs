//! Messages: what goes in comes out, to the byte.

use messaging_core::{Destination, ErrorKind, HEADER_NAME_MAX, HeaderName, Message, PublisherExt};

use crate::case::cases;
use crate::verdict::{Verdict, ensure, ensure_eq};
use crate::{Bench, Place};

cases! {
    /// Odd header names and any Unicode in values survive.
    H1_odd_header_names_and_values on Queue Durable => odd_headers;
    /// All 256 bytes survive in a payload, in any order.
    H2_binary_payload on Queue Durable => binary_payload;
    /// An empty payload is a message.
    H3_empty_payload on Queue Durable => empty_payload;
    /// Twenty-four headers survive.
    H4_twenty_four_headers on Queue Durable => twenty_four_headers;
    /// A message of 1 MiB survives, or one at the declared limit.
    H5_a_message_at_the_limit on Queue Durable => a_message_at_the_limit;
    /// An id is the same at both ends, whether it was given or made.
    H6_the_id_is_stable on Queue Durable => the_id_is_stable;
    /// A message of the broker's own client can be read, and ours can be read by it as the wire format says.
    H7_a_raw_client_understands on Queue, with RawClient => a_raw_client_understands;
    /// Reserved header names are refused; header names and counts past their limits too.
    H8_reserved_header_names on Queue Durable => reserved_header_names;
    /// Typed properties survive beside each other.
    H9_typed_properties on Queue Durable => typed_properties;
}

/// Passes if two messages are the same in all that is carried.
pub(super) fn same(got: &Message, sent: &Message, when: &str) -> Verdict {
    ensure_eq!(got.id(), sent.id(), "the id, {when}");
    ensure!(
        got.payload() == sent.payload(),
        "the payload differs, {when}: {} bytes were sent, {} came, the first difference is at {:?}",
        sent.payload().len(),
        got.payload().len(),
        sent.payload().iter().zip(got.payload()).position(|(one, other)| one != other)
    );
    let headers = |message: &Message| {
        let mut all: Vec<(String, String)> =
            message.headers().iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        // Not every broker keeps their order.
        all.sort();
        all
    };
    ensure_eq!(headers(got), headers(sent), "the headers, {when}");
    ensure_eq!(got.key(), sent.key(), "the key, {when}");
    ensure_eq!(got.subject(), sent.subject(), "the subject, {when}");
    ensure_eq!(got.message_type(), sent.message_type(), "the type, {when}");
    ensure_eq!(got.content_type(), sent.content_type(), "the content type, {when}");
    ensure_eq!(got.correlation_id(), sent.correlation_id(), "the correlation id, {when}");
    ensure_eq!(got.timestamp(), sent.timestamp(), "the timestamp, {when}");
    Ok(())
}

/// Sends messages one by one; each must come out the same.
async fn round_trip(at: &Bench, place: &Place, messages: impl IntoIterator<Item = Message>) -> Verdict {
    let mut tap = place.consumer(1).await?;
    for (index, sent) in messages.into_iter().enumerate() {
        place.publish([sent.clone()]).await?;
        let delivery = tap.next().await?;
        same(delivery.message(), &sent, &format!("message {index}"))?;
        at.settled(delivery.ack()).await?;
    }
    Ok(())
}

async fn odd_headers(at: &Bench) -> Verdict {
    let long_name = "x".repeat(HEADER_NAME_MAX);
    let names = ["a", "x-trace_id", "a.b.c", "%", "traceparent", "content-type", "id", "key", "0", long_name.as_str()];
    let values = [
        "",
        " ",
        "plain",
        "ümläut €",
        "日本語",
        "🦀",
        "a=b;c=\"d\"",
        "line\nbreak\ttab",
        "\u{0}",
        "\u{7f}",
        "  both ends  ",
        "null",
        "true",
        "-1",
    ];
    for place in at.places().await? {
        let all = names.iter().enumerate().map(|(index, name)| (*name, values[index % values.len()]));
        let each = values.iter().map(|value| ("value", *value));
        let one = |(name, value): (&str, &str)| Message::builder("x").header(name, value).build();
        let together = all.clone().try_fold(Message::builder("x"), |built, (name, value)| {
            Ok::<_, messaging_core::Error>(built.header(HeaderName::parse(name)?, value))
        })?;
        let mut messages = all.chain(each).map(one).collect::<Result<Vec<_>, _>>()?;
        messages.push(together.build()?);
        round_trip(at, &place, messages).await?;
    }
    Ok(())
}

async fn binary_payload(at: &Bench) -> Verdict {
    let ascending: Vec<u8> = (0..=255).collect();
    let descending: Vec<u8> = (0..=255).rev().collect();
    let payloads = [ascending, descending, vec![0], vec![0; 3], vec![0xff, 0xfe, 0, 0x80], b"\r\n\r\n".to_vec()];
    for place in at.places().await? {
        round_trip(at, &place, payloads.iter().map(|payload| Message::new(payload.clone()))).await?;
    }
    Ok(())
}

async fn empty_payload(at: &Bench) -> Verdict {
    for place in at.places().await? {
        let with_header = Message::builder("").header("only", "a header").build()?;
        round_trip(at, &place, [Message::new(""), with_header]).await?;
    }
    Ok(())
}

async fn twenty_four_headers(at: &Bench) -> Verdict {
    for place in at.places().await? {
        let limit = place.publish_capabilities().limits.headers;
        ensure!(limit >= 24, "24 headers have to survive on every broker, declared are {limit}");
        for count in [24, limit.min(200)] {
            let headers = (0..count).map(|number| (format!("header-{number}"), format!("value {number}")));
            let built = headers.fold(Message::builder("x"), |built, (name, value)| built.header(name, value));
            round_trip(at, &place, [built.build()?]).await?;
        }
    }
    Ok(())
}

async fn a_message_at_the_limit(at: &Bench) -> Verdict {
    for place in at.places().await? {
        let limit = place.publish_capabilities().limits.message_bytes;
        // To the declared limit exactly where that is within reason, else to the 1 MiB that matters.
        let sizes = [limit.min(1024 * 1024), if limit <= 32 * 1024 * 1024 { limit } else { 1024 * 1024 }];
        let message = |size: usize| Message::new((0..size).map(|at| (at % 251) as u8).collect::<Vec<_>>());
        round_trip(at, &place, sizes.into_iter().map(message)).await?;
    }
    Ok(())
}

async fn the_id_is_stable(at: &Bench) -> Verdict {
    let long = "i".repeat(255);
    let given = ["order/1", "0190A0A0-0000-7000-8000-000000000000", "ümläut", long.as_str()];
    for place in at.places().await? {
        let mut messages = vec![Message::new("made")];
        for id in given {
            // Fresh, so that no broker takes it for a duplicate.
            let id: String = if id.len() < 40 { format!("{id}-{}", at.name()) } else { id.to_owned() };
            messages.push(Message::builder("given").id(id).build()?);
        }
        round_trip(at, &place, messages).await?;
    }
    Ok(())
}

async fn a_raw_client_understands(at: &Bench) -> Verdict {
    for place in at.places().await? {
        let mut tap = place.consumer(1).await?;
        at.stage().publish_raw(place.destination(), b"\x00from outside\xff", ("tenant", "acme")).await?;
        let delivery = tap.next().await?;
        ensure_eq!(delivery.message().payload().as_ref(), b"\x00from outside\xff", "the payload of a raw message");
        ensure_eq!(delivery.message().headers().get("tenant"), Some("acme"), "the header of a raw message");
        at.settled(delivery.ack()).await?;
        tap.close().await?;

        let Destination::Queue(queue) = place.destination() else { continue };
        let ours = Message::builder("to outside").header("tenant", "acme").build()?;
        place.publish([ours.clone()]).await?;
        let seen = at.wait("reading with the raw client", at.stage().receive_raw(queue, &ours)).await?;
        ensure_eq!(seen.payload, b"to outside", "the payload that the raw client sees");
        let tenant = ("tenant".to_owned(), "acme".to_owned());
        ensure!(seen.headers.contains(&tenant), "the raw client sees the headers {:?}", seen.headers);
        ensure!(
            seen.id.as_ref().is_none_or(|id| *id == ours.id().to_string()),
            "the raw client sees the id {:?}",
            seen.id
        );
    }
    Ok(())
}

async fn reserved_header_names(at: &Bench) -> Verdict {
    for reserved in ["messaging-attempt", "ce-id", "ce_id"] {
        let error = Message::builder("x").header(reserved, "v").build().err();
        ensure_eq!(
            error.map(|error| error.kind()),
            Some(ErrorKind::InvalidMessage),
            "the reserved header {reserved:?}"
        );
        at.did(1);
    }
    for place in at.places().await? {
        let limit = place.publish_capabilities().limits.headers;
        let publisher = place.publisher().await?;
        if limit < 5_000 {
            let many = (0..=limit).fold(Message::builder("x"), |built, number| built.header(format!("h{number}"), ""));
            let error = at.refused("a header too many", publisher.publish(many.build()?)).await?;
            ensure_eq!(error.kind(), ErrorKind::TooLarge, "the kind of {error}");
        }
        let mut tap = place.consumer(1).await?;
        place.nothing_but_a_sentinel(&mut tap).await?;
    }
    Ok(())
}

async fn typed_properties(at: &Bench) -> Verdict {
    for place in at.places().await? {
        let every = Message::builder("x")
            .message_type("order.placed")
            .key("customer-7")
            .subject("eu.created")
            .content_type("application/json")
            .correlation_id("request-1")
            .header("type", "a header of the same name")
            .build()?;
        let odd = Message::builder("x").key("schlüssel/ä b").message_type("T").subject("one").build()?;
        round_trip(at, &place, [every, odd]).await?;
    }
    Ok(())
}
