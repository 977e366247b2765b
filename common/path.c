/* SPDX-License-Identifier: BSD-3-Clause */
#include "path.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include "cleanup.h"
#include "err.h"
#include "range.h"
#include "text_file.h"

static char **allowed; /* real paths */
static size_t nallowed;
static bool confined;

/* --- by this process ---------------------------------------------------------------------------------------------- */

static int here_open(const char *path, int how, mode_t mode)
{
        int fd = open(path, how | O_CLOEXEC, mode);

        return fd < 0 ? -errno : fd;
}

static int open_in(const char *dir, const char *name, int how, uint64_t resolve)
{
        struct open_how h = { .flags = (unsigned)how | O_CLOEXEC, .mode = how & O_CREAT ? 0644 : 0, .resolve = resolve };
        AUTO(closep) int from = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
        int fd = from < 0 ? -1 : (int)syscall(SYS_openat2, from, name, &h, sizeof(h));

        return fd < 0 ? -errno : fd;
}

static int here_open_beneath(const char *dir, const char *name, int how)
{
        return open_in(dir, name, how, RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS);
}

static int here_look(const char *path, bool follow, struct stat *st)
{
        return (follow ? stat(path, st) : lstat(path, st)) < 0 ? -errno : 0;
}

static int here_real(const char *path, char **ret)
{
        *ret = realpath(path, NULL);
        return *ret ? 0 : -errno;
}

static int here_unlink(const char *path)
{
        return unlink(path) < 0 ? -errno : 0;
}

static int here_connect(const char *path)
{
        AUTO(closep) int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        struct sockaddr_un sa = { .sun_family = AF_UNIX };

        if (fd < 0)
                return -errno;
        if (strlen(path) >= sizeof(sa.sun_path))
                return -ENAMETOOLONG;
        strcpy(sa.sun_path, path);
        if (connect(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0) /* a Unix socket connects at once or not at all */
                return -errno;
        return TAKE(fd, -1);
}

/* --- where names in images may lead ------------------------------------------------------------------------------- */

int path_allow(const char *dir)
{
        AUTO(freep) char *real = realpath(dir, NULL);
        struct stat st;
        char **more;

        if (!real)
                return err_note(-errno, "directory %s: %s", dir, strerror(errno));
        if (stat(real, &st) < 0 || !S_ISDIR(st.st_mode))
                return err_note(-ENOTDIR, "%s is not a directory", dir);
        more = reallocarray(allowed, nallowed + 1, sizeof(*more));
        if (!more)
                return -ENOMEM;
        allowed = more;
        allowed[nallowed++] = TAKE(real, NULL);
        return 0;
}

void path_allow_finish(void)
{
        while (nallowed)
                free(allowed[--nallowed]);
        free(TAKE(allowed, NULL));
        confined = false;
}

void path_confine(void)
{
        confined = true;
}

/* What is left of @path behind @dir; NULL: it is not below it. Both are real paths. */
static const char *rest_of(const char *path, const char *dir)
{
        size_t len = strcmp(dir, "/") ? strlen(dir) : 0;

        return !strncmp(path, dir, len) && path[len] == '/' && path[len + 1] ? path + len + 1 : NULL;
}

static int own_directory(const char *image, char **ret)
{
        const char *slash = strrchr(image, '/');
        AUTO(freep) char *dir = slash ? strndup(image, max_u64((uint64_t)(slash - image), 1)) : strdup(".");

        return dir ? here_real(dir, ret) : -ENOMEM;
}

/* The real directory that @path, a real path, is below; NULL: none. @own: it is the image's own one. */
static const char *find_dir(const char *path, const char *own_dir, bool *own)
{
        const char *best = NULL;

        for (size_t i = 0; i < nallowed && !best; i++)
                if (rest_of(path, allowed[i]))
                        best = allowed[i];
        *own = !best;
        if (!best && rest_of(path, own_dir))
                best = own_dir;
        return best;
}

/* What it is says the file itself, not its name. */
static int check_kind(int fd, const char *path, bool device_too)
{
        struct stat st;

        if (fstat(fd, &st) < 0)
                return -errno;
        if (S_ISREG(st.st_mode) || (device_too && S_ISBLK(st.st_mode)))
                return 0;
        if (S_ISBLK(st.st_mode))
                return err_note(-EPERM, "'%s' is a block device, which an image may name only in a directory that "
                                "--allow-dir=DIR allows", path);
        return err_note(-EPERM, "'%s' is not a regular file", path);
}

static int here_open_allowed(const char *image, const char *path, int how)
{
        AUTO(freep) char *real = NULL, *mine = NULL;
        AUTO(closep) int fd = -1;
        const char *dir;
        bool own;
        int r;

        if (!confined)
                return here_open(path, how, 0);
        r = own_directory(image, &mine);
        if (r == 0)
                r = here_real(path, &real);
        if (r < 0)
                return err_note(r, "'%s': cannot open: %s", path, strerror(-r));
        dir = find_dir(real, mine, &own);
        if (!dir)
                return err_note(-EPERM, "'%s' is not in the directory of the image that names it: start with --allow-dir=DIR to "
                                "allow files in DIR and below, or name the file yourself", path);
        /* Links were followed already: those that are there now have been put there since. */
        fd = open_in(dir, rest_of(real, dir), how, RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS);
        if (fd < 0)
                return err_note(fd, "'%s': cannot open: %s", path, strerror(-fd));
        r = check_kind(fd, path, !own);
        return r < 0 ? r : TAKE(fd, -1);
}

/* --- the door ----------------------------------------------------------------------------------------------------- */

static const struct path_ops here = {
        .open = here_open,
        .open_beneath = here_open_beneath,
        .open_allowed = here_open_allowed,
        .look = here_look,
        .real = here_real,
        .unlink = here_unlink,
        .connect = here_connect,
        .save = text_file_save,
        .remove = text_file_remove,
};
static const struct path_ops *use = &here;

void path_use(const struct path_ops *ops)
{
        use = ops ?: &here;
}

int path_open(const char *path, int how, mode_t mode)
{
        return use->open(path, how, mode);
}

int path_open_beneath(const char *dir, const char *name, int how)
{
        return use->open_beneath(dir, name, how);
}

int path_open_allowed(const char *image, const char *path, int how)
{
        return use->open_allowed(image, path, how);
}

int path_look(const char *path, bool follow, struct stat *st)
{
        return use->look(path, follow, st);
}

int path_real(const char *path, char **ret)
{
        return use->real(path, ret);
}

int path_unlink(const char *path)
{
        return use->unlink(path);
}

int path_connect(const char *path)
{
        return use->connect(path);
}

int path_save(const char *dir, const char *name, const char *text, bool replace)
{
        return use->save(dir, name, text, replace);
}

int path_remove(const char *path)
{
        return use->remove(path);
}
