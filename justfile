# The recipes, with what each is for
_default:
    @just --list --unsorted

# All that CI runs, by the same script: fmt, clippy, doc, test; warnings are errors
check:
    .ci/run

# The tests alone
test:
    cargo test --locked

# Random cases in the simulation: any number of them, from any seed
torture CASES="1_000_000" SEED="1":
    RUNHOUND_TORTURE_CASES={{ quote(CASES) }} RUNHOUND_TORTURE_SEED={{ quote(SEED) }} cargo test --locked --release --lib simulation::campaign -- --nocapture

# kill -9 of the real program under load, any number of times
torture-process KILLS="200" SEED="1":
    RUNHOUND_TORTURE_KILLS={{ quote(KILLS) }} RUNHOUND_TORTURE_SEED={{ quote(SEED) }} cargo test --locked --test it kills -- --nocapture

# Replicas on one PostgreSQL, for so many seconds: kill -9 of the leader, a follower and PostgreSQL in turn
chaos SECONDS="120":
    RUNHOUND_CHAOS_SECONDS={{ quote(SECONDS) }} cargo test --locked --test it postgres::chaos -- --nocapture

# Malformed requests, any number of them, from any seed; slow connections; rotation under load
hostile REQUESTS="100_000" SEED="1":
    RUNHOUND_HOSTILE_REQUESTS={{ quote(REQUESTS) }} RUNHOUND_HOSTILE_SEED={{ quote(SEED) }} cargo test --locked --test it hostile -- --nocapture

# Plants each bug of tests/planted in a copy, and names the tests that catch it
planted:
    tests/planted/run

# The recorded deliveries through the whole path, as a dry run
replay:
    cargo run --release --locked -- replay fixtures

# What deploy/ holds, by the tools that know it; the tools go to target/tools. The last part needs root
deploy:
    PATH="$(.ci/tools):$PATH" deploy/check

# The load benchmark, beside the durable limit, PostgreSQL, the original plan (where npm is) and webhook (where they are): 8 minutes
bench:
    cargo bench --locked --bench load

# How a backlog of 10,000, of 100,000 and of 1,000,000 runs drains
bench-backlog:
    cargo bench --locked --bench backlog

# What each step of a delivery costs by itself; a text chooses some: `just bench-micro parse`
bench-micro FILTER="":
    cargo bench --locked --bench micro -- {{ quote(FILTER) }}

# Start, memory, bytes written and idling by the number of IDs known, and a million runs pending at a start, beside the goals
bench-scale:
    cargo bench --locked --bench scale

# A ledger in PostgreSQL beside one in files: one more run by the number of IDs known, a backlog, copies, a change of who leads
bench-database:
    cargo bench --locked --bench database

# The pictures of the status page in the documents, by the browser that tests it; the page is set in Roboto where there is one
pictures:
    mkdir -p docs/images
    RUNHOUND_SCREENSHOTS="$PWD/docs/images" cargo test --locked --test it page::pictures

# Fixtures against GitHub's own schema of webhook events; needs `pip install jsonschema`
fixtures SCHEMA:
    python3 fixtures/validate.py {{ quote(SCHEMA) }}
