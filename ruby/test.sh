#!/usr/bin/env bash
# Runs the tests of the gem, with real servers and real Bundler, after installing what they need (Debian and its kin).
# START_SERVER names the superdaemon to test with; without it, the one in the project's target directory is used, and
# built if it is not there. The last line is "N passed, N failed"; ends with 1 if a test failed.
set -euo pipefail
cd "$(dirname "$0")"

packages=(ruby ruby-dev ruby-minitest ruby-bundler ruby-rack ruby-redis unicorn puma redis-server)
missing=()
for package in "${packages[@]}"; do
    case $(dpkg-query --show --showformat='${db:Status-Abbrev}' "$package" 2>/dev/null || true) in
        ii*) ;;
        *) missing+=("$package") ;;
    esac
done
if [ "${#missing[@]}" -gt 0 ]; then
    ../scripts/install-debian-packages "${missing[@]}" ||
        { echo "these tests need ${missing[*]} (Debian's names)" >&2; exit 1; }
fi

if [ -z "${START_SERVER:-}" ]; then
    target=${CARGO_TARGET_DIR:-../target}
    for program in "$target/release/start_server" "$target/debug/start_server"; do
        [ -x "$program" ] && START_SERVER=$program && break
    done
    if [ -z "${START_SERVER:-}" ]; then
        cargo build --quiet --manifest-path ../Cargo.toml --bin start_server
        START_SERVER=$target/debug/start_server
    fi
fi
START_SERVER=$(realpath "$START_SERVER")
export START_SERVER

# Tests of servers mostly wait: more of them at a time than there are processors.
MT_CPU=4 ruby -W1 test/all.rb "$@"
