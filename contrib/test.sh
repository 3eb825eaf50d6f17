#!/usr/bin/env bash
# Everything a change has to pass: style, types, tests. Arguments go to pytest:
#
#   contrib/test.sh                     all of it
#   contrib/test.sh tests/crypto -x     some tests (style and types are checked all the same)
#   contrib/test.sh -n 0                one after the other; by default as many at once as there are processors
#
# Tests that mount are skipped, with the reason, where /dev/fuse is missing; with CI=true they fail instead.
set -euo pipefail
cd "$(dirname "$0")/.."
contrib/setup.sh

bin=$PWD/.venv/bin
failed=()
step() { # name, command
  printf '\n== %s\n' "$1"
  "${@:2}" || failed+=("$1")  # go on: one run shows all that is wrong
}

step "ruff check" "$bin/ruff" check
step "ruff format --check" "$bin/ruff" format --check
step "mypy" "$bin/mypy"
step "pytest" "$bin/python" -m pytest -n auto --dist worksteal "$@"

if [ "${#failed[@]}" -gt 0 ]; then
  printf '\ntest.sh: failed: %s\n' "$(printf '%s. ' "${failed[@]}")" >&2
  exit 1
fi
printf '\ntest.sh: all passed\n'
