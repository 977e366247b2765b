#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# vdiskctl with a real daemon: each command, its output, its exit codes. Usage: test_vdiskctl.sh VDISKCTL VDISKD VDISK_IMG
ctl=$(realpath "$1") daemon=$(realpath "$2") img=$(realpath "$3")
dir=$(mktemp -d /tmp/test_vdiskctl.XXXXXX) && cd "$dir" || exit 1
failed=0 passed=0 pid=
trap '[ -z "$pid" ] || kill -9 "$pid" 2>/dev/null; cd /; rm -rf "$dir"' EXIT

ok() { passed=$((passed + 1)); }
bad() { failed=$((failed + 1)); echo "FAIL line ${BASH_LINENO[1]}: $*"; cat out err; }

# works PATTERN ARGS...: exit 0, nothing on stderr, a line that matches
works() {
        local pattern=$1; shift
        "$ctl" --control=c.sock "$@" >out 2>err; local r=$?
        if [ $r = 0 ] && [ ! -s err ] && grep -Eq -- "$pattern" out; then ok; else bad "$* (exit $r, wanted '$pattern')"; fi
}

# does ARGS...: exit 0 and not a word
does() {
        "$ctl" --control=c.sock "$@" >out 2>err; local r=$?
        if [ $r = 0 ] && [ ! -s out ] && [ ! -s err ]; then ok; else bad "$* (exit $r)"; fi
}

# refuses CODE PATTERN ARGS...: that exit code, nothing on stdout, one sentence that matches
refuses() {
        local code=$1 pattern=$2; shift 2
        "$ctl" --control=c.sock "$@" >out 2>err; local r=$?
        if [ $r = "$code" ] && [ ! -s out ] && [ "$(wc -l <err)" = 1 ] && grep -q -- "$pattern" err; then ok; else
                bad "$* (exit $r, wanted $code and '$pattern')"; fi
}

# --- without a daemon
refuses 1 "cannot reach vdiskd on c.sock" list
refuses 1 "a command is missing"
refuses 1 "'frobnicate' is no command" frobnicate
refuses 1 "too many words" list x
refuses 1 "a word is missing" remove
refuses 1 "does not go with list" list --force
refuses 1 "unrecognized option" --frobnicate list
works "usage: vdiskctl" --help
for command in list add remove backup mirror job reload resize limit stats top events query; do works "^  $command" --help; done
works "^usage: vdiskctl .*list$" list --help
works "^usage: vdiskctl .*backup DISK FILE" --help backup
"$ctl" add --help | grep -q "remove" && bad "the help of add tells of other commands" || ok
works "^vdiskctl [0-9]" --version

# --- with one
refuses 1 "--save does not go with list" list --save
"$img" create -f qcow2 a.qcow2 64M >/dev/null && "$img" create -f qcow2 b.qcow2 1G >/dev/null || exit 1
"$daemon" --control=c.sock --disk id=a,path=a.qcow2,format=qcow2,socket=a.sock --log-level=error 2>daemon.log &
pid=$!
for _ in $(seq 500); do "$ctl" --control=c.sock list >/dev/null 2>&1 && break; sleep 0.02; done

works "^a +qcow2 +64 MiB .* read-write +a.qcow2$" list
works "^NAME +FORMAT" list
does add b path=b.qcow2 format=qcow2 socket=b.sock serial=B read-only=on num-queues=2
works "^b +qcow2 +1 GiB .* read-only +$dir/b.qcow2$" list
[ -S b.sock ] && ok || bad "b.sock is not there"
works "^b: qcow2, 1 GiB, .* allocated, read-only, 0 front ends connected$" stats b
works "^read +0 +0 B +0 +- " stats b
works "^a +- +0 +0 B +0 +- " stats
works '"requests": 0' --json stats b
works "^DISK +IOPS +READ/s" top -b -n 1 -d 0.1
works "^a +0 +0 +0 +- +- +0 +- +[0-9.]+[KM] +-$" top --batch --iterations=2 --interval=0.1 --sort=name
refuses 1 "top wants a terminal" top
refuses 1 "sort=x: expected name, iops" top -b --sort=x
refuses 1 "'0' is no number of tables" top -b -n 0
refuses 1 "'x' is no interval" top -d x
refuses 1 "iterations is for --batch" top -n 3
refuses 1 "do not go with list" list -b
works '"virtual-size": 1073741824' list --json
works '"shutting-down": false' query query-block-exports
works '"name": "blockdev-add"' query query-commands
works '"vdiskd ' query query-version '{}'

works "^none$" limit a
does limit a iops=1000 iops-max=2000 iops-max-length=3 bps-write=50M
works "^iops +1000/s, bursts of 2000 for 3 s$" limit a
works "^bps-write +50 MiB/s$" limit a
works "^group +a$" limit a
works '"bps_wr": 52428800' limit a --json
does limit a iops=500 iops-max=0 iops-max-length=1 iops-size=4k
works "^iops +500/s$" limit a
works "^bps-write +50 MiB/s$" limit a
works "^iops-size +4 KiB$" limit a
refuses 1 "at the same time" limit a bps=1M
refuses 1 "the limits are iops" limit a speed=3
refuses 1 "LIMIT=VALUE" limit a iops
refuses 1 "is not a size" limit a iops=many
refuses 1 "no disk 'x'" limit x
does limit a none
works "^none$" limit a
does resize a 2G
works "^a +qcow2 +2 GiB " list
does resize a +512M
works "^a +qcow2 +2.5 GiB " list
refuses 1 "does not shrink" resize a 1G
refuses 1 "reading only" resize b 4G
refuses 1 "is not a size" resize a big
refuses 1 "there is no disk 'x'" resize x +1G
refuses 1 "there is no disk 'x'" resize x 1G
refuses 1 "there is a disk 'b' already" add b path=b.qcow2 format=qcow2 socket=x.sock
refuses 1 "b.qcow2' is in use by this daemon, as 'b'" add x path=b.qcow2 format=qcow2 socket=x.sock
refuses 1 "no.qcow2.*No such file" add x path=no.qcow2 format=qcow2 socket=x.sock
refuses 1 "path=on.*No such file\|on': cannot open" add x path format=raw socket=x.sock
refuses 1 "'pth' is not a key of a disk; did you mean 'path'" add x pth=b.qcow2
refuses 1 "path=c.qcow2: a key is given once" add x path=b.qcow2 path=c.qcow2
refuses 1 "read-only=yes: expected on or off" add x path=b.qcow2 socket=x.sock read-only=yes
refuses 1 "num-queues=many: expected a number" add x path=b.qcow2 socket=x.sock num-queues=many
refuses 1 "no socket to listen on" add x path=b.qcow2 format=qcow2 read-only
refuses 1 "format=ide: no such format" add x path=b.qcow2 format=ide socket=x.sock
refuses 1 "there is no disk 'x'" remove x
refuses 1 "there is no disk 'x'" remove x --force
refuses 1 "there is no disk 'x'" stats x
refuses 1 "has not been found" query frobnicate
refuses 1 "no JSON object" query query-version '[1]'
refuses 1 "no JSON object" query query-version '{'
refuses 1 "Parameter 'x' is unexpected" query query-version '{"x":1}'

# --- who may come in
"$img" create -f qcow2 m.qcow2 1M >/dev/null
does add m path=m.qcow2 format=qcow2 socket=m.sock socket-mode=0604
[ "$(stat -c %a m.sock)" = 604 ] && ok || bad "mode of m.sock"
does remove m
refuses 1 "socket-mode=9: expected permissions in octal" add m path=m.qcow2 format=qcow2 socket=m.sock socket-mode=9
refuses 1 "there is no such group" add m path=m.qcow2 format=qcow2 socket=m.sock socket-group=no-such-group
refuses 1 "for a socket that we make" add m path=m.qcow2 format=qcow2 connect=m.sock socket-mode=0600
refuses 1 "a disk has one socket" add m path=m.qcow2 format=qcow2 connect=m.sock socket=m.sock
does add m path=m.qcow2 format=qcow2 connect=nobody.sock
does remove m
does add m path=m.qcow2 socket=m.sock iops-total=100 on-full=report full-timeout=7 data-first=off
works "^iops +100/s$" limit m
does remove m

# --- another process takes over (ours is its child, so it is waited for in another way)
# jobs
"$img" create -f qcow2 j.qcow2 64M >/dev/null && "$img" bench -f qcow2 -w --pattern=7 -c 64 -s 64k j.qcow2 >/dev/null || exit 1
does add j path=j.qcow2 format=qcow2 socket=j.sock
works "^JOB +TYPE +STATE +DONE +SPEED +ERROR$" job list
refuses 1 "there is no job 'x'" job wait x
refuses 1 "Job not found" job pause x
refuses 1 "expected a job and a speed" job set-speed x
refuses 1 "'frob' is not one of list" job frob x
does backup j copy.qcow2
"$img" compare -U j.qcow2 copy.qcow2 >/dev/null && ok || bad "the copy is another disk"
refuses 1 "expected format=raw" backup j copy2.qcow2 format=vmdk
refuses 1 "'$dir/copy.qcow2' exists; --force overwrites it" backup j copy.qcow2
refuses 1 "exists; --force" mirror j copy.qcow2
does backup j copy.qcow2 --force
refuses 1 "in use by" backup j a.qcow2 --force
[ -s a.qcow2 ] && ok || bad "a.qcow2 is gone"
# interrupted, or refused, there is no half of a copy
"$ctl" --control=c.sock backup j half.qcow2 speed=512 >out 2>err &
half=$!
for _ in $(seq 500); do "$ctl" --control=c.sock job list | grep -q "^j.1 *backup" && break; sleep 0.02; done
refuses 1 "is busy" mirror j half2.qcow2
kill "$half"; wait "$half"; [ $? = 1 ] && grep -q "^vdiskctl: interrupted" err && ok || bad "an interrupted backup"
[ "$(ls half* 2>/dev/null)" = "" ] && ok || bad "half of a copy is left: $(ls half*)"
works "^JOB" job list
[ "$(wc -l <out)" = 1 ] && ok || bad "the job of an interrupted backup goes on"
# on a terminal: one line, of the copy; not one of how its image was made
python3 -c 'import pty, sys; pty.spawn(sys.argv[1:])' "$ctl" --control=c.sock backup j shown.qcow2 >out </dev/null
[ "$(wc -l <out)" = 1 ] && grep -q "j.1: done" out && ok || bad "backup on a terminal shows: $(cat -v out)"
does mirror j moved.img format=raw
works "^j +raw +64 MiB .* read-write +$dir/moved.img$" list
does resize j 65M
refuses 1 "copy-mode=write-blocking is for mirrors" backup j j2.qcow2 copy-mode=write-blocking
refuses 1 "copy-mode=psychic: expected" mirror j j2.qcow2 copy-mode=psychic
does mirror j j2.qcow2 copy-mode=write-blocking
works "^j +qcow2 +65 MiB .* read-write +$dir/j2.qcow2$" list
"$ctl" --control=c.sock query blockdev-add '{"driver":"qcow2","node-name":"t","file":{"driver":"file","filename":"copy.qcow2"}}' >/dev/null
does resize t 65M
works '{}' query blockdev-backup '{"device":"j.2","target":"t","sync":"none","job-id":"job"}'
works "^job +backup +running " job list
works '"io-status": "ok"' --json job list
does job set-speed job 1M
works "^job +backup +running .* 1 MiB/s " job list
does job pause job
refuses 1 "currently paused" job cancel job
does job cancel job --force
for _ in $(seq 100); do "$ctl" --control=c.sock job list | grep -q "^job" || break; sleep 0.05; done
does remove t
does remove j

refuses 1 "cannot be started" upgrade /no/such/program
works '^process [0-9]+ serves now$' upgrade
wait "$pid"; [ $? = 0 ] && ok || bad "the exit status of the daemon before"
works '"pid": [0-9]+' --json upgrade "$daemon"
pid=$("$ctl" --control=c.sock --json upgrade | tr -cd 0-9)
works '^b  ' list

# --- snapshots
"$img" create -f qcow2 k.qcow2 64M >/dev/null
does add k path=k.qcow2 format=qcow2 socket=k.sock
works "^k +$dir/k.qcow2 +$dir/k-" snapshot a k
works "^a +qcow2 .* 1 +0 +ok +read-write +($dir/)?a-[0-9]{8}-[0-9]{6}.qcow2$" list
works "^k +qcow2 .* 1 +0 +ok +read-write +$dir/k-[0-9]{8}-[0-9]{6}.qcow2$" list
works "^a +($dir/)?a-[0-9-]+.qcow2 +$dir/a3.qcow2$" snapshot a file=a3.qcow2
works "^a: qcow2, .* 2 backing images" stats a
refuses 1 "a3.qcow2' exists" snapshot a file=a3.qcow2
refuses 1 "say dir=DIR" snapshot a k file=x.qcow2
refuses 1 "only one of file, dir and name" snapshot a dir=. name=x
refuses 1 "there is no disk 'nosuch'" snapshot a nosuch
[ "$(ls -- *nosuch* x.qcow2 2>/dev/null)" = "" ] && ok || bad "a snapshot that was refused left a file"
works "^a +before +$dir/a3.qcow2$" snapshot a name=before
"$img" snapshot -l -U a3.qcow2 | grep -q before && ok || bad "the image has no snapshot"
works "^1 +before +20[0-9]{2}-[0-9-]+ [0-9:]+ +$dir/a3.qcow2$" list-snapshots a
works '"name": "before"' --json list-snapshots a
does resize a +1M
does revert a before
refuses 1 "does not exist" revert a never
does delete-snapshot a before
refuses 1 "does not exist" delete-snapshot a before
does remove k

# --- an export that cannot be made leaves no open image behind
"$img" create -f qcow2 c.qcow2 1M >/dev/null
refuses 1 "a.sock is in use" add c path=c.qcow2 format=qcow2 socket=a.sock
refuses 1 "there is no disk 'c'" stats c

# --- events, and the end
"$ctl" --control=c.sock events >events.out 2>events.err &
events=$!
"$ctl" --control=c.sock --json events >events.json 2>json.err &
json=$!
for _ in $(seq 500); do grep -q listening events.err && grep -q listening json.err && break; sleep 0.02; done
does remove b
[ ! -e b.sock ] && ok || bad "b.sock is still there"
does add b path=b.qcow2 format=qcow2 socket=b.sock
for _ in $(seq 500); do
        "$ctl" --control=c.sock remove b >/dev/null 2>&1
        [ -s events.out ] && [ -s events.json ] && break
        "$ctl" --control=c.sock add b path=b.qcow2 format=qcow2 socket=b.sock
done
works '^\{\}$' query quit
gone() { [ ! -e "/proc/$pid" ] || grep -q '^State:.Z' "/proc/$pid/status"; } # not every init cleans up
for _ in $(seq 500); do gone && break; sleep 0.02; done
gone && ok || bad "the daemon did not end"
pid=
wait "$events"; [ $? = 1 ] && ok || bad "events: the exit status when the daemon ends"
wait "$json"
cp events.out out; cp events.err err
grep -Eq '^[0-9-]+ [0-9:]+  BLOCK_EXPORT_DELETED  \{"id":"b"\}$' events.out && ok || bad "no event"
grep -Eq '"event":"BLOCK_EXPORT_DELETED"' events.json && ok || bad "no JSON event"
grep -q "closed the connection" events.err && ok || bad "events does not say why it ends"

# --- with a configuration
printf '[vdiskd]\ncontrol = c.sock\nlog-level = error\n[disk a]\npath = a.qcow2\nformat = qcow2\nsocket = a.sock\n' >v.conf
"$daemon" --config=v.conf 2>daemon.log &
pid=$!
for _ in $(seq 500); do "$ctl" --control=c.sock list >/dev/null 2>&1 && break; sleep 0.02; done
does reload
refuses 1 "'sokcet' is not a key of a disk" add --save b path=b.qcow2 sokcet=b.sock
does add --save b path=b.qcow2 format=qcow2 socket=b.sock serial=B read-only iops-total=100
grep -qx "path = $dir/b.qcow2" disks.d/b.conf && grep -qx "read-only = on" disks.d/b.conf && ok || bad "disks.d/b.conf is not right"
does reload
works "^b +qcow2 +1 GiB .* read-only +" list
rm disks.d/b.conf
works "^removed: b$" reload
does add --save b path=b.qcow2 format=qcow2 socket=b.sock
does remove --save b
[ ! -e disks.d/b.conf ] && ok || bad "disks.d/b.conf is still there"
printf 'x\n' >>v.conf
refuses 1 "v.conf:8: 'x': expected KEY = VALUE; nothing was changed" reload
works '^\{\}$' query quit
for _ in $(seq 500); do gone && break; sleep 0.02; done
gone && ok || bad "the daemon did not end"
pid=

echo "$passed passed, $failed failed"
[ "$failed" = 0 ] && [ "$passed" -gt 40 ]
