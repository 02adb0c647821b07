//! The references: bounded channels, which neither confirm nor acknowledge nor redeliver.

use std::sync::Arc;
use std::time::{Duration, Instant};

use ::tokio::sync::{Mutex, mpsc};

use super::{WAITING_LIMIT, load};
use crate::compare::Turn;
use crate::flavour::Flavour;

/// Both channels; the goal is against tokio's.
pub(crate) fn references(flavour: Flavour, crowd: usize, goal: Option<f64>) -> Vec<(&'static str, Option<f64>, Turn)> {
    vec![
        ("tokio mpsc", goal, Box::new(move |messages| tokio(flavour, crowd, messages))),
        ("flume", None, Box::new(move |messages| flume(flavour, crowd, messages))),
    ]
}

pub(crate) fn tokio(flavour: Flavour, crowd: usize, messages: u64) -> Duration {
    flavour.runtime().block_on(async move {
        let message = load::message();
        let begun = Instant::now();
        let (sender, mut receiver) = mpsc::channel(WAITING_LIMIT);
        let mut tasks = Vec::new();
        for _ in 0..crowd {
            let (sender, message) = (sender.clone(), message.clone());
            tasks.push(::tokio::spawn(async move {
                for _ in 0..messages / crowd as u64 {
                    sender.send(message.clone()).await.unwrap();
                }
            }));
        }
        drop(sender);
        if crowd == 1 {
            tasks.push(::tokio::spawn(async move { while receiver.recv().await.is_some() {} }));
        } else {
            // It has one receiver; this is how several share it.
            let receiver = Arc::new(Mutex::new(receiver));
            for _ in 0..crowd {
                let receiver = Arc::clone(&receiver);
                tasks.push(::tokio::spawn(async move { while receiver.lock().await.recv().await.is_some() {} }));
            }
        }
        for task in tasks {
            task.await.unwrap();
        }
        begun.elapsed()
    })
}

fn flume(flavour: Flavour, crowd: usize, messages: u64) -> Duration {
    flavour.runtime().block_on(async move {
        let message = load::message();
        let begun = Instant::now();
        let (sender, receiver) = ::flume::bounded(WAITING_LIMIT);
        let mut tasks = Vec::new();
        for _ in 0..crowd {
            let (sender, message) = (sender.clone(), message.clone());
            tasks.push(::tokio::spawn(async move {
                for _ in 0..messages / crowd as u64 {
                    sender.send_async(message.clone()).await.unwrap();
                }
            }));
            let receiver = receiver.clone();
            tasks.push(::tokio::spawn(async move { while receiver.recv_async().await.is_ok() {} }));
        }
        drop(sender);
        for task in tasks {
            task.await.unwrap();
        }
        begun.elapsed()
    })
}
