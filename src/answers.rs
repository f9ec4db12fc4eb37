//! What both listeners answer alike.

use actix_web::{HttpResponse, Resource, Route, http::header, web};
use serde_json::json;

/// What is there to be looked at, and nothing else.
pub(crate) fn readable(path: &str, get: Route, head: Route) -> Resource {
    web::resource(path).route(get).route(head).default_service(web::to(|| async { wrong_method("GET, HEAD") }))
}

/// `/healthz`.
pub(crate) fn healthz() -> Resource {
    readable("/healthz", web::get().to(alive), web::head().to(alive))
}

async fn alive() -> HttpResponse {
    HttpResponse::Ok().json(json!({"status": "ok"}))
}

pub(crate) async fn not_found() -> HttpResponse {
    HttpResponse::NotFound().json(json!({"error": "not found"}))
}

/// The methods there are, in place of the one that was tried.
pub(crate) fn wrong_method(allowed: &'static str) -> HttpResponse {
    HttpResponse::MethodNotAllowed()
        .insert_header((header::ALLOW, allowed))
        .json(json!({"error": "method not allowed"}))
}
