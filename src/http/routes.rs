//! The HTTP paths and what each returns.
//! Takes a request that passed the guard; answers from the last snapshot. `doc/openapi.yaml` describes each path; a
//! test compares the two.

use std::sync::Arc;

use axum::{
    Router,
    extract::{Request, State},
    http::{
        HeaderValue, StatusCode,
        header::{CACHE_CONTROL, CONNECTION, CONTENT_TYPE, WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS},
    },
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::get,
};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::{delegated, guard::Guard, watchdog};
use crate::{
    http::backend::Backend,
    render::{self, Picture, metrics, root, status_json},
};

/// One path.
pub struct Route {
    pub path: &'static str,
    answer: fn(&dyn Backend, &Picture) -> Response,
}

pub const ROUTES: &[Route] = &[
    Route { path: "/health", answer: health },
    Route { path: "/status", answer: |_, picture| json(StatusCode::OK, &status_json::facts(picture)) },
    Route { path: "/watchdog/status", answer: watchdog },
    Route { path: "/api/delegated/status", answer: delegated },
    Route { path: "/metrics", answer: metrics },
];

/// What every answer is made of.
pub struct Desk {
    pub backend: Arc<dyn Backend>,
    pub guard: Guard,
}

pub fn router(desk: Arc<Desk>) -> Router {
    let answers = ROUTES.iter().fold(Router::new(), |router, route| {
        let answer = move |State(desk): State<Arc<Desk>>| async move {
            let snapshot = desk.backend.snapshot();
            (route.answer)(desk.backend.as_ref(), &Picture::at(&snapshot, Timestamp::now()))
        };
        router.route(route.path, get(answer))
    });
    answers
        .fallback(|| async { error(StatusCode::NOT_FOUND, "there is no such path") })
        .method_not_allowed_fallback(|| async {
            error(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD are answered")
        })
        .layer(middleware::from_fn_with_state(desk.clone(), admit))
        .with_state(desk)
}

async fn admit(State(desk): State<Arc<Desk>>, request: Request, next: Next) -> Response {
    let (head, body) = request.into_parts();
    let mut response = match desk.guard.admit(&head) {
        Ok(()) => next.run(Request::from_parts(head, body)).await,
        Err((status, text)) => error(status, text),
    };
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// A supervisor with a problem answers 503, so that a monitor that only looks at the status notices.
fn health(_: &dyn Backend, picture: &Picture) -> Response {
    let problems = root::topics(picture);
    let (status, word) =
        if problems.is_empty() { (StatusCode::OK, "ok") } else { (StatusCode::SERVICE_UNAVAILABLE, "degraded") };
    json(status, &json!({"status": word, "problems": problems}))
}

fn watchdog(backend: &dyn Backend, picture: &Picture) -> Response {
    json(StatusCode::OK, &watchdog::status(picture, backend.idle_timeout()))
}

fn delegated(_: &dyn Backend, picture: &Picture) -> Response {
    match delegated::status(picture) {
        Some(value) => json(StatusCode::OK, &value),
        None => error(StatusCode::NOT_FOUND, "delegation is off: the configuration has no providers"),
    }
}

fn metrics(_: &dyn Backend, picture: &Picture) -> Response {
    // The text format of Prometheus, 0.0.4.
    let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    ([(CONTENT_TYPE, kind)], metrics::metrics(picture)).into_response()
}

fn json(status: StatusCode, value: &Value) -> Response {
    (status, [(CONTENT_TYPE, HeaderValue::from_static("application/json"))], render::json_text(value)).into_response()
}

fn error(status: StatusCode, text: &str) -> Response {
    let mut response = json(status, &json!({"error": text}));
    match status {
        StatusCode::UNAUTHORIZED => response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer")),
        // What follows on the connection would be the body.
        StatusCode::PAYLOAD_TOO_LARGE => response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close")),
        _ => None,
    };
    response
}
