//! A small SSH client that wastes no round trip.
