#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# test_report.sh REPORT - does tests/report say so when a stage fails, and does it remember? With figures of its own. TAP output.
set -uo pipefail

report=${1:?usage: test_report.sh REPORT}
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
export FIGURES=$tmp/figures TMPDIR=$tmp NINJA=true
n=0
point()
{
        n=$((n + 1))
        if [ "$1" -eq 0 ]; then echo "ok $n - $2"; else echo "not ok $n - $2"; fi
}
# expect STATUS TEXT ARGUMENTS...
expect()
{
        local want=$1 text=$2 status=0
        shift 2
        "$report" "$@" > "$tmp/said" 2>&1 || status=$?
        [ $status -eq "$want" ] && grep -q -e "$text" "$tmp/said" && return
        sed 's/^/# /' "$tmp/said"
        return 1
}

echo "1..7"
printf '# a comment\nmutants        ok        789 s  2026-11-30  103 of 103 found\nsoak           ok         60 s  2026-11-30  fine\n' > "$FIGURES"
expect 0 '103 of 103' --sum
point $? "all is well on record"
expect 0 '^mutants  *ok .*103 of 103.*(not run now)' --quick "$tmp" mutants
point $? "a stage that there is no sample of shows what is on record"
expect 2 "no stage 'mutant'; there are: unit .*mutants" --quick "$tmp" mutant
point $? "a stage that is none"
HARNESSES=none expect 1 '^fuzz  *FAILED' --deep "$tmp" fuzz
point $? "a stage fails"
expect 1 '^fuzz  *FAILED' --sum
point $? "which is on record now"
expect 1 '^fuzz  *FAILED' --quick "$tmp" fuzz
point $? "and said again when it is not run"
[ "$(grep -c . "$FIGURES")" -eq 4 ] && grep -q '^soak  *ok' "$FIGURES"
point $? "the others are as they were"
