#!/usr/bin/env bash
# A demonstration that stays usable: a vault on a local folder, mounted, with a few files in it.
#
#   contrib/try.sh             make it (or mount it again), and look at it from both sides
#   contrib/try.sh --remove    unmount it and delete it
#
# Everything lies in ~/cryptfs-demo (or $CRYPTFS_DEMO); your own vaults are not touched.
set -euo pipefail
cd "$(dirname "$0")/.."

demo=${CRYPTFS_DEMO:-${HOME:-/tmp}/cryptfs-demo}
store=$demo/store mount=$demo/mnt
export CRYPTFS_HOME=$demo/home
cryptfs=$PWD/.venv/bin/cryptfs
marker=$demo/made-by-try.sh

step() { printf '\n\033[1m%s\033[0m\n' "$*"; }
[ -t 1 ] && [ -z "${NO_COLOR:-}" ] || step() { printf '\n%s\n' "$*"; }
show() { printf '$ %s\n' "$*"; "$@"; }

mounted() { [ "$("$cryptfs" status demo --json 2>/dev/null | grep -c '"mounted": true')" = 1 ]; }

if [ "${1:-}" = --remove ]; then
  [ -e "$marker" ] || { echo "try.sh: $demo was not made by this script; nothing is removed." >&2; exit 1; }
  if [ -x "$cryptfs" ]; then "$cryptfs" umount demo 2>/dev/null || true; fi
  rm -rf --one-file-system "$demo"
  echo "try.sh: $demo is gone."
  exit 0
elif [ $# -gt 0 ]; then
  sed -n '2,8s/^# \{0,1\}//p' "$0" >&2
  exit 64
fi

contrib/setup.sh
if [ -e "$demo" ] && [ ! -e "$marker" ]; then
  echo "try.sh: $demo exists and was not made by this script. Set CRYPTFS_DEMO to another place." >&2
  exit 1
fi
mkdir -p "$demo" "$mount"
touch "$marker"

if [ ! -e "$CRYPTFS_HOME/data/demo/keys.cfs" ]; then
  step "A new vault. The folder $store stands for a shared cloud folder."
  rm -rf "$store"  # of a run that was interrupted
  show "$cryptfs" init demo "$store" --no-passphrase --no-recovery
fi

files() { # writes the sample files below $1
  mkdir -p "$1/letters"
  printf 'Dear Anna,\nthe key is under the flower pot.\n' >"$1/letters/to-anna.txt"
  printf 'name,account\nAnna,DE00 1234\nBob,DE00 5678\n' >"$1/accounts.csv"
}

if [ -c /dev/fuse ] && { : </dev/fuse; } 2>/dev/null; then
  mounted || show "$cryptfs" mount demo "$mount"
  [ -e "$mount/accounts.csv" ] || files "$mount"
  show "$cryptfs" sync demo
  step "What a member sees, in $mount:"
  show ls -lR "$mount"
  show cat "$mount/letters/to-anna.txt"
else
  step "There is no /dev/fuse here, so nothing is mounted; the same vault without a mount:"
  if ! "$cryptfs" cat demo accounts.csv >/dev/null 2>&1; then
    sample=$(mktemp -d)
    files "$sample"
    "$cryptfs" put demo "$sample/letters" "$sample/accounts.csv" /
    rm -r "$sample"
  fi
  show "$cryptfs" sync demo
  show "$cryptfs" ls -l demo /
  show "$cryptfs" cat demo letters/to-anna.txt
fi

step "What the provider of the folder sees, in $store:"
show ls -lR "$store"
newest=$(find "$store/l" -type f -printf '%T@ %p\n' | sort -n | tail -n 1 | cut -d ' ' -f 2-)
show od -A d -t x1z -N 256 "$newest"
if grep -rqaF -e 'flower pot' -e 'to-anna' -e 'accounts' "$store"; then
  echo "try.sh: plaintext in the store! Please report this." >&2
  exit 1
fi
echo "No name and no word of the files above is in there."

step "To go on:"
cat <<EOF
$mount is an ordinary folder: use it. From another shell:

  export CRYPTFS_HOME=$CRYPTFS_HOME
  $cryptfs status demo        how it is, and what is still to be sent
  $cryptfs umount demo        contrib/try.sh mounts it again

To unmount it and delete it all: contrib/try.sh --remove
EOF
