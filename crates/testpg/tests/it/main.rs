//! What the servers and the proxy promise.

mod failover;
mod life;
mod network;
mod server;
