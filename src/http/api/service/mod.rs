//! The service itself: health, metrics and descriptions of the interface.

pub(in crate::http) mod describe;
pub(in crate::http) mod descriptions;
pub(in crate::http) mod docs;
pub(in crate::http) mod document;
pub(in crate::http) mod figures;
pub(in crate::http) mod health;
pub(in crate::http) mod registry;

use std::future::ready;

use crate::http::api::row::Row;
use crate::http::server::endpoint::Endpoint;

/// The endpoints of this topic.
pub(in crate::http) static ROWS: [Row; 9] = [
    Row::new(Endpoint::get("/health", |call| Box::pin(ready(health::health(&call)))).probe(), describe::health),
    Row::new(
        Endpoint::get("/health/detailed", |call| Box::pin(ready(health::detailed(&call)))).operational(),
        describe::detailed,
    ),
    Row::new(Endpoint::get("/livez", |call| Box::pin(ready(health::live(&call)))).probe(), describe::live),
    Row::new(Endpoint::get("/readyz", |call| Box::pin(ready(health::ready(&call)))).probe(), describe::ready),
    Row::new(
        Endpoint::get("/metrics", |call| Box::pin(ready(health::metrics(&call)))).operational(),
        describe::metrics,
    ),
    Row::new(
        Endpoint::get("/openapi.json", |call| Box::pin(ready(descriptions::openapi(&call)))).operational(),
        describe::document,
    ),
    Row::new(
        Endpoint::get("/asyncapi.json", |call| Box::pin(ready(descriptions::asyncapi(&call)))).operational(),
        describe::messages,
    ),
    Row::new(Endpoint::get("/docs", |call| Box::pin(ready(docs::page(&call)))).operational(), describe::page),
    Row::undescribed(Endpoint::get("/docs/{id}", |call| Box::pin(ready(docs::file(&call)))).operational()),
];
