//! REST client, connection watch, build and agent logs; only the fields that are read.
