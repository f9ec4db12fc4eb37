//! The ledger in a real PostgreSQL, started by the test that needs one: replicas that share it, and what can go wrong there.

mod accepting;
mod chaos;
mod cluster;
mod failing;
mod leading;
mod load;
mod races;
mod replicas;
mod starting;
mod tls;
mod transfer;
