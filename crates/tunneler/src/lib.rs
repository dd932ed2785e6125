//! The tunneler: what should happen next between a command and a working tunnel.
