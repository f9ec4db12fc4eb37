# The recipes, with what each is for
_default:
    @just --list --unsorted

# All that CI runs, by the same script: fmt, clippy, doc, test; warnings are errors
check:
    .ci/run

# The tests alone
test:
    cargo test --locked

# The recorded deliveries through the whole path, as a dry run
replay:
    cargo run --release --locked -- replay fixtures

# The load benchmark
bench:
    cargo bench --locked --bench load

# Fixtures against GitHub's own schema of webhook events; needs `pip install jsonschema`
fixtures SCHEMA:
    python3 fixtures/validate.py {{ quote(SCHEMA) }}
