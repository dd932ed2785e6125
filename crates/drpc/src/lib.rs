//! yamux and dRPC, client and server side, over any byte stream.
