# SPDX-License-Identifier: BSD-3-Clause
# What the tests of vdisk-img share: source it as ". vdisk_img_lib.sh VDISK_IMG [SEED]". Goes to a directory of its own,
# which is removed at the end; the last line of a test is "finish".
# shellcheck shell=bash
img=$(realpath "$1")
seed=${2:-$$}
RANDOM=$((seed % 32768))
dir=$(mktemp -d "/var/tmp/$(basename "$0" .sh).XXXXXX") && cd "$dir" || exit 1
trap 'cd /; rm -rf "$dir"' EXIT
export TZ=UTC
failed=0 passed=0

needs_qemu() { command -v qemu-img >/dev/null && command -v qemu-io >/dev/null || { echo "qemu-img or qemu-io is not installed"; exit 77; }; }

finish() {
        echo "$(basename "$0" .sh): $passed passed, $failed failed (seed $seed)"
        [ $failed = 0 ] && [ $passed -gt 0 ]
}

ok() { passed=$((passed + 1)); }
bad() { failed=$((failed + 1)); echo "FAIL line ${BASH_LINENO[1]}: $*"; }

# same ARGS...: qemu-img and vdisk-img print the same text and return the same
same() {
        qemu-img "$@" >q.out 2>q.err; local q=$?
        "$img" "$@" >v.out 2>v.err; local v=$?
        if [ $q = $v ] && cmp -s q.out v.out; then ok; else bad "$* (exit $q, $v)"; diff q.out v.out | head -8; cat v.err; fi
}

# without MEMBER <JSON: an object without what only ours says
without() { python3 -c 'import json, sys; o = json.load(sys.stdin); del o[sys.argv[1]]; print(json.dumps(o, indent=4))' "$1"; }

# same_json ARGS...: the same members; the order of members may differ, and what is a file's size on disk
same_json() {
        qemu-img "$@" >q.out 2>q.err; local q=$?
        "$img" "$@" >v.out 2>v.err; local v=$?
        if grep -q '^    "findings": ' v.out; then without findings <v.out >own.out; mv own.out v.out; fi
        for f in q v; do sed 's/,$//' $f.out | sort >$f.sorted; done
        if [ $q = $v ] && [ -s v.out ] && cmp -s q.sorted v.sorted; then ok; else
                bad "$* (exit $q, $v)"; diff q.sorted v.sorted | head -8; cat v.err; fi
}

# works ARGS...: exit 0 and nothing on stderr
works() {
        "$img" "$@" >v.out 2>v.err; local v=$?
        if [ $v = 0 ] && [ ! -s v.err ]; then ok; else bad "$* (exit $v)"; cat v.err; fi
}

# refuses CODE PATTERN ARGS...: that exit code, one sentence that matches, and the directory is as it was
refuses() {
        local code=$1 pattern=$2 before after; shift 2
        rm -f v.out v.err; before=$(find . ! -type d -printf '%p %s %y %T@\n' | sort)
        "$img" "$@" >/dev/null 2>"$dir.err"; local v=$?
        after=$(find . ! -type d -printf '%p %s %y %T@\n' | sort)
        mv "$dir.err" v.err
        [ "$before" = "$after" ] || { bad "$* left something behind"; diff <(echo "$before") <(echo "$after"); }
        if [ $v = "$code" ] && [ "$(wc -l <v.err)" = 1 ] && grep -q -- "^vdisk-img: .*$pattern" v.err; then ok; else
                bad "$* (exit $v, wanted $code and '$pattern')"; cat v.err; return 1; fi
}

# says PATTERN: what the last "works" or "same" printed
says() { if grep -Eq -- "$1" v.out; then ok; else bad "wanted '$1'"; head -20 v.out; fi; }

clean() { # IMAGE...: QEMU's check and ours find nothing
        local f
        for f in "$@"; do
                if qemu-img check -q -f qcow2 "$f" >q.out 2>&1; then ok; else bad "qemu-img check $f"; cat q.out; fi
                if "$img" check -q -f qcow2 "$f" >v.out 2>&1; then ok; else bad "vdisk-img check $f"; cat v.out; fi
        done
}

# equal FORMAT1 FILE1 FORMAT2 FILE2: QEMU finds the same disk in both
equal() {
        if qemu-img compare -f "$1" -F "$3" "$2" "$4" >q.out 2>&1; then ok; else bad "$2 and $4 differ"; cat q.out; fi
}

# random_io FILE FORMAT SIZE_K COUNT: writes, zeroes and discards by qemu-io
random_io() {
        local i cmds=() off len
        for ((i = 0; i < $4; i++)); do
                off=$((RANDOM * RANDOM % $3 / 4 * 4)) len=$(((RANDOM % 64 + 1) * 4))
                [ $((off + len)) -le "$3" ] || off=0
                case $((RANDOM % 6)) in
                0) cmds+=(-c "write -z ${off}k ${len}k") ;;
                1) cmds+=(-c "discard ${off}k ${len}k") ;;
                *) cmds+=(-c "write -P $((RANDOM % 255 + 1)) ${off}k ${len}k") ;;
                esac
        done
        qemu-io -f "$2" "${cmds[@]}" "$1" >/dev/null
}
