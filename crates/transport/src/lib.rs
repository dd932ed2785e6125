//! How any leg reaches a host: TLS, proxies, headers, HTTP, upgrades and WebSocket.
