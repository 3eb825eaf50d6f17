#!/usr/bin/env bash
# Makes .venv with cryptfs and all it needs. Run it as often as you like: when nothing changed it ends at once.
#
#   contrib/setup.sh             uses $PYTHON, or the first python3 that is 3.11 or newer
#
# System packages are installed through apt-get only if some are missing and root or sudo is at hand.
# Every Python package is pinned by version and SHA-256 (requirements.lock, requirements-build.lock).
set -euo pipefail
cd "$(dirname "$0")/.."
here=$PWD

say() { printf 'setup: %s\n' "$*" >&2; }
die() { say "$*"; exit 1; }

exec 9<"$here/contrib/setup.sh"
flock 9  # two set-ups of one checkout at once would disturb each other

# ---- Python --------------------------------------------------------------------------------------------------------

good_python() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; }

python=""
for candidate in "${PYTHON:-}" python3 python3.13 python3.12 python3.11; do
  [ -n "$candidate" ] || continue
  if good_python "$candidate"; then
    python=$candidate
    break
  fi
  [ "$candidate" != "${PYTHON:-}" ] || die "\$PYTHON is $PYTHON, which is not a Python of at least 3.11."
done
have_uv() { command -v uv >/dev/null 2>&1; }

# ---- system packages -----------------------------------------------------------------------------------------------

missing_packages() {
  command -v fusermount3 >/dev/null 2>&1 || echo fuse3
  command -v pkg-config >/dev/null 2>&1 || echo pkg-config
  pkg-config --exists fuse3 2>/dev/null || echo libfuse3-dev
  command -v gcc >/dev/null 2>&1 || echo gcc
  # For the tests of smart cards only; elsewhere they are skipped, with this as the reason.
  [ "${CI:-}" != true ] || command -v softhsm2-util >/dev/null 2>&1 || echo softhsm2
  if [ -z "$python" ]; then
    echo python3 python3-dev python3-venv
    return
  fi
  "$python" - <<'PY' || echo python3-dev
import pathlib, sys, sysconfig
sys.exit(not pathlib.Path(sysconfig.get_paths()["include"], "Python.h").exists())
PY
  have_uv || "$python" -c 'import ensurepip, venv' 2>/dev/null || echo python3-venv
}

as_root() {
  if [ "$(id -u)" = 0 ]; then "$@"
  elif [ -t 0 ]; then sudo "$@"
  else sudo -n "$@"
  fi
}

install_packages() { # names
  command -v apt-get >/dev/null 2>&1 || return 1
  [ "$(id -u)" = 0 ] || command -v sudo >/dev/null 2>&1 || return 1
  say "installing system packages: $*"
  # No update first: often the lists are fresh enough, and then nothing has to be fetched twice.
  as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$@" >&2 ||
    { as_root apt-get update >&2 &&
      as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$@" >&2; }
}

read -ra missing <<<"$(missing_packages | xargs)"
if [ "${#missing[@]}" -gt 0 ]; then
  install_packages "${missing[@]}" || true
  if [ -z "$python" ] && good_python python3; then python=python3; fi
  read -ra missing <<<"$(missing_packages | xargs)"
fi
if [ "${#missing[@]}" -gt 0 ]; then
  die "missing on this machine: ${missing[*]}
setup: install them (Debian, Ubuntu: sudo apt-get install ${missing[*]}) and run this again.
setup: with another Python than the system's, point PYTHON at one of at least 3.11 that has its headers."
fi
[ -e /dev/fuse ] || say "note: there is no /dev/fuse here, so nothing can be mounted (in a container: --device /dev/fuse)."

# ---- .venv ---------------------------------------------------------------------------------------------------------

# What the environment was made from; when it still is, there is nothing to do.
version=$("$python" -c 'import sys; print(sys.version.split()[0], sys.base_prefix)')
stamp="$here $version $(cat requirements-build.lock requirements.lock pyproject.toml | sha256sum)"
if [ -x .venv/bin/cryptfs ] && [ "$(cat .venv/.complete 2>/dev/null)" = "$stamp" ]; then
  exit 0
fi

# An environment of another Python, or one that was moved, cannot be mended: its scripts name the old place.
made_by=$(cat .venv/.made-by 2>/dev/null || true)
if [ "$made_by" != "$here $version" ] || [ ! -x .venv/bin/python ]; then
  say "making .venv with Python ${version%% *}"
  if have_uv; then
    uv venv --quiet --clear --no-python-downloads --python "$(command -v "$python")" .venv
  else
    "$python" -m venv --clear .venv
  fi
  printf '%s' "$here $version" >.venv/.made-by
fi
rm -f .venv/.complete

install() {
  if have_uv; then
    uv pip install --quiet --python .venv/bin/python "$@"
  else
    .venv/bin/python -m pip install --quiet --disable-pip-version-check "$@"
  fi
}

say "installing what cryptfs needs (the first time this takes a minute: pyfuse3 is compiled)"
# First the tools that build, then the rest without build isolation: so nothing is fetched that is not in a lock file.
install --require-hashes -r requirements-build.lock
PATH="$here/.venv/bin:$PATH" install --no-build-isolation --require-hashes -r requirements.lock
install --no-build-isolation --no-deps --editable .
printf '%s' "$stamp" >.venv/.complete
say "done: .venv/bin/cryptfs"
