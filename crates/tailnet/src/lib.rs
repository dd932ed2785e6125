//! The tailnet: coordination, DERP, WireGuard and a network stack in user space.
