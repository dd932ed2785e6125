//! How far away a host is.

use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Request;
use http_body_util::Full;

use crate::{
    Error, Target, Transport,
    connect::{Progress, within},
};

impl Transport {
    /// One round trip: from the request to the head of its answer, on a connection of its own whose
    /// set-up does not count. `limit` holds for everything together.
    ///
    /// # Errors
    /// [`Error::Status`] for an answer other than 2xx, which is not the host's own word; whatever
    /// keeps it from answering.
    pub async fn round_trip(
        &self,
        request: Request<()>,
        target: &Target,
        limit: Duration,
    ) -> Result<Duration, Error> {
        let host = target.name();
        let progress = Progress::default();
        within(limit, &host, &progress, async {
            let mut connection = self.connect(target, false, &progress).await?;
            let proxy = self.whole(target);
            let request = self.equip(request.map(|()| Full::default()), target, proxy);
            let asked = Instant::now();
            let response = connection.send(request, &host).await?;
            let took = asked.elapsed();
            if response.status().is_success() {
                return Ok(took);
            }
            let (parts, _) = response.into_parts();
            Err(Error::Status { host: host.clone(), parts: Box::new(parts), body: Bytes::new() })
        })
        .await
    }
}
