#!/usr/bin/env bash
# A group of three on one machine, with three mounts at once: Anna founds a vault, Bob and Carol join and all write in
# turn; Carol is made a reader, Bob is removed, junk is put into the folder, Anna's laptop is lost.
#
#   contrib/demo_group.sh            show it all, in a temporary directory that is removed at the end
#   contrib/demo_group.sh --keep     leave that directory, to go on by hand
#
# Each person has a CRYPTFS_HOME of their own, as on a machine of their own; the folder `shared` stands for the cloud.
# The mounts are real (FUSE); all are gone at the end.
set -euo pipefail
cd "$(dirname "$0")/.."

keep=
case "${1:-}" in
  '') ;;
  --keep) keep=yes ;;
  *) sed -n '2,10s/^# \{0,1\}//p' "$0" >&2; exit 64 ;;
esac

bin=${CRYPTFS_BIN:-$PWD/.venv/bin}
[ -w /dev/fuse ] || { echo "demo_group.sh: /dev/fuse is missing or closed: nothing can be mounted here" >&2; exit 69; }
[ -x "$bin/cryptfs" ] || { echo "demo_group.sh: there is no $bin/cryptfs; run contrib/setup.sh first" >&2; exit 1; }
demo=$(mktemp -d)
end() {
  for who in anna bob carol phone; do CRYPTFS_HOME=$demo/$who "$bin/cryptfs" umount team >/dev/null 2>&1 || true; done
  if [ -n "$keep" ]; then echo "Everything is in $demo."; else rm -rf --one-file-system "$demo"; fi
}
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

sh() { # PERSON COMMAND…: what that person does in a shell, shown; in $M her mount
  local who=$1
  shift
  printf '%s$ %s\n' "$who" "$*"
  M=$demo/mnt-$who bash -c "cd $demo/mnt-$who && $*" 2>&1
}
sees() { # PERSON FILE TEXT: wait until the mount shows it; its process learns of it by itself
  for _ in $(seq 600); do
    if [ "$(cat "mnt-$1/$2" 2>/dev/null)" = "$3" ]; then
      echo "$1 sees $2: $3"
      return
    fi
    sleep 0.1
  done
  echo "demo_group.sh: $1 does not see $2" >&2
  exit 1
}
fact() { # PERSON FIELD: one line of her status
  CRYPTFS_HOME=$demo/$1 "$bin/cryptfs" status team | sed -n "s/^$2  */$1: /p"
}
told() { # PERSON FIELD TEXT: wait until that line of her status has the text
  for _ in $(seq 600); do
    if fact "$1" "$2" | grep -q -e "$3"; then
      fact "$1" "$2"
      return
    fi
    sleep 0.1
  done
  echo "demo_group.sh: the status of $1 does not say: $3" >&2
  exit 1
}
invite() { # ROLE NAME: a token, for whoever is to join
  echo "anna\$ cryptfs-admin invite team --role $1 --name $2"
  token=$(CRYPTFS_HOME=$demo/anna "$bin/cryptfs-admin" invite team --role "$1" --name "$2" 2>/dev/null)
}
join() { # PERSON LABEL: one command, which waits for the approval and mounts; goes on beside this script
  mkdir -p "mnt-$1"
  echo "$1\$ cryptfs join cfs1-… --device-label $2 --no-passphrase --mountpoint mnt-$1   # waits"
  CRYPTFS_HOME=$demo/$1 "$bin/cryptfs" join "$token" --device-label "$2" --no-passphrase \
    --mountpoint "$demo/mnt-$1" >"$1.out" 2>"$1.err" &
  asking=$!
  for _ in $(seq 600); do
    if grep -q 'lets it in' "$1.err"; then return; fi
    sleep 0.1
  done
}

step "Anna makes a vault in the shared folder. The recovery words go on paper; here they go into a file."
as anna cryptfs init team shared --display-name Anna --device-label laptop --no-passphrase --recovery-file words.txt
mkdir mnt-anna
as anna cryptfs mount team mnt-anna
sh anna "echo 'the plan' >plan.txt"

step "Bob and Carol join: one command on each side and one approval."
invite writer Bob
join bob laptop
as anna cryptfs-admin requests team
as anna cryptfs-admin approve team Bob --yes
wait "$asking"
cat bob.out
invite writer Carol
join carol laptop
as anna cryptfs-admin approve team Carol --yes
wait "$asking"
cat carol.out

step "All three have it mounted. They write in turn, and each sees what the others wrote."
sees bob plan.txt 'the plan'
sh bob "echo 'notes by Bob' >notes.txt"
sees anna notes.txt 'notes by Bob'
sees carol notes.txt 'notes by Bob'
sh carol "echo 'Carol was here' >>notes.txt && mkdir drafts && mv plan.txt drafts/"
sees anna drafts/plan.txt 'the plan'
sees bob notes.txt "$(printf 'notes by Bob\nCarol was here')"
as bob cryptfs sync team

step "Carol is made a reader: she reads, and writes no more."
as anna cryptfs-admin role team Carol reader --yes
told carol objection 'now a reader'
as carol cryptfs umount team
as carol cryptfs mount team mnt-carol
sh anna "echo 'for readers, too' >all.txt"
sees carol all.txt 'for readers, too'
if sh carol "echo no >mine.txt"; then echo "demo_group.sh: a reader could write" >&2; exit 1; fi

step "Bob gets a phone: a second device of the same member. It is lost, and removed; his laptop goes on."
invite writer Bob
join phone phone
as anna cryptfs-admin approve team Bob --yes
wait "$asking"
as anna cryptfs-admin members team
as anna cryptfs-admin remove team Bob/phone --yes
told phone objection 'removed by Anna'
sh bob "echo 'from the laptop' >still.txt"
sees anna still.txt 'from the laptop'

step "Bob leaves the company. What he wrote stays; what is written from now on he cannot read. Everybody is told."
as anna cryptfs-admin remove team Bob --yes
told bob objection 'removed by Anna'
if sh bob "echo no >mine.txt"; then echo "demo_group.sh: a removed member could write" >&2; exit 1; fi
sh anna "echo 'the new plan' >plan2.txt; echo 'and one more' >>notes.txt"
sees carol plan2.txt 'the new plan'
sees bob still.txt 'from the laptop'
if sh bob "cat plan2.txt"; then echo "demo_group.sh: a removed member could read" >&2; exit 1; fi
told carol group_news 'removed Bob (laptop)'

step "Somebody puts junk and old copies into the folder. It is counted and named, and nobody's mount minds."
head -c 3000 /dev/urandom >"shared/m/$(printf '%064d' 1)"
head -c 100 "$(find shared/m -type f | sort | tail -1)" >"shared/m/$(printf '%064d' 2)"
cp "$(find shared/w -type f | sort | tail -1)" "shared/w/$(printf '%032d-%016d' 3 3)"
told anna ignored_objects 'is no membership object'
sh anna "echo 'goes on' >after-junk.txt"
sees carol after-junk.txt 'goes on'
rm shared/m/000* shared/w/000*

step "Anna's laptop is stolen. Carol has the recovery words: she becomes owner and removes the laptop."
as carol cryptfs umount team
as carol cryptfs-admin recover team --recovery-file words.txt --remove Anna/laptop --yes
as carol cryptfs mount team mnt-carol
told anna objection 'removed by the recovery key'
sh carol "echo 'Carol goes on' >by-carol.txt && ls"
as carol cryptfs-admin members team

step "Who did what is signed, and everybody can read it."
as carol cryptfs-admin audit team
as carol cryptfs-admin verify team

step "And the provider of the folder? It sees sealed objects, and who is in the group."
if grep -rqaF -e 'the plan' -e 'the new plan' -e 'notes by' -e 'plan.txt' -e 'drafts' shared; then
  echo "demo_group.sh: plaintext in the shared folder! Please report this." >&2
  exit 1
fi
echo "No name and no word of the files above is in $(find shared -type f | wc -l) objects."
