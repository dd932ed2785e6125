//! How often somebody may ask.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

/// A bucket for each key, which a request takes one drop from and time fills again.
///
/// Buckets that are full again are forgotten, so that the number of keys in memory is bounded by
/// what can be asked for within the time that an empty one takes to fill.
#[derive(Debug)]
pub struct Rate<K> {
    size: f64,
    /// Drops per second.
    refill: f64,
    buckets: Mutex<Buckets<K>>,
}

#[derive(Debug)]
struct Buckets<K> {
    by_key: HashMap<K, Bucket>,
    /// When all were looked through for full ones.
    swept: Instant,
}

#[derive(Debug)]
struct Bucket {
    drops: f64,
    at: Instant,
}

impl<K: Hash + Eq> Rate<K> {
    /// `burst` requests at once, `per_second` in the long run.
    #[must_use]
    pub fn new(burst: u32, per_second: u32) -> Self {
        let buckets = Buckets { by_key: HashMap::new(), swept: Instant::now() };
        Self {
            size: f64::from(burst),
            refill: f64::from(per_second.max(1)),
            buckets: Mutex::new(buckets),
        }
    }

    /// Takes a drop.
    ///
    /// # Errors
    /// There is none: how long until there is one.
    pub fn take(&self, key: K) -> Result<(), Duration> {
        let now = Instant::now();
        let full = Duration::from_secs_f64(self.size / self.refill);
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        if now.duration_since(buckets.swept) > full {
            buckets.by_key.retain(|_, bucket| now.duration_since(bucket.at) < full);
            buckets.swept = now;
        }
        let bucket = buckets.by_key.entry(key).or_insert(Bucket { drops: self.size, at: now });
        let since = now.duration_since(bucket.at).as_secs_f64();
        bucket.drops = self.size.min(bucket.drops + since * self.refill);
        bucket.at = now;
        if bucket.drops < 1.0 {
            return Err(Duration::from_secs_f64((1.0 - bucket.drops) / self.refill));
        }
        bucket.drops -= 1.0;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_burst_then_a_steady_flow() {
        let rate = Rate::new(3, 2);
        for _ in 0..3 {
            rate.take("a").unwrap();
        }
        let wait = rate.take("a").unwrap_err();
        assert!(
            wait <= Duration::from_millis(500) && wait > Duration::from_millis(400),
            "{wait:?}"
        );
        rate.take("b").unwrap();
        tokio::time::advance(wait).await;
        rate.take("a").unwrap();
        rate.take("a").unwrap_err();
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_is_quiet_is_forgotten() {
        let rate = Rate::new(2, 1);
        for key in 0..1000 {
            rate.take(key).unwrap();
        }
        tokio::time::advance(Duration::from_secs(3)).await;
        rate.take(0).unwrap();
        assert_eq!(rate.buckets.lock().unwrap().by_key.len(), 1);
    }
}
