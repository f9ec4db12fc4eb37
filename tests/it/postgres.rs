//! A real PostgreSQL, started by the test that needs one.

mod cluster;
mod races;
