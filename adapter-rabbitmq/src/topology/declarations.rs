//! How queues should be: their arguments, and settings in the words of the client.

use std::collections::BTreeMap;

use lapin::types::{AMQPValue, FieldArray, FieldTable, LongString};
use messaging_core::{Order, Result};
use serde_json::Value;

use crate::config::{DestinationOptions, QueueType};
use crate::layout::short;

/// A queue as it should be.
#[derive(Clone, Debug)]
pub(crate) struct QueueDeclaration {
    pub(crate) name: String,
    pub(crate) arguments: FieldTable,
    pub(crate) queue_type: QueueType,
}

/// What binds a queue to an exchange.
#[derive(Clone, Debug)]
pub(crate) struct Binding {
    pub(crate) queue: String,
    pub(crate) exchange: String,
    pub(crate) key: String,
    pub(crate) arguments: FieldTable,
}

impl Binding {
    /// Of an exchange that looks at no key.
    pub(crate) fn of_all(queue: &str, exchange: &str) -> Self {
        Self {
            queue: queue.to_owned(),
            exchange: exchange.to_owned(),
            key: String::new(),
            arguments: FieldTable::default(),
        }
    }
}

pub(super) fn live_declaration(name: String, dead: &str, options: &DestinationOptions) -> Result<QueueDeclaration> {
    let mut arguments = FieldTable::default();
    arguments.insert("x-queue-type".into(), text(options.queue_type.as_str()));
    arguments.insert("x-dead-letter-exchange".into(), text(""));
    arguments.insert("x-dead-letter-routing-key".into(), text(dead));
    if options.queue_type == QueueType::Quorum {
        let limit = options.delivery_limit.map_or(-1, i64::from);
        arguments.insert("x-delivery-limit".into(), AMQPValue::LongLongInt(limit));
        at_least_once(&mut arguments);
    }
    if options.order == Order::ByKey {
        arguments.insert("x-single-active-consumer".into(), AMQPValue::Boolean(true));
    }
    for (key, value) in &options.arguments {
        arguments.insert(short("the name of an argument", key)?, value_of(value)?);
    }
    Ok(QueueDeclaration { name, arguments, queue_type: options.queue_type })
}

pub(super) fn dead_letter_declaration(name: &str, queue_type: QueueType) -> QueueDeclaration {
    let mut arguments = FieldTable::default();
    arguments.insert("x-queue-type".into(), text(queue_type.as_str()));
    if queue_type == QueueType::Quorum {
        // Looking at dead letters counts as delivering them: with a limit they would vanish for being looked at.
        arguments.insert("x-delivery-limit".into(), AMQPValue::LongLongInt(-1));
    }
    QueueDeclaration { name: name.to_owned(), arguments, queue_type }
}

/// The broker's own dead-lettering loses messages unless a quorum queue does it in this way.
pub(crate) fn at_least_once(arguments: &mut FieldTable) {
    arguments.insert("x-dead-letter-strategy".into(), text("at-least-once"));
    arguments.insert("x-overflow".into(), text("reject-publish"));
}

pub(crate) fn text(text: &str) -> AMQPValue {
    AMQPValue::LongString(LongString::from(text))
}

pub(crate) fn table(values: &BTreeMap<String, Value>) -> Result<FieldTable> {
    let mut table = FieldTable::default();
    for (key, value) in values {
        table.insert(short("the name of an argument", key)?, value_of(value)?);
    }
    Ok(table)
}

fn value_of(value: &Value) -> Result<AMQPValue> {
    Ok(match value {
        Value::Null => AMQPValue::Void,
        Value::Bool(value) => AMQPValue::Boolean(*value),
        Value::Number(number) => match number.as_i64() {
            Some(number) => AMQPValue::LongLongInt(number),
            None => AMQPValue::Double(number.as_f64().unwrap_or_default()),
        },
        Value::String(value) => text(value),
        Value::Array(values) => {
            let mut array = FieldArray::default();
            for value in values {
                array.push(value_of(value)?);
            }
            AMQPValue::FieldArray(array)
        }
        Value::Object(values) => {
            let mut table = FieldTable::default();
            for (key, value) in values {
                table.insert(short("the name of an argument", key)?, value_of(value)?);
            }
            AMQPValue::FieldTable(table)
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_the_options_are_numbers_at_the_broker() {
        let arguments = BTreeMap::from([("x-max-length".to_owned(), Value::from(5))]);
        let options = DestinationOptions { arguments, ..DestinationOptions::default() };
        let declared = live_declaration("q".to_owned(), "q--dead", &options).unwrap();
        assert_eq!(declared.arguments.inner()["x-max-length"], AMQPValue::LongLongInt(5));
    }
}
