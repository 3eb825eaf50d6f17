#!/bin/bash
# Runs other people's file system test suites on a mount. By hand, not in CI: they take minutes to hours.
#
#   tests/conformance/suites.sh [-d DIR] SUITE...      as root
#
#   -d DIR   test this directory (a mount of anything) instead of a new cryptfs vault: `-d /tmp` shows what ext4 does
#
#   syscalls    libfuse's test_syscalls.c, from Debian's source package fuse3 (compiled here)
#   stress-ng   its file system stressors with --verify (package stress-ng); SECONDS_EACH=5, STRESSORS="rename link"
#   fio         random writes in several ways, verified by checksums (package fio)
#   pjdfstest   needs a checkout built by you: PJDFSTEST=/path/to/pjdfstest (not packaged by Debian or on PyPI)
#   xfstests    needs a checkout built by you: XFSTESTS=/path/to/xfstests-dev (not packaged by Debian 12)
#   ltp         needs an installation by you: LTPROOT=/opt/ltp (not packaged by Debian 12)
#   big         tests/conformance/big_tree.py with 20,000 files
#   seeds       our random differential tests with 200 further seeds
#   all         those of the above that can run here
#
# What each suite should give is in docs/ (and fails there are listed with their reason). Exit code 0: nothing failed.
set -u
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
python=${PYTHON:-python3}
seconds=${SECONDS_EACH:-5}
dir="" work="" daemon="" failed=0

die() { echo "suites.sh: $*" >&2; exit 64; }
say() { printf '\n== %s\n' "$*"; }
bad() { echo "FAILED: $*"; failed=1; }

stop() {
    if [ -n "$daemon" ]; then
        cd / && fusermount3 -u "$work/mnt" || fusermount3 -uz "$work/mnt"
        wait "$daemon" || bad "the daemon ended with $?, see $work/daemon.log"
        grep -nE 'ERROR|Traceback' "$work/daemon.log" && bad "the daemon's log holds errors: $work/daemon.log"
    fi
    [ -n "$work" ] && [ "$failed" = 0 ] && rm -rf "$work"
}

start() {
    work=$(mktemp -d /tmp/cryptfs-suites-XXXXXX); chmod 755 "$work"; mkdir "$work/mnt" "$work/store" "$work/src"
    if [ -n "$dir" ]; then target=$(mktemp -d "$dir/suites-XXXXXX"); chmod 755 "$target"; return; fi
    export CRYPTFS_HOME=$work/home
    cd "$root" || exit 1
    "$python" -m cryptfs init suites "file://$work/store" --no-passphrase --no-recovery >"$work/init.log" || die "init failed, see $work/init.log"
    "$python" -m cryptfs mount suites "$work/mnt" --foreground -o allow_other >"$work/daemon.log" 2>&1 &
    daemon=$!
    for _ in $(seq 200); do mountpoint -q "$work/mnt" && break; sleep 0.1; done
    mountpoint -q "$work/mnt" || die "no mount, see $work/daemon.log"
    target=$work/mnt/suites; mkdir "$target"
}

syscalls() {
    say "libfuse test_syscalls"
    local apt="$work/src/apt" source
    mkdir -p "$apt/lists/partial" "$apt/cache/archives/partial"
    local uri suite
    uri=$(grep -hoE 'https?://[^ ]*/debian/?( |$)' /etc/apt/sources.list /etc/apt/sources.list.d/* 2>/dev/null | grep -v snapshot | head -1)
    suite=$(. /etc/os-release && echo "$VERSION_CODENAME")
    echo "deb-src [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $uri $suite main" >"$apt/src.list"
    local options=(-q -o "Dir::Etc::sourcelist=$apt/src.list" -o Dir::Etc::sourceparts=/dev/null
        -o "Dir::State::lists=$apt/lists" -o "Dir::Cache=$apt/cache")
    (cd "$work/src" && apt-get "${options[@]}" update && apt-get "${options[@]}" source --download-only fuse3) >"$work/src/apt.log" 2>&1 ||
        { bad "apt-get source fuse3, see $work/src/apt.log"; return; }
    tar -xf "$work"/src/fuse3_*.orig.tar.xz -C "$work/src"
    source=$(find "$work/src" -name test_syscalls.c)
    touch "$work/src/fuse_config.h"
    gcc -w -D_GNU_SOURCE -I"$work/src" -include stdbool.h \
        -o "$work/src/test_syscalls" "$source" || { bad "test_syscalls does not compile"; return; }
    mkdir "$target/syscalls"
    "$work/src/test_syscalls" "$target/syscalls" || bad "test_syscalls"
}

stress-ng() {
    say "stress-ng, $seconds s each"
    command -v stress-ng >/dev/null || { bad "apt-get install stress-ng"; return; }
    local stressors=${STRESSORS:-"access acl chattr chdir chmod chown copy-file dentry dir dirdeep dirmany dup fallocate fcntl fiemap
        file-ioctl filename flock fpunch fsize fstat getdent handle hdd inode-flags io iomix lease link lockf lockofd
        metamix mknod mmapmany msync open readahead rename revio seek sendfile splice symlink sync-file touch truncate
        unlink utime verity xattr"}
    mkdir "$target/stress"
    for name in $stressors; do
        printf '%-14s' "$name"
        if command stress-ng --"$name" 2 --timeout "$seconds" --verify --temp-path "$target/stress" \
            --hdd-bytes 16M --iomix-bytes 16M --seek-size 16M --revio-bytes 16M --readahead-bytes 16M \
            --dirmany-bytes 0 --copy-file-bytes 128M --fallocate-bytes 16M --no-rand-seed >"$work/src/$name.log" 2>&1 &&
            ! grep -qE '\bfail:' "$work/src/$name.log"; then echo ok
        elif grep -q 'unrecognized option' "$work/src/$name.log"; then echo "not in this version of stress-ng"
        else echo "FAILED"; grep -E 'fail:|error' "$work/src/$name.log" | head -5; failed=1; fi
    done
}

fio() {
    say "fio with verification"
    command -v fio >/dev/null || { bad "apt-get install fio"; return; }
    mkdir "$target/fio"
    for engine in sync psync mmap libaio; do
        for pattern in randwrite write randrw; do
            direct=0 align=512
            [ "$engine" = libaio ] && direct=1
            [ "$engine" = mmap ] && align=4096
            printf '%-8s%-10s' "$engine" "$pattern"
            if command fio --name=v --directory="$target/fio" --ioengine=$engine --rw=$pattern --direct=$direct \
                --bsrange=$align-128k --blockalign=$align --size=24M --numjobs=2 --verify=crc32c --do_verify=1 --verify_fatal=1 --randseed=7 \
                --fsync=64 --output="$work/src/fio-$engine-$pattern.log"; then echo ok; else bad "fio, see $work/src"; fi
            rm -f "$target"/fio/*
        done
    done
}

pjdfstest() {
    say "pjdfstest"
    [ -x "${PJDFSTEST:-}/pjdfstest" ] || { echo "skipped: set PJDFSTEST to a built checkout"; return; }
    mkdir "$target/pjd"; (cd "$target/pjd" && prove -rQ "$PJDFSTEST/tests") || bad pjdfstest
}

xfstests() {
    say "xfstests, generic quick"
    [ -x "${XFSTESTS:-}/check" ] || { echo "skipped: set XFSTESTS to a built checkout"; return; }
    [ -n "$daemon" ] || { echo "skipped: needs a cryptfs mount"; return; }
    cat >"$XFSTESTS/local.config" <<CONFIG
export FSTYP=fuse TEST_DEV=cryptfs:suites TEST_DIR=$work/mnt FUSE_SUBTYP=.cryptfs
CONFIG
    (cd "$XFSTESTS" && ./check -fuse -g quick) || bad xfstests
}

ltp() {
    say "LTP file system calls"
    [ -x "${LTPROOT:-/opt/ltp}/runltp" ] || { echo "skipped: set LTPROOT to an installation"; return; }
    mkdir -m 1777 "$target/ltp"
    "${LTPROOT:-/opt/ltp}/runltp" -q -f fs,fs_perms_simple,fcntl-locktests -d "$target/ltp" || bad ltp
}

big() { say "20,000 files"; "$python" "$here/big_tree.py" ${dir:+--on "$dir"} || bad big_tree; }

seeds() {
    say "200 seeds"
    (cd "$root" && CRYPTFS_CONFORMANCE_DIR=$target CRYPTFS_CONFORMANCE_SEEDS=100:300 "$python" -m pytest -q \
        tests/conformance/test_random_tree.py tests/conformance/test_random_bytes.py) || bad seeds
}

while getopts d: option; do case $option in d) dir=$OPTARG ;; *) die "see the head of this file" ;; esac; done
shift $((OPTIND - 1))
[ $# -gt 0 ] || { sed -n '2,22p' "$0"; exit 64; }
[ "$(id -u)" = 0 ] || die "must run as root (other users, device nodes, allow_other)"
trap stop EXIT
start
[ "$*" = all ] && set -- syscalls stress-ng fio pjdfstest xfstests ltp seeds big
for suite in "$@"; do
    case $suite in syscalls | stress-ng | fio | pjdfstest | xfstests | ltp | big | seeds) "$suite" ;; *) die "no suite $suite" ;; esac
done
exit $failed
