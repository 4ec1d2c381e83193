//! What is answered: an axum `Router`.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::http::header::CACHE_CONTROL;
use axum::response::IntoResponse;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::routing::{get, post};
use axum::{Json, Router};
use futures_util::stream::{self, Stream, StreamExt};
use serde::Deserialize;
use tower_http::limit::RequestBodyLimitLayer;
use tower_http::timeout::TimeoutLayer;

use crate::app::{App, Reminder};

const MAX_BODY: usize = 4_096;

/// How long a handler may take, the body of its request included. A drain waits for handlers, so this
/// is less than `SHUTDOWN_TIMEOUT` (8 s).
const HANDLER_TIMEOUT: Duration = Duration::from_secs(5);

pub fn router(app: Arc<App>) -> Router {
    Router::new()
        .route("/", get("Reminders on scratch\n"))
        .route("/reminders", post(create))
        .route("/reminders/next", get(next))
        .route("/reminders/{id}", get(show))
        .route("/events", get(events))
        .route("/health", get(readiness))
        .route("/readyz", get(readiness))
        .route("/livez", get(([(CACHE_CONTROL, "no-store")], "alive")))
        .layer(RequestBodyLimitLayer::new(MAX_BODY))
        // It ends when the head of the answer is there, so a stream of events may last for any time.
        .layer(TimeoutLayer::with_status_code(
            StatusCode::GATEWAY_TIMEOUT,
            HANDLER_TIMEOUT,
        ))
        .with_state(app)
}

#[derive(Deserialize)]
struct NewReminder {
    text: String,
    after_ms: u32,
}

async fn create(
    State(app): State<Arc<App>>,
    Json(new): Json<NewReminder>,
) -> Result<(StatusCode, Json<Reminder>), StatusCode> {
    let delay = Duration::from_millis(new.after_ms.into());
    let reminder = app.remind(new.text, delay);
    let reminder = reminder.ok_or(StatusCode::TOO_MANY_REQUESTS)?;
    Ok((StatusCode::CREATED, Json(reminder)))
}

async fn show(
    State(app): State<Arc<App>>,
    Path(id): Path<u64>,
) -> Result<Json<Reminder>, StatusCode> {
    app.pending(id).map(Json).ok_or(StatusCode::NOT_FOUND)
}

/// Answers with the next reminder that is due.
async fn next(State(app): State<Arc<App>>) -> Result<Json<Reminder>, StatusCode> {
    let next = app.due.subscribe().recv().await;
    next.map(Json).map_err(|_| StatusCode::SERVICE_UNAVAILABLE)
}

/// Server-sent events: reminders, as they come due. The stream ends when the server stops, and for a
/// client that is 64 reminders behind; a browser then connects again by itself.
async fn events(
    State(app): State<Arc<App>>,
) -> Sse<impl Stream<Item = Result<Event, axum::Error>>> {
    let reminders = stream::unfold(app.due.subscribe(), |mut due| async move {
        let reminder = due.recv().await.ok()?;
        Some((Event::default().json_data(reminder), due))
    });
    let until_stop = reminders.take_until(app.stopping.clone().cancelled_owned());
    // A comment now and then shows whether the client is still there.
    Sse::new(until_stop).keep_alive(KeepAlive::default())
}

async fn readiness(State(app): State<Arc<App>>) -> impl IntoResponse {
    let (status, text) = match app.stopping.is_cancelled() {
        false => (StatusCode::OK, "healthy"),
        true => (StatusCode::SERVICE_UNAVAILABLE, "draining"),
    };
    (status, [(CACHE_CONTROL, "no-store")], text)
}
