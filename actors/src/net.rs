//! How things travel: quinn with mutual TLS, one link per peer.
