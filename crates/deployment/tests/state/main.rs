//! The state and its notifications, on SQLite in memory, SQLite in a file and PostgreSQL.

#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "../support/postgres.rs"]
mod postgres;

mod agents;
mod backend;
mod builds;
mod claims;
mod drafts;
mod jobs;
mod logs;
mod notify;
mod storage;
mod world;
