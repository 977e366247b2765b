/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * On the socket: a head { magic, version, bytes of text, number of descriptors }; then the descriptors, up to
 * FDS_A_PIECE with each packet of one byte; the text is the first of them, a memfd: so its length is no matter of
 * socket buffers.
 */
#include "parcel.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cleanup.h"
#include "err.h"

#define MAGIC 0x314c4352u /* "RCL1" */
#define FDS_A_PIECE 200u  /* the kernel takes 253 (SCM_MAX_FD) */
#define TEXT_MAX (256u << 20)
#define FDS_MAX 1000000u

struct head {
        uint32_t magic, nfds;
        uint64_t text_len;
};

void parcel_finish(struct parcel *p)
{
        for (unsigned i = 0; p->received && i < p->nfds; i++)
                closep(&p->fd[i]);
        free(p->fd);
        json_decref(p->root);
        *p = (struct parcel){ 0 };
}

/* --- packing ------------------------------------------------------------------------------------------------------ */

static int add_fd(struct parcel *p, int fd)
{
        int *more = reallocarray(p->fd, p->nfds + 1, sizeof(*more));

        if (!more)
                return -ENOMEM;
        p->fd = more;
        p->fd[p->nfds] = fd;
        return (int)p->nfds++;
}

int parcel_put_fd(struct parcel *p, int fd)
{
        int n = fd < 0 ? -1 : add_fd(p, fd);

        if (fd >= 0 && n < 0)
                p->incomplete = true;
        return n;
}

void parcel_append(struct parcel *p, json_t *list, json_t *value)
{
        if (json_array_append_new(list, value) < 0)
                p->incomplete = true;
}

json_t *parcel_u64(uint64_t v)
{
        return json_integer((json_int_t)v);
}

json_t *parcel_bytes(const void *bytes, size_t len)
{
        static const char digits[] = "0123456789abcdef";
        AUTO(freep) char *text = malloc(2 * len + 1);

        if (!text)
                return NULL;
        for (size_t i = 0; i < len; i++) {
                text[2 * i] = digits[((const uint8_t *)bytes)[i] >> 4];
                text[2 * i + 1] = digits[((const uint8_t *)bytes)[i] & 15];
        }
        return json_stringn(text, 2 * len);
}

/* --- sending ------------------------------------------------------------------------------------------------------ */

static int send_piece(int sock, const void *bytes, size_t len, const int *fds, unsigned nfds)
{
        union {
                char buf[CMSG_SPACE(FDS_A_PIECE * sizeof(int))];
                struct cmsghdr align;
        } control;
        struct iovec iov = { (void *)bytes, len };
        struct msghdr mh = { .msg_iov = &iov, .msg_iovlen = 1 };
        ssize_t n;

        if (nfds) {
                memset(&control, 0, sizeof(control));
                mh.msg_control = &control;
                mh.msg_controllen = CMSG_SPACE(nfds * sizeof(int));
                control.align = (struct cmsghdr){ CMSG_LEN(nfds * sizeof(int)), SOL_SOCKET, SCM_RIGHTS };
                memcpy(CMSG_DATA(&control.align), fds, nfds * sizeof(int));
        }
        do
                n = sendmsg(sock, &mh, MSG_NOSIGNAL);
        while (n < 0 && errno == EINTR);
        return n < 0 ? err_note(-errno, "cannot send: %m") : 0;
}

static int text_file(const json_t *root, uint64_t *len)
{
        AUTO(freep) char *text = json_dumps(root, JSON_COMPACT);
        AUTO(closep) int fd = memfd_create("parcel", MFD_CLOEXEC);

        if (!text)
                return err_note(-ENOMEM, "a description that cannot be written");
        *len = strlen(text);
        if (fd < 0)
                return -errno;
        for (size_t done = 0; done < *len;) {
                ssize_t n = write(fd, text + done, *len - done);

                if (n <= 0)
                        return n < 0 ? -errno : -EIO;
                done += (size_t)n;
        }
        return TAKE(fd, -1);
}

int parcel_send(const struct parcel *p, int sock)
{
        struct head h = { .magic = MAGIC, .nfds = p->nfds };
        AUTO(closep) int text = -1;
        int r;

        if (p->incomplete || !p->root)
                return err_note(-EINVAL, "a part of the parcel could not be packed");
        text = text_file(p->root, &h.text_len);
        if (text < 0)
                return text;
        r = send_piece(sock, &h, sizeof(h), &text, 1);
        for (unsigned i = 0; r == 0 && i < p->nfds; i += FDS_A_PIECE)
                r = send_piece(sock, "f", 1, &p->fd[i], p->nfds - i < FDS_A_PIECE ? p->nfds - i : FDS_A_PIECE);
        return r;
}

/* --- receiving ---------------------------------------------------------------------------------------------------- */

/* All descriptors of one packet go to @p; what does not fit is closed. */
static int collect(struct parcel *p, struct msghdr *mh)
{
        int r = 0;

        for (struct cmsghdr *c = CMSG_FIRSTHDR(mh); c; c = CMSG_NXTHDR(mh, c)) {
                if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
                        continue;
                for (size_t i = 0; i < (c->cmsg_len - CMSG_LEN(0)) / sizeof(int); i++) {
                        int fd;

                        memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(int));
                        if (add_fd(p, fd) < 0) {
                                close(fd);
                                r = -ENOMEM;
                        }
                }
        }
        return mh->msg_flags & MSG_CTRUNC ? err_note(-EMFILE, "descriptors were lost on the way") : r;
}

static int receive_piece(int sock, void *bytes, size_t len, struct parcel *p)
{
        union {
                char buf[CMSG_SPACE(FDS_A_PIECE * sizeof(int))];
                struct cmsghdr align;
        } control;
        struct iovec iov = { bytes, len };
        struct msghdr mh = {
                .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control),
        };
        ssize_t n;
        int r;

        do
                n = recvmsg(sock, &mh, MSG_CMSG_CLOEXEC);
        while (n < 0 && errno == EINTR);
        if (n < 0)
                return errno == EAGAIN ? err_note(-ETIMEDOUT, "the other side stopped in the middle") : -errno;
        r = collect(p, &mh);
        if (r < 0)
                return r;
        if (n == 0)
                return err_note(-ECONNRESET, "the other side is gone");
        if ((size_t)n != len || mh.msg_flags & MSG_TRUNC)
                return err_note(-EBADMSG, "a packet of %zd bytes where %zu are expected", n, len);
        return 0;
}

static int read_text(int fd, uint64_t len, json_t **ret)
{
        AUTO(freep) char *text = NULL;
        json_error_t why;
        struct stat st;

        if (fstat(fd, &st) < 0 || (uint64_t)st.st_size < len)
                return err_note(-EBADMSG, "a description shorter than it says");
        text = malloc(len);
        if (!text)
                return -ENOMEM;
        if (lseek(fd, 0, SEEK_SET) < 0 || read(fd, text, len) != (ssize_t)len) /* a memfd: all at once */
                return err_note(-EBADMSG, "a description that cannot be read: %m");
        *ret = json_loadb(text, len, JSON_REJECT_DUPLICATES, &why);
        return *ret ? 0 : err_note(-EBADMSG, "a description that is no JSON: %s", why.text);
}

static int receive(int sock, struct parcel *p)
{
        struct parcel first = { .received = true };
        struct head h;
        char f;
        int r = receive_piece(sock, &h, sizeof(h), &first);

        if (r == 0 && (h.magic != MAGIC || first.nfds != 1 || h.text_len > TEXT_MAX || h.nfds > FDS_MAX))
                r = err_note(-EBADMSG, "a packet that begins no parcel");
        if (r == 0)
                r = read_text(first.fd[0], h.text_len, &p->root);
        while (r == 0 && p->nfds < h.nfds) {
                unsigned before = p->nfds;

                r = receive_piece(sock, &f, 1, p);
                if (r == 0 && p->nfds == before)
                        r = err_note(-EBADMSG, "a packet without descriptors");
        }
        if (r == 0 && p->nfds != h.nfds)
                r = err_note(-EBADMSG, "%u descriptors where %u are expected", p->nfds, h.nfds);
        parcel_finish(&first);
        return r;
}

int parcel_receive(int sock, struct parcel *p)
{
        int r;

        *p = (struct parcel){ .received = true };
        r = receive(sock, p);
        if (r < 0)
                parcel_finish(p);
        return r;
}

/* --- unpacking ---------------------------------------------------------------------------------------------------- */

static int wrong(const char *key, const char *what)
{
        return err_note(-EBADMSG, "'%s' is %s", key, what);
}

int parcel_get_u64(const json_t *o, const char *key, uint64_t max, uint64_t *ret)
{
        const json_t *v = json_object_get(o, key);

        if (!json_is_integer(v))
                return wrong(key, v ? "no number" : "missing");
        *ret = (uint64_t)json_integer_value(v);
        return *ret > max ? wrong(key, "out of range") : 0;
}

int parcel_get_unsigned(const json_t *o, const char *key, unsigned max, unsigned *ret)
{
        uint64_t v = 0;
        int r = parcel_get_u64(o, key, max, &v);

        *ret = (unsigned)v;
        return r;
}

int parcel_get_bool(const json_t *o, const char *key, bool *ret)
{
        const json_t *v = json_object_get(o, key);

        *ret = json_is_true(v);
        return json_is_boolean(v) ? 0 : wrong(key, v ? "neither true nor false" : "missing");
}

int parcel_get_text(const json_t *o, const char *key, bool optional, const char **ret)
{
        const json_t *v = json_object_get(o, key);

        *ret = json_string_value(v);
        return *ret || (optional && (!v || json_is_null(v))) ? 0 : wrong(key, v ? "no text" : "missing");
}

int parcel_get_array(const json_t *o, const char *key, const json_t **ret)
{
        *ret = json_object_get(o, key);
        return json_is_array(*ret) ? 0 : wrong(key, *ret ? "no list" : "missing");
}

int parcel_get_object(const json_t *o, const char *key, bool optional, const json_t **ret)
{
        const json_t *v = json_object_get(o, key);

        *ret = json_is_object(v) ? v : NULL;
        return *ret || (optional && (!v || json_is_null(v))) ? 0 : wrong(key, v ? "no object" : "missing");
}

static int digit(char c)
{
        return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

int parcel_get_bytes(const json_t *o, const char *key, void *to, size_t max, size_t *len)
{
        const char *text;
        int r = parcel_get_text(o, key, false, &text);

        if (r < 0)
                return r;
        *len = strlen(text) / 2;
        if (strlen(text) % 2 || *len > max)
                return wrong(key, "too long, or cut");
        for (size_t i = 0; i < *len; i++) {
                int high = digit(text[2 * i]), low = digit(text[2 * i + 1]);

                if (high < 0 || low < 0)
                        return wrong(key, "not hexadecimal");
                ((uint8_t *)to)[i] = (uint8_t)(high << 4 | low);
        }
        return 0;
}

int parcel_take_fd(struct parcel *p, const json_t *o, const char *key, bool optional, int *ret)
{
        const json_t *v = json_object_get(o, key);
        json_int_t n = json_is_integer(v) ? json_integer_value(v) : -1;

        *ret = -1;
        if (v && !json_is_integer(v))
                return wrong(key, "no number");
        if (n < 0)
                return optional ? 0 : wrong(key, "missing");
        if (n >= p->nfds || p->fd[n] < 0)
                return wrong(key, "no descriptor of this parcel");
        *ret = TAKE(p->fd[n], -1);
        return 0;
}
