//! HTTP on a stream that somebody else has opened: a port of a workspace, through its tunnel.

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;

use crate::{
    BoxStream, Error, Limits, Step,
    connect::{Progress, within},
    http1::{Connection, read},
};

/// One call on a stream that leads to the host already: sends `request` as it is, with its own
/// `Host`, and reads the whole answer, whatever its status. `host` is for messages.
///
/// # Errors
/// Whatever keeps a whole answer from arriving.
pub async fn call(
    stream: BoxStream,
    host: &str,
    request: Request<Bytes>,
    limits: Limits,
) -> Result<Response<Bytes>, Error> {
    let progress = Progress::default();
    progress.at(Step::Answer);
    within(limits.deadline, host, &progress, async {
        let mut connection = Connection::begin(stream, host).await?;
        let (parts, body) = connection.send(request.map(Full::new), host).await?.into_parts();
        progress.at(Step::Body);
        Ok(Response::from_parts(parts, read(body, limits.max_body, host).await?))
    })
    .await
}
