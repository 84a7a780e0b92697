#!/usr/bin/env bash
# Measures a release build: HUP to the new worker's exec and main, and ready to the old worker's TERM. HUP to exec and
# ready to TERM are to be below 1 ms.
#
#   bench/latency.sh [RESTARTS]     200 by default
set -euo pipefail
cd "$(dirname "$0")/.."

cargo build --quiet --release --package start_server --bin start_server --example latency
target=${CARGO_TARGET_DIR:-target}
exec "$target/release/examples/latency" "$target/release/start_server" "${1:-200}"
