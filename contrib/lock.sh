#!/usr/bin/env bash
# Renews the two lock files from pyproject.toml: pinned versions with SHA-256, and no host names.
# Needs uv. Run it when a dependency changes; commit the result.
set -euo pipefail
cd "$(dirname "$0")/.."

lock() { # group, file
  uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate --no-header \
    --no-emit-index-url --group "$1" --output-file "$2" "${@:3}"
  # A lock that names where its files come from would tie every clone to that place.
  if grep -nE '://|--(extra-)?index-url|--find-links' "$2"; then
    echo "lock.sh: $2 names a host; nothing may (see above)" >&2
    exit 1
  fi
}

lock dev requirements.lock pyproject.toml
lock build requirements-build.lock
