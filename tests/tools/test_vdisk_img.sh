#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# vdisk-img against qemu-img: same output, same exit codes, images that each other's check finds clean; and every error
# is one sentence, exit 1, with nothing left behind. Usage: test_vdisk_img.sh VDISK_IMG [SEED]
. "$(dirname "$0")/vdisk_img_lib.sh" "$@"
needs_qemu
echo "seed $seed"

make_dense() { cp --sparse=never "$1" dense && cat dense >"$1"; }
look_at() { # IMAGE FORMAT: everything that only looks
        # Holes inside of clusters: we show them always, QEMU when it finds the file sparse enough
        [ "$2" = raw ] || make_dense "$1"
        same info -f "$2" "$1"
        same_json info -f "$2" --output=json "$1"
        same_json info --output=json --backing-chain "$1"
        same map -f "$2" "$1"
        same map -f "$2" --output=json "$1"
        same map -f "$2" --output=json -s 1M -l 700k "$1"
        [ "$2" = raw ] || { same check -f "$2" "$1"; same_json check -f "$2" --output=json "$1"; }
        [ "$2" = raw ] || same snapshot -l "$1"
}

echo "== images that QEMU made"
truncate -s 5M disk.raw
random_io disk.raw raw 5120 10
look_at disk.raw raw
for cs in 512 4k 64k 2M; do
        for bits in 1 16 64; do
                qemu-img create -q -f qcow2 -o cluster_size=$cs,refcount_bits=$bits q.qcow2 6M
                random_io q.qcow2 qcow2 6144 12
                [ $bits = 1 ] || qemu-img snapshot -c "snap one" q.qcow2
                random_io q.qcow2 qcow2 6144 6
                look_at q.qcow2 qcow2
        done
done
qemu-img create -q -f qcow2 -o compat=0.10 -b q.qcow2 -F qcow2 mid.qcow2 4M
random_io mid.qcow2 qcow2 4096 4
mkdir sub
qemu-img create -q -f qcow2 -b ../mid.qcow2 -F qcow2 sub/top.qcow2 8M
random_io sub/top.qcow2 qcow2 8192 4
make_dense mid.qcow2; make_dense q.qcow2
look_at sub/top.qcow2 qcow2
qemu-img convert -c -O qcow2 q.qcow2 packed.qcow2
same map -f qcow2 --output=json packed.qcow2
same check -f qcow2 packed.qcow2

echo "== images that we make"
for cs in 512 4k 64k 2M; do
        for bits in 1 16 64; do
                works create -q -f qcow2 -o cluster_size=$cs,refcount_bits=$bits v.qcow2 6M
                clean v.qcow2
                random_io v.qcow2 qcow2 6144 12
                if [ $bits != 1 ]; then
                        works snapshot -c one v.qcow2
                        clean v.qcow2
                        qemu-img convert -O raw v.qcow2 before.raw
                        random_io v.qcow2 qcow2 6144 8
                        works snapshot -c two v.qcow2
                        works snapshot -a one v.qcow2
                        clean v.qcow2
                        qemu-img compare -q -f qcow2 -F raw v.qcow2 before.raw && ok || bad "snapshot -a does not go back"
                        works snapshot -d one v.qcow2
                        works snapshot -d two v.qcow2
                fi
                works resize -q -f qcow2 v.qcow2 +3M
                clean v.qcow2
                works resize -q -f qcow2 --shrink v.qcow2 2M
                clean v.qcow2
                look_at v.qcow2 qcow2
        done
done
works create -q -f qcow2 -b ../q.qcow2 -F qcow2 sub/ours.qcow2
clean sub/ours.qcow2
same compare -f qcow2 -F qcow2 sub/ours.qcow2 q.qcow2
works create -q -f qcow2 -u -b later.raw -F raw u.qcow2 1M
works create -q r.raw 1000
[ "$(stat -c %s r.raw)" = 1024 ] && ok || bad "create rounds up to sectors"
works resize -q -f raw r.raw 2M
works resize -q -f raw --shrink r.raw -1M
[ "$(stat -c %s r.raw)" = 1048576 ] && ok || bad "resize -1M"
works create -q -f raw -o preallocation=falloc full.raw 1M
[ "$(stat -c %b full.raw)" -ge 2048 ] && ok || bad "preallocation=falloc"

echo "== compare"
cp --sparse=always disk.raw copy.raw
qemu-img convert -O qcow2 disk.raw copy.qcow2
same compare -f raw -F raw disk.raw copy.raw
same compare -s -f raw -F raw disk.raw copy.raw
same compare -f raw -F qcow2 disk.raw copy.qcow2
same compare -s -f raw -F qcow2 disk.raw copy.qcow2
for at in 0 4711 5242879; do
        cp --sparse=always disk.raw copy.raw
        printf '\x7b' | dd of=copy.raw bs=1 seek=$at conv=notrunc status=none
        cmp -s disk.raw copy.raw || same compare -f raw -F raw disk.raw copy.raw
        same compare -f qcow2 -F raw copy.qcow2 copy.raw
done
truncate -s 7M copy.raw; cp --sparse=always disk.raw copy.raw; truncate -s 7M copy.raw
same compare -f raw -F raw disk.raw copy.raw
same compare -f raw -F raw copy.raw disk.raw
same compare -s -f raw -F raw copy.raw disk.raw
printf x | dd of=copy.raw bs=1 seek=6M conv=notrunc status=none
same compare -f raw -F raw disk.raw copy.raw
same compare -q -f raw -F raw disk.raw copy.raw

echo "== convert"
equal() { if qemu-img compare -q -f "$1" -F "$3" "$2" "$4"; then ok; else bad "$2 and $4 differ"; fi; }
for src in "raw disk.raw" "qcow2 q.qcow2" "qcow2 sub/top.qcow2" "qcow2 packed.qcow2" "raw odd.raw"; do
        set -- $src
        [ "$2" != odd.raw ] || { head -c 70001 /dev/urandom >odd.raw; truncate -s 300001 odd.raw; printf x >>odd.raw; }
        for how in "-O raw" "-O qcow2" "-O qcow2 -o cluster_size=512 -m 16" "-O qcow2 -o cluster_size=2M,compat=0.10 -W -m 3" \
                "-O raw -m 1 -t none -T none" "-O raw -S 0" "-O qcow2 -S 64k -t none"; do
                rm -f t.img
                works convert -f "$1" $how "$2" t.img
                fmt=$(set -- $how; echo "$2")
                equal "$1" "$2" $fmt t.img
                [ $fmt = raw ] || clean t.img
        done
        works convert -q -p -f "$1" -O raw "$2" t.img # over an image that is there
        equal "$1" "$2" raw t.img
        [ "$2" = odd.raw ] || { qemu-img convert -f "$1" -O raw "$2" ref.raw
                [ $(($(stat -c %b t.img) - $(stat -c %b ref.raw))) -le 64 ] && ok || bad "$2: converted with fewer holes than qemu-img"; }
done
head -c 3M /dev/urandom >full.raw
qemu-img create -q -f qcow2 n.qcow2 6M
qemu-io -f qcow2 -c 'write -P 9 0 6M' n.qcow2 >/dev/null
works convert -n -f raw -O qcow2 disk.raw n.qcow2 # old bytes must go where the source has zeros
qemu-io -f qcow2 -c 'discard 5M 1M' n.qcow2 >/dev/null
equal raw disk.raw qcow2 n.qcow2
clean n.qcow2
works convert -f qcow2 -O qcow2 -B mid.qcow2 -F qcow2 sub/top.qcow2 flat.qcow2
equal qcow2 sub/top.qcow2 qcow2 flat.qcow2
clean flat.qcow2
[ "$(stat -c %s flat.qcow2)" -le "$(($(stat -c %s sub/top.qcow2) + 2097152))" ] && ok || bad "-B copies what the backing file has"
# runs of data that end inside clusters: the copy lies in the order of the disk, whatever is in flight at once
python3 -c 'import sys; sys.stdout.buffer.write(b"".join(b"\1" * (70000 + 4096 * (i % 7)) + bytes(9000) for i in range(800)))' >runs.raw
works convert -f raw -O qcow2 runs.raw t.img
qemu-img map --output=json t.img | python3 -c 'import json, sys
at = [e["offset"] for e in json.load(sys.stdin) if e["data"]]
sys.exit(at != sorted(at))' && ok || bad "convert scatters: $("$img" check t.img)"
"$img" convert -p -f raw -O qcow2 disk.raw t.img | tr '\r' '\n' | tail -n 2 | grep -q '^    (100.00/100%)$' && ok || bad "convert -p"
[ "$("$img" convert -p -f raw -O qcow2 disk.raw t.img | tr '\r' '\n' | head -n 1)" = "    (0.00/100%)" ] && ok || bad "convert -p begins elsewhere"
[ "$("$img" compare -p -f raw -F qcow2 disk.raw t.img | tr '\r' '\n' | head -n 1)" = "    (0.00/100%)" ] && ok || bad "compare -p begins elsewhere"
refuses 1 "expecting a source and a target" convert disk.raw
refuses 1 "raw images cannot be compressed" convert -c disk.raw new
refuses 1 "-c and -W" convert -c -W -O qcow2 disk.raw new
refuses 1 "-c and preallocation" convert -c -O qcow2 -o preallocation=metadata disk.raw new
refuses 1 "-m '17'" convert -m 17 disk.raw new
refuses 1 "-S '100' is not a multiple of 512 up to 16M" convert -S 100 disk.raw new
refuses 1 "-t 'fast'" convert -t fast disk.raw new
refuses 1 "'vmdx'" convert -O vmdx disk.raw new
refuses 1 "'missing': cannot open" convert -f raw missing new
refuses 1 "part of the source" convert -f raw disk.raw disk.raw
refuses 1 "part of the source" convert -f qcow2 sub/top.qcow2 mid.qcow2
refuses 1 "too few" convert -n -f raw -O raw disk.raw odd.raw
refuses 1 "'new': cannot open" convert -n -f raw -O raw disk.raw new
refuses 1 "only followed when" convert sub/top.qcow2 new
refuses 1 "needs its format" convert -f raw -O qcow2 -B mid.qcow2 disk.raw new
refuses 1 "cannot have a backing file" convert -f raw -O raw -B mid.qcow2 -F qcow2 disk.raw new
refuses 1 "nope" convert -f raw -O qcow2 -B nope -F qcow2 disk.raw new
refuses 1 "'frobs'" convert -f raw -O qcow2 -o frobs=1 disk.raw new
for fault in engine.write=3:ENOSPC engine.read=2:EIO engine.sync=1 file.write=1:ENOSPC; do
        for fmt in raw qcow2; do
                [ "$fault $fmt" != "file.write=1:ENOSPC raw" ] || continue
                VDISKD_FAULT=$fault refuses 1 "" convert -t writeback -f raw -O $fmt full.raw new
        done
done
VDISKD_FAULT=engine.sync=1 works convert -f raw -O qcow2 full.raw new # nothing to sync
VDISKD_FAULT=engine.sync=1 "$img" convert -n -t unsafe -f raw -O qcow2 full.raw new 2>v.err # an image that was there
[ $? = 1 ] && grep -q durable v.err && ok || bad "convert -n -t unsafe does not sync"
rm -f new
truncate -s 20G huge.raw
"$img" convert -f raw -O raw -S 0 huge.raw new 2>v.err & # takes long: stop it
busy=$!
for ((i = 0; i < 500; i++)); do [ -s new ] && break; sleep 0.02; done
sleep 0.2; kill -INT $busy; kill -TERM $busy; kill -HUP $busy; wait $busy
[ $? = 1 ] && grep -q interrupted v.err && [ ! -e new ] && ok || { bad "convert, interrupted"; cat v.err; ls -l new; }
rm -f huge.raw
for what in "-f raw -o preallocation=full" "-f qcow2 -o preallocation=full,data_file=new.data"; do
        "$img" create -q $what new 500G 2>v.err & # likewise
        busy=$!
        for ((i = 0; i < 500; i++)); do [ -e new ] && break; sleep 0.02; done
        kill -INT $busy; kill -TERM $busy; wait $busy # this shell's children do not get SIGINT
        [ $? = 143 ] && [ ! -e new ] && [ ! -e new.data ] && ok || { bad "create, interrupted"; cat v.err; ls -l new new.data; }
done

echo "== convert -c"
{ head -c 3M /dev/zero | tr '\0' 'x'; head -c 1M /dev/urandom; head -c 20000 /dev/zero
        seq 1 300000; head -c 700001 /dev/urandom; head -c 9M /dev/zero; seq 1 90000; } >text.raw
truncate -s %4096 text.raw
for ct in zlib zstd; do
        # The file ends with a whole cluster; with 512 bytes also with the last refcount block of what was reserved ahead.
        while read -r cs more; do
                for bits in 1 2 16; do
                        how="-c -O qcow2 -o compression_type=$ct,cluster_size=$cs,refcount_bits=$bits"
                        rm -f t.img
                        works convert -f raw $how text.raw t.img
                        equal raw text.raw qcow2 t.img
                        clean t.img
                        qemu-img convert -f raw $how text.raw ref.img
                        ours=$(stat -c %s t.img) theirs=$(stat -c %s ref.img)
                        [ $ours -le $((theirs + theirs / 33 + more)) ] && ok || bad "-c, $ct, $cs, $bits bits: $ours bytes, qemu-img's has $theirs"
                        [ $cs != 4k ] || { random_io t.img qcow2 5120 10; clean t.img; }
                done
        done <<X
512 1048576
4k 4096
64k 65536
2M 2097152
X
done
for how in "-o compat=0.10" "-m 1" "-S 0" "-t none" "-B text.raw -F raw" "-m 16 -S 64k" "-S 16M"; do
        rm -f t.img
        works convert -f raw -c -O qcow2 $how text.raw t.img
        equal raw text.raw qcow2 t.img
        clean t.img
done
rm -f t.img
works convert -f qcow2 -c -O qcow2 -B mid.qcow2 -F qcow2 sub/top.qcow2 t.img
equal qcow2 sub/top.qcow2 qcow2 t.img
clean t.img
works convert -n -f raw -c -O qcow2 disk.raw n.qcow2 # compressed over what is there
qemu-io -f qcow2 -c 'discard 5M 1M' n.qcow2 >/dev/null
equal raw disk.raw qcow2 n.qcow2
clean n.qcow2
head -c 100000 text.raw >a.raw; truncate -s %512 a.raw # two disks that meet in the middle of a cluster
cat a.raw text.raw >both.raw
rm -f t.img
works convert -f raw -c -O qcow2 a.raw text.raw t.img
equal raw both.raw qcow2 t.img
clean t.img
rm -f a.raw both.raw
for fault in engine.write=2:ENOSPC engine.read=2:EIO engine.sync=1; do
        VDISKD_FAULT=$fault refuses 1 "" convert -c -t writeback -f raw -O qcow2 text.raw new
done
rm -f text.raw ref.img t.img

echo "== leaks and corruption"
qemu-img create -q -f qcow2 leak.qcow2 1M
qemu-io -f qcow2 -c 'write 0 128k' leak.qcow2 >/dev/null
printf '\0\0\0\0\0\0\0\0' | dd of=leak.qcow2 bs=1 seek=$((0x40000)) conv=notrunc status=none # drop the first L2 entry
"$img" check -f qcow2 leak.qcow2 >v.out 2>&1; [ $? = 3 ] && ok || bad "check of a leaking image"
same_json check -f qcow2 --output=json leak.qcow2
"$img" check -f qcow2 -r leaks leak.qcow2 >v.out 2>&1 && grep -q '1 leaked clusters' v.out && ok || bad "check -r leaks"
clean leak.qcow2
printf '\x80\0\0\0\0\0\x12\0' | dd of=leak.qcow2 bs=1 seek=$((0x40008)) conv=notrunc status=none # an unaligned cluster
"$img" check -f qcow2 leak.qcow2 >v.out 2>&1; [ $? = 2 ] && ok || bad "check of a corrupt image"

echo "== errors"
works create -q -f qcow2 e.qcow2 1M
truncate -s 1M e.raw
refuses 1 "no command 'frobnicate'" frobnicate
for c in create info check map snapshot resize compare convert; do
        refuses 1 "$c: unknown option '--frobnicate'.*vdisk-img $c --help" $c --frobnicate e.raw
        refuses 1 "$c: unknown option '-Z'" $c -Z e.raw
        refuses 1 "'-f' needs a value" $c -f
        works $c --help
done
for c in create info check map snapshot resize convert; do
        refuses 1 "expecting" $c
        [ $c = convert ] || refuses 1 "too many words" $c a b c d # convert takes many sources
done
for c in info check map snapshot resize; do
        size=$([ $c = resize ] && echo 2M)
        refuses 1 "unknown image format 'vmdx'" $c -f vmdx e.raw $size
        refuses 1 "'missing': cannot open: No such file" $c -f raw missing $size
done
refuses 1 "'vmdx'" create -f vmdx new 1M
refuses 1 "needs a size" create -f qcow2 new
refuses 1 "'1X' is not a size" create -f qcow2 new 1X
refuses 1 "'9E'.*too large" create -f raw new 9E
refuses 1 "needs its format" create -q -f qcow2 -b e.raw new
refuses 1 "'nope': cannot open" create -q -f qcow2 -b nope -F raw new
refuses 1 "protocol" create -q -f qcow2 -b nbd://x -F raw new
refuses 1 "cannot have a backing file" create -q -f raw -b e.raw -F raw new
refuses 1 "name=value" create -q -f qcow2 -o cluster_size new 1M
refuses 1 "'frobs'" create -q -f qcow2 -o frobs=1 new 1M
refuses 1 "'3000'" create -q -f qcow2 -o cluster_size=3000 new 1M
refuses 1 "'missing/new': cannot open" create -q -f qcow2 missing/new 1M
refuses 1 "--output 'xml'" info --output=xml e.raw
refuses 1 "e.raw.: not a qcow2\|e.raw" info -f qcow2 e.raw
refuses 1 "no snapshot 'nope'\|'nope'" snapshot -f qcow2 -a nope e.qcow2
refuses 1 "only one of" snapshot -l -c x e.qcow2
refuses 1 "no internal snapshots" snapshot -f raw -c x e.raw
refuses 1 "--shrink" resize -f qcow2 e.qcow2 512k
refuses 1 "leaves nothing" resize -f qcow2 --shrink e.qcow2 -1M
refuses 1 "one of off, metadata" resize -f raw --preallocation=some e.raw 2M
refuses 1 "one of off, falloc" resize -f raw --preallocation=metadata e.raw 2M
refuses 1 "only be used for growing" resize -f qcow2 --shrink --preallocation=full e.qcow2 512k
refuses 1 "-r 'some'" check -r some e.qcow2
refuses 63 "does not support checks" check -f raw e.raw
refuses 2 "two file names" compare e.raw
refuses 2 "'missing': cannot open" compare -f raw -F raw e.raw missing

echo "== formats that are guessed"
"$img" resize -q e.raw 2M 2>v.err; grep -q "^vdisk-img: warning: no format was given for 'e.raw'.*-f raw" v.err && ok || bad "guessed raw"
refuses 1 "only followed when you say the format" map sub/top.qcow2
works info sub/top.qcow2

while read -r at bytes format; do
        truncate -s 1M foreign; printf "$bytes" | dd of=foreign bs=1 seek="$at" conv=notrunc status=none
        refuses 1 "'foreign' looks like $format" info foreign
        refuses 1 "'foreign' looks like $format" convert foreign foreign.raw
        works info -f raw foreign
        rm foreign
done <<'X'
0 QED\0 qed
0 LUKS\272\276 luks
X

echo "== nothing is lost by a wrong name"
for own in own.qcow2 ./own.qcow2 own.link; do
        qemu-img create -q -f qcow2 own.qcow2 1M; ln -sf own.qcow2 own.link
        refuses 1 "'own.qcow2' is part of the backing chain" create -q -f qcow2 -b $own -F qcow2 own.qcow2
        refuses 1 "'own.qcow2' cannot be its own backing file" create -q -u -f qcow2 -b $own -F qcow2 own.qcow2 1M
        refuses 1 "'own.qcow2' is part of the backing chain" convert -f raw -O qcow2 -B $own -F qcow2 e.raw own.qcow2
        clean own.qcow2
done
echo precious >keep
qemu-img create -q -f raw big.raw 1M
refuses 1 "'nope'" convert -f raw -O qcow2 -B nope -F raw big.raw keep
refuses 1 "got two sizes" create -q -f qcow2 -o size=5M keep 1M
VDISKD_FAULT=engine.write=1:ENOSPC "$img" convert -f raw -O qcow2 -S 0 big.raw new 2>v.err; grep -q "'new': cannot write at offset" v.err && [ ! -e new ] && ok || { bad "which file is full"; cat v.err; }
[ "$(cat keep)" = precious ] && ok || bad "the target of a convert that could not begin"

echo "== standard streams"
for c in "info own.qcow2" "map own.qcow2" "check own.qcow2" "info --output=json own.qcow2"; do
        "$img" $c >/dev/full 2>v.err; [ $? = 1 ] && grep -q "cannot write to standard output: No space left" v.err && ok || bad "$c >/dev/full"
done
"$img" info own.qcow2 | true; [ "${PIPESTATUS[0]}" = 0 ] && ok || bad "a reader that does not read"
# The streams are closed: what is printed must not land in the file that got the number
"$img" convert -p -f raw -O raw big.raw closed.raw <&- >&- 2>&-; [ $? = 0 ] && cmp -s big.raw closed.raw && ok || bad "closed streams"

echo "== images that contradict themselves"
head -c 100 e.qcow2 >short.qcow2
refuses 1 "'short.qcow2'" info -f qcow2 short.qcow2
refuses 1 "'short.qcow2'" check -f qcow2 short.qcow2
poke() { cp e.qcow2 hostile.qcow2; printf "$2" | dd of=hostile.qcow2 bs=1 seek="$1" conv=notrunc status=none; }
while read -r at bytes what; do
        poke "$at" "$bytes"
        refuses 1 "'hostile.qcow2'" map -f qcow2 hostile.qcow2 || echo "$what"
done <<'X'
4 \0\0\0\7 version
20 \0\0\0\77 cluster_bits
24 \177\377\377\377\377\377\377\377 size
36 \377\377\377\377 l1_size
40 \177\377\377\377\377\377\0\0 l1_offset
48 \177\377\377\377\377\377\0\0 reftable_offset
56 \377\377\377\377 reftable_clusters
60 \377\377\377\377 nb_snapshots
72 \200\0\0\0\0\0\0\0 incompatible
100 \0\1\0\10 header_length
X
ln -s loop.qcow2 link.qcow2
qemu-img create -q -u -f qcow2 -b link.qcow2 -F qcow2 loop.qcow2 1M
refuses 1 "loop" map -f qcow2 loop.qcow2
"$img" info --backing-chain loop.qcow2 2>v.err >/dev/null; [ $? = 1 ] && grep -q loop v.err && ok || bad "info of a loop"
qemu-img create -q -u -f qcow2 -b nbd://host/x -F raw proto.qcow2 1M
refuses 1 "protocol" map -f qcow2 proto.qcow2
works info proto.qcow2

echo "== images in use"
mkfifo hold
qemu-io -f qcow2 e.qcow2 <hold >held &
holder=$!
exec 9>hold
echo length >&9
for ((i = 0; i < 500; i++)); do [ -s held ] && break; sleep 0.02; done
rm hold
for c in info check map; do
        refuses 1 "in use by another program.*; -U looks at it all the same" $c -f qcow2 e.qcow2
        "$img" $c -U -f qcow2 e.qcow2 >v.out 2>v.err && ok || { bad "$c -U of an image in use"; cat v.err; }
done
refuses 1 "in use by another program" snapshot -c x e.qcow2
refuses 1 "in use by another program" resize -f qcow2 e.qcow2 2M
refuses 1 "in use by another program" create -q -f qcow2 e.qcow2 2M
exec 9>&-
wait $holder
works info -f qcow2 e.qcow2

echo "== when the host fails"
for spec in file.write=1:ENOSPC file.write=2:EIO file.sync=1; do
        VDISKD_FAULT=$spec refuses 1 "new" create -q -f qcow2 new 1M
        rm -f new
done
VDISKD_FAULT=file.truncate=1 refuses 1 "new" create -q -f raw new 1M

finish
