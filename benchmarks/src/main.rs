//! scratch
use adapter_memory::MemoryServer;
use bytes::Bytes;
use messaging_core::*;
use std::sync::Arc;
use std::time::{Duration, Instant};
async fn ours(n: usize, p: usize, c: usize, batch: usize, capacity: usize) -> Duration {
    let url = BrokerUrl::parse(&format!("memory://?capacity={capacity}")).unwrap();
    let broker = MemoryServer::private().open(ConnectOptions::new(url)).unwrap();
    let queue = QueueName::parse("q").unwrap();
    let dest = Destination::Queue(queue.clone());
    let message = Message::builder(Bytes::from(vec![7u8; 256])).header("a", "1").header("b", "2").build().unwrap();
    let begun = Instant::now();
    let mut tasks = vec![];
    for _ in 0..p {
        let publisher = broker.publisher(&dest, PublishOptions::default()).await.unwrap();
        let message = message.clone();
        tasks.push(tokio::spawn(async move {
            if batch == 1 {
                for _ in 0..n / p {
                    publisher.publish(message.clone()).await.unwrap();
                }
            } else {
                let mut left = n / p;
                while left > 0 {
                    let k = left.min(batch);
                    left -= k;
                    for r in publisher.publish_batch(vec![message.clone(); k]).await {
                        r.unwrap();
                    }
                }
            }
        }));
    }
    let left = Arc::new(std::sync::atomic::AtomicIsize::new((n / p * p) as isize));
    for _ in 0..c {
        let mut consumer = broker.consume(&queue, ConsumeOptions::default().with_prefetch(1024)).await.unwrap();
        let left = left.clone();
        let broker = broker.clone();
        tasks.push(tokio::spawn(async move {
            if batch == 1 {
                while let Ok(Some(d)) = consumer.next().await {
                    d.ack().await.unwrap();
                    if left.fetch_sub(1, std::sync::atomic::Ordering::Relaxed) == 1 {
                        broker.close(tokio::time::Instant::now()).await;
                    }
                }
            } else {
                let mut buf = Vec::new();
                while let Ok(k) = consumer.next_many_into(batch, &mut buf).await {
                    if k == 0 {
                        break;
                    }
                    Delivery::ack_all(buf.drain(..)).await.unwrap();
                    if left.fetch_sub(k as isize, std::sync::atomic::Ordering::Relaxed) == k as isize {
                        broker.close(tokio::time::Instant::now()).await;
                    }
                }
            }
        }));
    }
    for t in tasks {
        t.await.unwrap();
    }
    begun.elapsed()
}
async fn channel(n: usize, p: usize, c: usize) -> Duration {
    let message = Message::builder(Bytes::from(vec![7u8; 256])).header("a", "1").header("b", "2").build().unwrap();
    let begun = Instant::now();
    let (tx, rx) = tokio::sync::mpsc::channel::<Message>(1024);
    let mut tasks = vec![];
    for _ in 0..p {
        let tx = tx.clone();
        let message = message.clone();
        tasks.push(tokio::spawn(async move {
            for _ in 0..n / p {
                tx.send(message.clone()).await.unwrap();
            }
        }));
    }
    drop(tx);
    if c == 1 {
        let mut rx = rx;
        tasks.push(tokio::spawn(async move {
            while let Some(m) = rx.recv().await {
                drop(m);
            }
        }));
    } else {
        let rx = Arc::new(tokio::sync::Mutex::new(rx));
        for _ in 0..c {
            let rx = rx.clone();
            tasks.push(tokio::spawn(async move {
                loop {
                    let m = rx.lock().await.recv().await;
                    if m.is_none() {
                        break;
                    }
                }
            }));
        }
    }
    for t in tasks {
        t.await.unwrap();
    }
    begun.elapsed()
}
fn main() {
    if let Some(n) = std::env::args().nth(1) {
        let n: usize = n.parse().unwrap();
        let cap: usize = std::env::args().nth(2).unwrap().parse().unwrap();
        let batch: usize = std::env::args().nth(3).unwrap().parse().unwrap();
        let rt = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        if batch == 0 {
            println!("{:?}", rt.block_on(channel(n, 1, 1)));
        } else {
            println!("{:?}", rt.block_on(ours(n, 1, 1, batch, cap)));
        }
        return;
    }
    let n = 1_000_000;
    for flavour in ["current", "multi2"] {
        let rt = || {
            if flavour == "current" {
                tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
            } else {
                tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
            }
        };
        for (p, c) in [(1, 1), (4, 4)] {
            for batch in [1usize, 64] {
                let mut rs = vec![];
                let mut o = vec![];
                let mut k = vec![];
                for _ in 0..5 {
                    let a = rt().block_on(ours(n, p, c, batch, 1024));
                    let b = rt().block_on(channel(n, p, c));
                    rs.push(b.as_secs_f64() / a.as_secs_f64());
                    o.push(a.as_nanos() as usize / n);
                    k.push(b.as_nanos() as usize / n);
                }
                rs.sort_by(|a, b| a.total_cmp(b));
                o.sort();
                k.sort();
                println!("{flavour} {p}x{c} batch {batch}: ours {} ns, channel {} ns, ratio {:.2}", o[2], k[2], rs[2]);
            }
        }
    }
}
