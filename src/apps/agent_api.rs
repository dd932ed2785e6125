//! Questions to the agent's HTTP API, on port 4 of the tunnel.

use bytes::Bytes;
use coderctl_transport::{self as transport, Limits};
use http::{Request, Response, StatusCode, header};
use serde::de::DeserializeOwned;

use super::{
    Tunnel,
    session::{AGE, BUSY, reach},
};
use crate::error::{CommandError, Kind};

/// The agent's port for its HTTP API (coder/coder: `AgentHTTPAPIServerPort`).
const PORT: u16 = 4;

/// Something that an agent lists.
pub(super) struct List {
    /// Where it is asked for.
    pub path: &'static str,
    /// What is listed, in the plural.
    pub what: &'static str,
}

impl List {
    /// What the agent answers, whichever status that has.
    pub(super) async fn ask(&self, tunnel: &dyn Tunnel) -> Result<Response<Bytes>, CommandError> {
        let answer = get(tunnel, self.path).await?;
        answer.map_err(|error| {
            let (kind, hint) = if matches!(error, transport::Error::Timeout { .. }) {
                (Kind::Timeout, BUSY)
            } else if matches!(error, transport::Error::Broken { .. }) {
                (Kind::Tunnel, BUSY)
            } else {
                (Kind::Protocol, AGE)
            };
            let error = anyhow::Error::new(error).context(self.not_listed());
            CommandError::new(kind, error).hint(hint)
        })
    }

    /// The list that an answer is.
    pub(super) fn read<T: DeserializeOwned>(
        &self,
        status: StatusCode,
        body: &[u8],
    ) -> Result<T, CommandError> {
        if status != StatusCode::OK {
            let text = format!("{}: it answers {status}", self.not_listed());
            return Err(CommandError::msg(Kind::Protocol, text).hint(AGE));
        }
        serde_json::from_slice(body).map_err(|error| {
            let error = anyhow::Error::new(error);
            let what = format!("the agent's list of {} cannot be understood", self.what);
            CommandError::new(Kind::Protocol, error.context(what)).hint(AGE)
        })
    }

    fn not_listed(&self) -> String {
        format!("the agent does not list its {}", self.what)
    }
}

/// Asks for a path. The inner error is one of the answer.
pub(super) async fn get(
    tunnel: &dyn Tunnel,
    path: &str,
) -> Result<Result<Response<Bytes>, transport::Error>, CommandError> {
    let stream = reach(tunnel, PORT, "the agent's HTTP API").await?;
    let request = Request::get(path)
        .header(header::HOST, "workspace")
        .header(header::CONNECTION, "close")
        .body(Bytes::new())
        .map_err(|error| CommandError::new(Kind::Other, error))?;
    Ok(transport::call(Box::new(stream), "the agent", request, Limits::default()).await)
}
