#!/usr/bin/env bash
# A group of three on one machine: Anna founds a vault, Bob and Carol join, Bob is removed, Anna's laptop is lost.
#
#   contrib/demo_group.sh            show it all, in a temporary directory that is removed at the end
#   contrib/demo_group.sh --keep     leave that directory, to go on by hand
#
# Each person has a CRYPTFS_HOME of their own, as on a machine of their own; the folder `shared` stands for the cloud.
# Nothing is mounted, so it runs anywhere; with `cryptfs mount` the same folder is an ordinary directory.
set -euo pipefail
cd "$(dirname "$0")/.."

keep=
case "${1:-}" in
  '') ;;
  --keep) keep=yes ;;
  *) sed -n '2,9s/^# \{0,1\}//p' "$0" >&2; exit 64 ;;
esac

bin=${CRYPTFS_BIN:-$PWD/.venv/bin}
[ -x "$bin/cryptfs" ] || { echo "demo_group.sh: there is no $bin/cryptfs; run contrib/setup.sh first" >&2; exit 1; }
demo=$(mktemp -d)
end() { if [ -n "$keep" ]; then echo "Everything is in $demo."; else rm -rf --one-file-system "$demo"; fi; }
trap end EXIT
cd "$demo"
mkdir shared
bold='' plain=''
if [ -t 1 ] && [ -z "${NO_COLOR:-}" ]; then bold=$(printf '\033[1m') plain=$(printf '\033[0m'); fi

step() { printf '\n%s# %s%s\n' "$bold" "$*" "$plain"; }
as() { # PERSON PROGRAM ARGUMENT…: run it as that person, and show the line
  local who=$1 program=$2
  shift 2
  printf '%s$ %s' "$who" "$program"
  printf ' %q' "$@" | sed -E 's/cfs1-[A-Za-z0-9_-]{30,}/cfs1-…/g'
  printf '\n'
  CRYPTFS_HOME=$demo/$who "$bin/$program" "$@" 2>&1
}
expect_refusal() { # as `as`, for what must fail
  if as "$@"; then echo "demo_group.sh: that should have been refused" >&2; exit 1; fi
}

step "Anna makes a vault in the shared folder. The recovery words go on paper; here they go into a file."
as anna cryptfs init team shared --display-name Anna --device-label laptop --no-passphrase --recovery-file words.txt
echo 'the plan' >plan.txt
as anna cryptfs put team plan.txt /

step "She invites Bob and Carol, and sends each a token over a messenger."
bob_token=$(CRYPTFS_HOME=$demo/anna "$bin/cryptfs-admin" invite team --role writer --name Bob 2>/dev/null)
carol_token=$(CRYPTFS_HOME=$demo/anna "$bin/cryptfs-admin" invite team --role reader --name Carol 2>/dev/null)
echo "anna\$ cryptfs-admin invite team --role writer --name Bob"
echo "$bob_token"

step "They ask to be let in. Their devices show words, which can be compared over the phone."
as bob cryptfs join "$bob_token" --no-passphrase --no-wait
as carol cryptfs join "$carol_token" --no-passphrase --no-wait

step "Anna sees who asks, and lets them in. From then on all three share the folder."
as anna cryptfs-admin requests team
as anna cryptfs-admin approve team --all --yes
as bob cryptfs cat team plan.txt
echo 'notes by Bob' >notes.txt
as bob cryptfs put team notes.txt /
as bob cryptfs sync team
as carol cryptfs cat team notes.txt
expect_refusal carol cryptfs put team notes.txt /mine.txt

step "Bob gets a phone: a second device of the same member."
phone_token=$(CRYPTFS_HOME=$demo/anna "$bin/cryptfs-admin" invite team --role writer --name Bob 2>/dev/null)
as phone cryptfs join "$phone_token" --device-label phone --no-passphrase --no-wait
as anna cryptfs-admin approve team --all --yes
as anna cryptfs-admin members team

step "The phone is lost. Anna removes that device; Bob's laptop goes on."
as anna cryptfs-admin remove team Bob/phone --yes
as bob cryptfs ls team

step "Bob leaves the company. What he wrote stays; what is written from now on he cannot read."
as anna cryptfs-admin remove team Bob --yes
echo 'the new plan' >plan2.txt
as anna cryptfs put team plan2.txt /
as anna cryptfs sync team
as carol cryptfs cat team notes.txt plan2.txt
expect_refusal bob cryptfs cat team plan2.txt

step "Anna's laptop is stolen. Carol has the recovery words: she becomes owner and removes the laptop."
as carol cryptfs-admin recover team --recovery-file words.txt --remove Anna/laptop --yes
as carol cryptfs put team plan.txt /by-carol.txt
as carol cryptfs-admin members team

step "Who did what is signed, and everybody can read it."
as carol cryptfs-admin audit team
as carol cryptfs-admin verify team

step "And the provider of the folder? It sees sealed objects, and who is in the group."
if grep -rqaF -e 'the plan' -e 'the new plan' -e 'notes by' -e 'plan.txt' shared; then
  echo "demo_group.sh: plaintext in the shared folder! Please report this." >&2
  exit 1
fi
echo "No name and no word of the files above is in $(find shared -type f | wc -l) objects."
