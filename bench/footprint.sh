#!/usr/bin/env bash
# Prints what a superdaemon costs while it does nothing: memory, threads, descriptors, and wake-ups in ten seconds, with
# auto-restart armed; once fresh, once after restarts. Private is what no other process maps: the program's text, unless a
# second superdaemon runs, and what is anonymous, which is no page of any file and could never be shared.
#
#   bench/footprint.sh [START_SERVER [RESTARTS]]      default: target/release/start_server, 100
#
# START_SERVER may be any program with the options of Server::Starter, to compare with.
set -euo pipefail

program=${1:-$(dirname "$0")/../target/release/start_server}
restarts=${2:-100}
if [ ! -x "$program" ]; then
    echo "$program is not there; build it with: cargo build --release --bins" >&2
    exit 1
fi
program=$(realpath "$program")

directory=$(mktemp -d)
superdaemon=
cleanup() {
    [ -z "$superdaemon" ] || kill -TERM "$superdaemon" 2>/dev/null || true
    wait 2>/dev/null || true
    rm -rf "$directory"
}
trap cleanup EXIT

# The value of a line NAME: VALUE of a file under /proc.
field() { awk -v name="$2:" '$1 == name { print $2 }' "/proc/$superdaemon/$1"; }

wake_ups() { echo $(($(field status voluntary_ctxt_switches) + $(field status nonvoluntary_ctxt_switches))); }

# Waits until the status file lists generation $1 and no other.
wait_for_generation() {
    for _ in $(seq 1000); do
        case $(cut -d: -f1 "$directory/status" 2>/dev/null | tr '\n' ' ') in "$1 ") return ;; esac
        sleep 0.01
    done
    echo "generation $1 did not come; the log:" >&2
    cat "$directory/log" >&2
    exit 1
}

row() { printf '%-20s %10s %10s %10s %8s %12s %17s\n' "$@"; }

measure() {
    sleep 1
    local before after private
    before=$(wake_ups)
    sleep 10
    after=$(wake_ups)
    private=$(($(field smaps_rollup Private_Clean) + $(field smaps_rollup Private_Dirty)))
    row "$1" "$(field status VmRSS) kB" "$private kB" "$(field status RssAnon) kB" "$(field status Threads)" \
        "$(find "/proc/$superdaemon/fd" -mindepth 1 | wc -l)" "$((after - before))"
}

"$program" --path="$directory/socket" --status-file="$directory/status" --interval=0 --enable-auto-restart \
    --auto-restart-interval=3600 --kill-old-delay=0 -- sleep 86400 2>"$directory/log" &
superdaemon=$!
wait_for_generation 1

row "$(basename "$program")" resident private anonymous threads descriptors "wake-ups in 10 s"
measure fresh
for generation in $(seq 2 $((restarts + 1))); do
    kill -HUP "$superdaemon"
    wait_for_generation "$generation"
done
measure "after $restarts restarts"
