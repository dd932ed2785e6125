//! The transport against servers in the same process: good ones, odd ones, and none at all.

mod http;
mod proxies;
mod server;
mod surroundings;
mod websocket;
