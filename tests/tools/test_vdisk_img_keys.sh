#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# Image options and secrets on vdisk-img's command line. Usage: test_vdisk_img_keys.sh VDISK_IMG
. "$(dirname "$0")/vdisk_img_lib.sh" "$@"

# --- image options: each command finds the image, its format and what is behind it ----------------------------------
printf %s secret >key
works create -q -f qcow2 base.qcow2 1M
works create -q -f qcow2 other.qcow2 1M
works create -q -f qcow2 -b base.qcow2 -F qcow2 'top,1.qcow2'
top=driver=qcow2,file.filename=top,,1.qcow2
works info --image-opts $top --backing-chain
works info --image-opts $top,backing.file.filename=other.qcow2 --backing-chain
grep -q '^image: other.qcow2' v.out || bad "info: another backing file"
works info --image-opts $top,backing= --backing-chain
grep -q '^image: base' v.out && bad "info: no backing file"
works check --image-opts $top
works map --image-opts driver=qcow2,file.driver=file,file.filename=top,,1.qcow2,backing.driver=qcow2
works convert --image-opts -O raw $top out.raw
works convert -n --image-opts --target-image-opts $top driver=file,filename=out.raw
works compare --image-opts $top driver=raw,file.filename=out.raw
works measure -O qcow2 --image-opts $top
works resize --image-opts $top 2M
works snapshot --image-opts -c s1 $top
works amend --image-opts -o lazy_refcounts=on $top
works rebase --image-opts -b other.qcow2 -F qcow2 $top
works commit --image-opts $top
refuses 1 "unknown image format 'nbd'" info --image-opts driver=nbd,file.filename=base.qcow2
refuses 1 "does not say which file" info --image-opts driver=qcow2
refuses 1 "write name=value" info --image-opts base.qcow2
refuses 1 "the format is said there" info -f qcow2 --image-opts $top
refuses 1 "file.driver=https" info --image-opts driver=qcow2,file.driver=https,file.filename=x
refuses 1 "'backing.foo=1' is not known" info --image-opts $top,backing.foo=1
refuses 1 "goes with -n only" convert --target-image-opts base.qcow2 driver=raw,file.filename=new.raw
refuses 1 "unknown option '--image-opts'" create --image-opts driver=raw,file.filename=new.raw 1M
refuses 1 "other.qcow2': the image is not encrypted" map --object secret,id=s,file=key --image-opts $top,backing.encrypt.key-secret=s
refuses 1 "raw images are not encrypted" map --object secret,id=s,file=key --image-opts driver=raw,file.filename=out.raw,encrypt.key-secret=s

# --- secrets: from files and descriptors, never from the command line ----------------------------------------------
works info --object secret,id=s,file=key --object secret,id=t,fd=9,format=base64 base.qcow2 9< <(printf c2VjcmV0)
refuses 1 "can be read by everybody" info --object secret,id=s,data=foo base.qcow2
grep -q foo v.err && bad "a refused password is printed"
refuses 1 "is a secret 's' already" info --object secret,id=s,file=key --object secret,id=s,file=key base.qcow2
refuses 1 "cannot read 'none': No such file" info --object secret,id=s,file=none base.qcow2
refuses 1 "file descriptor 77" info --object secret,id=s,fd=77 base.qcow2
refuses 1 "needs file= or fd=" info --object secret,id=s base.qcow2
refuses 1 "needs a name" info --object secret,file=key base.qcow2
refuses 1 "only kind of object here is secret" info --object tls-creds-x509,id=s base.qcow2
refuses 1 "knows id, file, fd and format, not 'keyid'" info --object secret,id=s,file=key,keyid=m base.qcow2

if "$img" create -q -f qcow2 --object secret,id=s,file=key -o encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=1 \
        probe.qcow2 1M 2>v.err; then :; else
        grep -q 'built without a crypto library' v.err || bad "create an encrypted image"
        echo "no crypto library: the rest is skipped"
        finish
        exit
fi

# --- encrypted images: ours in QEMU, QEMU's in ours ------------------------------------------------------------------
needs_qemu
key="--object secret,id=s,file=key"
luks=encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=1
at=driver=qcow2,encrypt.key-secret=s,file.filename
qemu() { # COMMAND ARGS...: QEMU's tool is content
        if "$@" >q.out 2>&1; then ok; else bad "$*"; cat q.out; fi
}
clean() { # IMAGE...
        local f
        for f in "$@"; do qemu qemu-img check $key --image-opts "$at=$f"; works check "$f"; done
}
qio() { local f=$1; shift; qemu qemu-io $key "$@" --image-opts "$at=$f"; grep -q 'verification failed' q.out && bad "qemu-io $f: $(cat q.out)"; }

# On a busy machine QEMU fails to measure how fast it is ("Unable to get accurate CPU usage") and does nothing.
patiently() { # COMMAND...: five tries; its output goes to q.out
        local _
        for _ in 1 2 3 4 5; do "$@" >q.out 2>/dev/null && return; done
        return 1
}
if patiently qemu-img create -q $key -f qcow2 -o encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10 theirs.qcow2 8M; then
        head -c 3000000 /dev/urandom >noise.raw; truncate -s 8M noise.raw
        works convert $key --image-opts -n --target-image-opts driver=raw,file.filename=noise.raw $at=theirs.qcow2
        works compare $key --image-opts $at=theirs.qcow2 driver=raw,file.filename=noise.raw
        qemu qemu-img compare $key --image-opts $at=theirs.qcow2 driver=raw,file.filename=noise.raw
        clean theirs.qcow2
else
        echo "skipped: qemu-img made no encrypted image in five tries"
fi
for how in '' ,encrypt.cipher-alg=aes-128,encrypt.hash-alg=sha512 \
        ,encrypt.cipher-alg=aes-128,encrypt.cipher-mode=cbc,encrypt.ivgen-alg=plain,encrypt.hash-alg=ripemd160 \
        ,encrypt.cipher-mode=cbc,encrypt.ivgen-alg=essiv,cluster_size=512 ,compat=v2,encrypt.hash-alg=sha1 \
        ,preallocation=falloc,cluster_size=2M ,extended_l2=on,preallocation=metadata ,extended_l2=on,cluster_size=128k; do
        rm -f ours.qcow2
        works create -q $key -f qcow2 -o $luks$how ours.qcow2 8M
        clean ours.qcow2
        qio ours.qcow2 -c 'read -P 0 0 8M' -c 'write -P 1 100k 300k' -c 'write -P 2 4M 700k' -c 'write -z 4200k 64k'
        rm -f back.raw
        works convert $key --image-opts -O raw $at=ours.qcow2 back.raw
        qemu qemu-io -f raw -c 'read -P 0 0 100k' -c 'read -P 1 100k 300k' -c 'read -P 2 4M 104k' -c 'read -P 0 4200k 64k' back.raw
        grep -q 'verification failed' q.out && bad "$how: $(cat q.out)"
        qemu qemu-img info ours.qcow2; cp q.out q.info
        works info ours.qcow2
        cmp -s q.info v.out || { bad "info$how"; diff q.info v.out; }
        clean ours.qcow2
done

# All that copies data: converted, overlaid, committed, rebased, resized, gone back.
head -c 3000000 /dev/urandom >noise.raw; truncate -s 5M noise.raw
works convert $key -f raw -O qcow2 -o $luks noise.raw a.qcow2
qemu qemu-img compare $key --image-opts driver=raw,file.filename=noise.raw $at=a.qcow2
works compare $key --image-opts driver=raw,file.filename=noise.raw $at=a.qcow2
works create -q $key -f qcow2 -o $luks -b a.qcow2 -F qcow2 over.qcow2
both=$at=over.qcow2,backing.encrypt.key-secret=s
works compare $key --image-opts $both driver=raw,file.filename=noise.raw
qemu qemu-io $key -c 'write -P 7 1M 5k' --image-opts $both
qemu qemu-io -f raw -c 'write -P 7 1M 5k' noise.raw
works compare $key --image-opts $both driver=raw,file.filename=noise.raw
works convert -n $key --image-opts --target-image-opts driver=raw,file.filename=noise.raw $both
qemu qemu-img compare $key --image-opts $both driver=raw,file.filename=noise.raw
works commit -q $key --image-opts $both
works compare $key --image-opts $at=a.qcow2 driver=raw,file.filename=noise.raw
works snapshot $key --image-opts -c one $at=a.qcow2
qemu qemu-io $key -c 'write -P 9 0 3M' --image-opts $at=a.qcow2
works convert -q $key --image-opts -l one -O raw $at=a.qcow2 one.raw
works compare one.raw noise.raw
works snapshot -a one a.qcow2
works snapshot -d one a.qcow2
works compare $key --image-opts $at=a.qcow2 driver=raw,file.filename=noise.raw
works resize -q --shrink $key --image-opts $at=a.qcow2 2500K
works resize -q $key --image-opts $at=a.qcow2 6M
truncate -s 2500K noise.raw; truncate -s 6M noise.raw
qemu qemu-img compare $key --image-opts driver=raw,file.filename=noise.raw $at=a.qcow2
# A disk that ends within a cluster: what lies behind its end is zeros for whoever makes it longer.
head -c 1000000 /dev/urandom >short.raw; truncate -s 1000448 short.raw
works convert $key -f raw -O qcow2 -o $luks short.raw short.qcow2
qemu qemu-img resize -q $key --image-opts $at=short.qcow2 2M
truncate -s 2M short.raw
qemu qemu-img compare $key --image-opts driver=raw,file.filename=short.raw $at=short.qcow2
works rebase -q $key --image-opts -b '' $both
works map $key --image-opts --output=json $at=a.qcow2; cp v.out v.map
qemu qemu-img map $key --image-opts --output=json $at=a.qcow2
cmp -s q.out v.map || { bad "map"; diff q.out v.map; }
clean a.qcow2 over.qcow2
works measure -O qcow2 -o encrypt.format=luks,encrypt.key-secret=s --size 1G
if patiently qemu-img measure $key -O qcow2 -o encrypt.format=luks,encrypt.key-secret=s --size 1G; then
        if cmp -s q.out v.out; then ok; else bad "measure"; diff q.out v.out; fi
else
        echo "skipped: qemu-img measured no encrypted image in five tries"
fi

# --- passwords come and go ---------------------------------------------------------------------------------------------
printf %s other >key2; keys="$key --object secret,id=t,file=key2 --object secret,id=w,fd=9"
amend() { works amend $keys --image-opts "$@" $at=a.qcow2 9< <(printf wrong); }
refuse_amend() { local why=$1; shift; refuses 1 "$why" amend $keys --image-opts "$@" $at=a.qcow2 9< <(printf wrong); }
amend -o encrypt.state=active,encrypt.new-secret=t,encrypt.keyslot=5,encrypt.iter-time=1
qemu qemu-img info --object secret,id=s,file=key2 --image-opts $at=a.qcow2
qemu qemu-img amend --object secret,id=s,file=key2 --image-opts -o encrypt.state=inactive,encrypt.keyslot=0 $at=a.qcow2
refuses 2 "secret 's' is not its key: the password opens none of the 1 active" compare $key --image-opts $at=a.qcow2 $at=a.qcow2
at=driver=qcow2,encrypt.key-secret=t,file.filename
refuse_amend "no password would be left" -o encrypt.state=inactive,encrypt.old-secret=t
refuse_amend "no password would be left" -o encrypt.state=inactive,encrypt.keyslot=5
refuse_amend "'w' does not open any key slot" -o encrypt.state=inactive,encrypt.old-secret=w
refuse_amend "inactive already" -o encrypt.state=inactive,encrypt.keyslot=1
refuse_amend "is in use" -o encrypt.state=active,encrypt.new-secret=s,encrypt.keyslot=5
refuse_amend "a number from 0 to 7" -o encrypt.state=active,encrypt.new-secret=s,encrypt.keyslot=8
refuse_amend "needs a password" -o encrypt.state=active
refuse_amend "only goes with encrypt.state=inactive" -o encrypt.state=active,encrypt.new-secret=s,encrypt.old-secret=t
refuse_amend "which key slots" -o encrypt.state=inactive
refuse_amend "cannot change in one step" -o encrypt.state=inactive,encrypt.keyslot=5,lazy_refcounts=on
refuse_amend "cannot be changed" -o encrypt.cipher-alg=aes-128
amend --force -o encrypt.state=active,encrypt.new-secret=s,encrypt.keyslot=5,encrypt.iter-time=1
at=driver=qcow2,encrypt.key-secret=s,file.filename
works info a.qcow2
[ "$(grep -c 'active: true' v.out)" = 1 ] || bad "a key slot that was written over leaves others"
clean a.qcow2
qemu qemu-img compare $key --image-opts driver=raw,file.filename=noise.raw $at=a.qcow2
amend --force -o encrypt.state=inactive,encrypt.old-secret=s
refuses 2 "opens none of the 0 active key slots" compare $key --image-opts $at=a.qcow2 $at=a.qcow2

# --- what cannot be -----------------------------------------------------------------------------------------------------
refuses 2 "no key was named" compare over.qcow2 over.qcow2
refuses 2 "there is no secret 'x'" compare --image-opts driver=qcow2,file.filename=over.qcow2,encrypt.key-secret=x $at=over.qcow2
refuses 1 "needs a key" create -f qcow2 -o encrypt.format=luks no.qcow2 1M
refuses 1 "encrypt options need encrypt.format=luks" create $key -f qcow2 -o encrypt.key-secret=s no.qcow2 1M
refuses 1 "encrypt.format cannot be 'aes'" create $key -f qcow2 -o encrypt.format=aes no.qcow2 1M
refuses 1 "cipher-alg cannot be 'serpent-256'" create $key -f qcow2 -o $luks,encrypt.cipher-alg=serpent-256 no.qcow2 1M
refuses 1 "cipher-alg cannot be 'aes-192'" create $key -f qcow2 -o $luks,encrypt.cipher-alg=aes-192 no.qcow2 1M
refuses 1 "only goes with encrypt.ivgen-alg=essiv" create $key -f qcow2 -o $luks,encrypt.ivgen-hash-alg=sha1 no.qcow2 1M
refuses 1 "1 to 60000" create $key -f qcow2 -o encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=0 no.qcow2 1M
refuses 1 "exclude each other" convert $key -c -f raw -O qcow2 -o $luks noise.raw no.qcow2
refuses 1 "no key was named" resize over.qcow2 100M
[ -e no.qcow2 ] && bad "a refused image is there"

# --- the header, for cryptsetup -------------------------------------------------------------------------------------------
if command -v cryptsetup >/dev/null; then
        off=$((16#$(od -An -v -tx1 -w1 over.qcow2 | head -n 4096 | tr -d ' \n' | grep -o '0537be7700000010.\{16\}' | tail -c 17)))
        dd if=over.qcow2 of=luks.hdr bs=64k iflag=skip_bytes skip=$off count=64 status=none; truncate -s 16M luks.hdr
        if cryptsetup luksDump luks.hdr >c.out 2>&1 && grep -q '^Cipher mode:.*xts-plain64' c.out; then ok; else bad luksDump; cat c.out; fi
        if cryptsetup open --test-passphrase --key-file key luks.hdr >c.out 2>&1; then ok; else bad "cryptsetup"; cat c.out; fi
fi
finish
