//! Faults of requests: an answer that is an error, a stream that is cut.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use axum::{
    body::{Body, Bytes},
    extract::{Request, State},
    middleware::Next,
    response::{IntoResponse, Response},
};
use http::{HeaderValue, StatusCode, header};
use hyper::body::{Frame, SizeHint};

use super::{Cuttable, Faults, Thing};
use crate::http::{error::ApiError, tasks::Tasks};

/// Answers in the handler's place, or lets it answer and makes its stream known, to be cut.
pub async fn inject(State(faults): State<Faults>, mut request: Request, next: Next) -> Response {
    if !faults.is_injector() {
        return next.run(request).await;
    }
    let path = request.uri().path().to_owned();
    if let Some(fault) = faults.answer(request.method().as_str(), &path) {
        let status =
            StatusCode::from_u16(fault.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = ApiError::new(status, "An injected fault.").into_response();
        if let Some(seconds) = fault.retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        return response;
    }
    let cut = faults.live(|| Thing::Stream(path.clone()));
    if let Some(tasks) = request.extensions_mut().get_mut::<Tasks>() {
        *tasks = tasks.cut_by(faults.live(|| Thing::Stream(path)));
    }
    next.run(request).await.map(|body| Body::new(CutBody::new(body, cut)))
}

/// A body that breaks off when it is cut.
struct CutBody {
    body: Body,
    cut: Pin<Box<dyn Future<Output = ()> + Send>>,
}

impl CutBody {
    fn new(body: Body, mut cut: Cuttable) -> Self {
        Self { body, cut: Box::pin(async move { cut.cut().await }) }
    }
}

impl hyper::body::Body for CutBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        if self.cut.as_mut().poll(cx).is_ready() {
            self.cut = Box::pin(std::future::pending());
            self.body = Body::empty();
            return Poll::Ready(Some(Err(axum::Error::new("an injected fault"))));
        }
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use http_body_util::BodyExt;

    use super::*;

    #[tokio::test]
    async fn a_body_ends_with_an_error_when_it_is_cut() {
        let faults = Faults::injector();
        let cut = || faults.live(|| Thing::Stream("/x".to_owned()));
        let whole = CutBody::new(Body::from("whole"), cut());
        assert_eq!(whole.collect().await.unwrap().to_bytes(), "whole");
        let mut broken = CutBody::new(
            Body::from_stream(futures_util::stream::pending::<Result<Bytes, axum::Error>>()),
            cut(),
        );
        assert_eq!(faults.cut_streams("/x"), 1);
        assert!(broken.frame().await.unwrap().is_err());
    }
}
