#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# Shell completion offers what the programs take: each command and option that is offered is tried, each that the table of
# options has is offered. Usage: test_completion.sh VDISK_IMG VDISKD COMPLETION_DIR VDISKCTL
img=$(realpath "$1") daemon=$(realpath "$2")
# shellcheck source=/dev/null
. "$3/vdisk-img"
# shellcheck source=/dev/null
. "$3/vdiskd"
# shellcheck source=/dev/null
. "$3/vdiskctl"
ctl=$(realpath "$4")
failed=0 passed=0

offers() { # FUNCTION WORDS...: what is offered for the last word
        local f=$1; shift
        COMP_WORDS=("$@") COMP_CWORD=$(($# - 1)) COMPREPLY=()
        $f
        echo "${COMPREPLY[*]}"
}
is() { # WANTED GOT WHAT
        if [ "$1" = "$2" ]; then passed=$((passed + 1)); else failed=$((failed + 1)); echo "FAIL $3: wanted '$1', got '$2'"; fi
}
# Does getopt know it? An unknown option is called so; one that lacks its value, or a file that lacks, is not.
knows() { ! "$img" "$1" "$2" 2>&1 </dev/null | grep -q "unknown option"; }

commands=$(offers _vdisk_img "$img" "")
[ "$(wc -w <<<"$commands")" -ge 10 ]; is 0 $? "commands are offered: $commands"
for c in $commands; do
        case $c in --*) continue ;; esac
        "$img" "$c" --help >/dev/null; is 0 $? "$c is a command"
        is "$c" "$(offers _vdisk_img "$img" "$c")" "$c is completed by itself"
        options=$(offers _vdisk_img "$img" "$c" -)
        for o in $options; do
                knows "$c" "${o%=}"; is 0 $? "$c takes $o"
        done
        for letter in {a..z} {A..Z}; do # -h is --help
                if [ "$letter" != h ] && knows "$c" "-$letter"; then
                        case " $options " in *" -$letter "*) is 0 0 "" ;; *) is offered missing "$c -$letter" ;; esac
                fi
        done
done
is "human json" "$(offers _vdisk_img "$img" info --output = "")" "values of --output"
is "json" "$(offers _vdisk_img "$img" info --output = j)" "--output=j"
case " $(offers _vdisk_img "$img" info -f "") " in *" qcow2 "*) is 0 0 "" ;; *) is qcow2 missing "formats" ;; esac

options=$(offers _vdiskd "$daemon" --)
for o in $("$daemon" --help | grep -oE -- '^  --[a-z-]+' | sort -u); do
        case " $options " in *" $o "* | *" $o= "*) is 0 0 "" ;; *) is offered missing "vdiskd $o" ;; esac
done
is "auto io_uring threads" "$(offers _vdiskd "$daemon" --engine = "")" "values of --engine"
is "path=" "$(offers _vdiskd "$daemon" --disk pa)" "keys of --disk"
options=$(offers _vdiskctl "$ctl" --)
for o in $("$ctl" --help | sed '/^commands:/,$d' | grep -oE -- '--[a-z-]+' | sort -u); do
        case " $options " in *" $o "*) is 0 0 "" ;; *) is offered missing "vdiskctl $o" ;; esac
done
commands=$(offers _vdiskctl "$ctl" --control = c.sock "")
[ "$(wc -w <<<"$commands")" -ge 8 ]; is 0 $? "commands of vdiskctl are offered: $commands"
for c in $commands; do # a word too many, or a daemon that is not there
        "$ctl" --control=/nowhere "$c" 2>&1 </dev/null | grep -q "is no command"; is 1 $? "$c is a command of vdiskctl"
done
is "p50 p99" "$(offers _vdiskctl "$ctl" top --sort = p)" "values of --sort"
echo "completion: $passed passed, $failed failed"
[ $failed = 0 ]
