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

finish
