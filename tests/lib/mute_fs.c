/* SPDX-License-Identifier: BSD-3-Clause */
#include "mute_fs.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/err.h"

#define FILE_NODE 2
#define FOR_LONG 3600 /* seconds that an answer holds */

static int dev = -1, bye = -1;
static uint64_t file_len;
static char mounted_at[128];
static pthread_t server;
static atomic_bool mute;
static atomic_uint unanswered;

unsigned mute_fs_unanswered(void)
{
        return unanswered;
}

static struct fuse_attr attr_of(uint64_t node)
{
        bool file = node == FILE_NODE;

        return (struct fuse_attr){ .ino = node, .mode = file ? S_IFREG | 0666 : S_IFDIR | 0777, .nlink = 1, .size = file ? file_len : 0,
                                   .blksize = 4096 };
}

static void answer(uint64_t unique, int error, const void *p, size_t len)
{
        struct fuse_out_header h = { .len = (uint32_t)(sizeof(h) + len), .error = error, .unique = unique };
        struct iovec iov[2] = { { &h, sizeof(h) }, { (void *)p, len } };
        ssize_t ignored = writev(dev, iov, len ? 2 : 1);

        (void)ignored;
}

static void serve(const struct fuse_in_header *in)
{
        struct fuse_init_out init = { .major = FUSE_KERNEL_VERSION, .minor = 31, .max_write = 4096 };
        struct fuse_entry_out entry = { .nodeid = FILE_NODE, .entry_valid = FOR_LONG, .attr_valid = FOR_LONG, .attr = attr_of(FILE_NODE) };
        struct fuse_attr_out attr = { .attr_valid = FOR_LONG, .attr = attr_of(in->nodeid) };
        struct fuse_open_out open = { 0 };

        if (in->opcode == FUSE_FORGET || in->opcode == FUSE_BATCH_FORGET || in->opcode == FUSE_INTERRUPT)
                return;
        if (mute)
                unanswered++;
        else if (in->opcode == FUSE_INIT)
                answer(in->unique, 0, &init, sizeof(init));
        else if (in->opcode == FUSE_LOOKUP)
                answer(in->unique, 0, &entry, sizeof(entry));
        else if (in->opcode == FUSE_GETATTR)
                answer(in->unique, 0, &attr, sizeof(attr));
        else if (in->opcode == FUSE_OPEN)
                answer(in->unique, 0, &open, sizeof(open));
        else /* ENOSYS to a FLUSH, and no close would ask any more */
                answer(in->unique, in->opcode == FUSE_FLUSH || in->opcode == FUSE_RELEASE ? 0 : -ENOSYS, NULL, 0);
}

static void *run(void *arg)
{
        static _Alignas(8) char buf[65536];
        struct pollfd p[2] = { { .fd = dev, .events = POLLIN }, { .fd = bye, .events = POLLIN } };

        (void)arg;
        while (poll(p, 2, -1) > 0 && !p[1].revents) {
                ssize_t n = read(dev, buf, sizeof(buf));

                if (n >= (ssize_t)sizeof(struct fuse_in_header))
                        serve((struct fuse_in_header *)(void *)buf);
        }
        return NULL;
}

static int mount_it(const char *dir)
{
        char options[96];

        if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
                return err_note(-errno, "no mount namespace: %m");
        dev = open("/dev/fuse", O_RDWR | O_CLOEXEC | O_NONBLOCK);
        bye = eventfd(0, EFD_CLOEXEC);
        snprintf(options, sizeof(options), "fd=%d,rootmode=40000,user_id=%d,group_id=%d", dev, (int)getuid(), (int)getgid());
        if (dev < 0 || bye < 0 || mount("mute", dir, "fuse.mute", MS_NOSUID | MS_NODEV, options) < 0)
                return err_note(-errno, "no FUSE: %m");
        snprintf(mounted_at, sizeof(mounted_at), "%s", dir);
        return 0;
}

int mute_fs_begin(const char *dir, uint64_t len, int *fd)
{
        char path[160];
        int r = mount_it(dir);

        if (r < 0)
                return r;
        file_len = len;
        r = -pthread_create(&server, NULL, run, NULL);
        if (r < 0)
                return r;
        snprintf(path, sizeof(path), "%s/ram", dir);
        *fd = open(path, O_RDWR | O_CLOEXEC);
        return *fd < 0 ? err_note(-errno, "%s: %m", path) : 0;
}

void mute_fs_hush(void)
{
        mute = true;
}

void mute_fs_end(void)
{
        uint64_t one = 1;

        if (write(bye, &one, sizeof(one)) == sizeof(one))
                pthread_join(server, NULL);
        closep(&dev); /* which ends the connection, and all that waits for it */
        closep(&bye);
        umount2(mounted_at, MNT_DETACH);
}
