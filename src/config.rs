//! Where the deployment and the token come from.
