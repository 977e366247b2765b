/* SPDX-License-Identifier: BSD-3-Clause */
/*
 *   (first export of an address) -> serving -> units come and go -> (the last one goes, or the daemon stops) -> stopping -> gone
 *
 * Not packed for another process, since it is made anew: disks link nunits
 */
#include "vdiskd/disks/scsi_host.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "common/cleanup.h"
#include "common/err.h"
#include "vdiskd/disks/node.h"
#include "vhost_user_scsi/controller.h"

static void host_free(struct scsi_host *h)
{
        listener_close(&h->listener);
        free(h->address);
        free(h->place);
        free(h->connect);
        free(h->socket_owner);
        free(h->socket_group);
        free(h);
}

static void host_freep(struct scsi_host **h)
{
        if (*h)
                host_free(*h);
}

/* --- addresses --------------------------------------------------------------------------------------------------- */

static int address_of(const struct block_export_opts *o, char **ret)
{
        int n;

        if (o->connect)
                n = asprintf(ret, "connect:%s", o->connect);
        else if (o->at.path)
                n = asprintf(ret, "unix:%s", o->at.path);
        else if (o->at.fd >= 0)
                n = asprintf(ret, "fd:%d", o->at.fd);
        else if (o->at.fdname)
                n = asprintf(ret, "fdname:%s", o->at.fdname);
        else
                return err_note(-EINVAL, "a SCSI controller needs an address that its disks name: expected a socket's path, a "
                                "descriptor's number or name");
        if (n >= 0)
                return 0;
        *ret = NULL;
        return -ENOMEM;
}

static struct scsi_host *find(const struct disks *d, const char *address)
{
        list_for_each(l, &d->scsi_hosts) {
                struct scsi_host *h = list_entry(l, struct scsi_host, link);

                if (h->controller && !strcmp(h->address, address))
                        return h;
        }
        return NULL;
}

/* A descriptor's number says nothing to a guest that is served by two daemons. */
static char *place_of(const struct scsi_host *h, int fd)
{
        struct sockaddr_un sa = { 0 };
        socklen_t len = sizeof(sa) - 1;

        if (h->connect)
                return strdup(h->connect);
        if (getsockname(fd, (struct sockaddr *)&sa, &len) == 0 && sa.sun_path[0])
                return strdup(sa.sun_path);
        return strdup(h->address);
}

/* --- a host comes ------------------------------------------------------------------------------------------------ */

static int copy(char **to, const char *text)
{
        *to = text ? strdup(text) : NULL;
        return text && !*to ? -ENOMEM : 0;
}

static struct scsi_host *host_new(struct disks *d, unsigned home)
{
        struct scsi_host *h = calloc(1, sizeof(*h));

        if (!h)
                return NULL;
        h->disks = d;
        h->home = home;
        h->listener.fd = -1;
        h->socket_mode = -1;
        list_init(&h->link);
        return h;
}

/* On @fd, which is taken; -1 with h->connect. */
static int start(struct scsi_host *h, int fd, unsigned num_queues, bool parked)
{
        struct scsi_controller_opts o = {
                .name = h->place,
                .connect = h->connect,
                .num_queues = num_queues,
                .parked = parked,
                .threads = h->disks->threads,
                .nthreads = h->disks->nthreads,
                .start_thread = h->home,
        };

        return scsi_controller_new(h->disks->loop, fd, &o, &h->controller);
}

static int open_listener(struct scsi_host *h, const struct block_export_opts *o, int *fd)
{
        int r = o->connect ? 0 : listener_open(&h->listener, &o->at, h->disks->passed);

        if (r < 0)
                return r;
        *fd = o->connect ? -1 : h->listener.fd;
        h->place = place_of(h, *fd);
        if (!h->place)
                return -ENOMEM;
        h->listener.fd = -1;
        return 0;
}

static int host_make(struct disks *d, const struct block_export_opts *o, char **address, unsigned home,
                     struct scsi_host **ret)
{
        AUTO(host_freep) struct scsi_host *h = host_new(d, home);
        int fd = -1, r;

        if (!h || copy(&h->connect, o->connect) < 0 || copy(&h->socket_owner, o->at.owner) < 0 ||
            copy(&h->socket_group, o->at.group) < 0)
                return -ENOMEM;
        h->socket_mode = o->at.mode;
        h->address = TAKE(*address, NULL);
        r = open_listener(h, o, &fd);
        if (r == 0)
                r = start(h, fd, o->num_queues, false);
        if (r < 0)
                return r;
        list_add_tail(&d->scsi_hosts, &h->link);
        *ret = TAKE(h, NULL);
        return 0;
}

static bool differs(const char *said, const char *is)
{
        return said && (!is || strcmp(said, is));
}

/* What the first export said holds for all. */
static int check_same(const struct scsi_host *h, const struct block_export_opts *o)
{
        unsigned queues = scsi_controller_num_queues(h->controller);

        if (o->num_queues && o->num_queues != queues)
                return err_note(-EINVAL, "%u queues: the SCSI controller on %s has %u already, for all its disks", o->num_queues,
                                h->place, queues);
        if ((o->at.mode >= 0 && o->at.mode != h->socket_mode) || differs(o->at.owner, h->socket_owner) ||
            differs(o->at.group, h->socket_group))
                return err_note(-EINVAL, "the SCSI controller on %s has a socket with another mode, owner or group already, for all "
                                "its disks", h->place);
        return 0;
}

/* --- units ------------------------------------------------------------------------------------------------------- */

/*
 * The same after a restart, and never that of another disk: two that a guest takes for one, by two paths, lose data. A serial is the
 * operator's word for it, and holds on another host, too.
 */
static char *stable_name(const struct block_export *x)
{
        char *name = NULL;
        int n = x->serial ? asprintf(&name, "serial %s", x->serial) :
                            asprintf(&name, "%s %u %s", x->host->place, x->lun, x->id);

        return n < 0 ? NULL : name;
}

static int add_unit(struct block_export *x)
{
        AUTO(freep) char *mark = block_export_mark_path(x);
        AUTO(freep) char *stable = stable_name(x);
        struct scsi_unit_opts o = {
                .lun = x->lun,
                .serial = x->serial,
                .stable = stable,
                .read_only = x->read_only,
                .block_size = x->block_size,
                .wce_mark = mark,
        };
        int r = stable ? scsi_unit_add(x->host->controller, x->node->vol, &o, &x->unit) : -ENOMEM;

        if (r == 0)
                x->host->nunits++;
        return r;
}

static int choose_lun(struct block_export *x, int lun)
{
        const struct scsi_controller *c = x->host->controller;

        x->lun = lun == SCSI_ANY_LUN ? scsi_free_lun(c) : (unsigned)lun;
        if (x->lun >= SCSI_LUNS)
                return err_note(-ENOSPC, "the SCSI controller on %s has %u disks, which is all it can have", x->host->place, SCSI_LUNS);
        if (!scsi_lun_is_free(c, x->lun))
                return err_note(-EBUSY, "LUN %u of the SCSI controller on %s is in use", x->lun, x->host->place);
        return 0;
}

/* Nobody has come in, and no disk is in it. */
static void drop(struct scsi_host *h)
{
        list_del(&h->link);
        scsi_controller_drop(h->controller);
        host_free(h);
}

int scsi_host_enter(struct block_export *x, const struct block_export_opts *o)
{
        AUTO(freep) char *address = NULL;
        bool made = false;
        int r = address_of(o, &address);

        if (r < 0)
                return r;
        x->host = find(x->disks, address);
        if (x->host)
                r = check_same(x->host, o);
        else
                made = (r = host_make(x->disks, o, &address, x->node->home, &x->host)) == 0;
        if (r == 0)
                r = choose_lun(x, o->lun);
        if (r == 0)
                r = add_unit(x);
        if (r < 0 && made)
                drop(x->host);
        if (r < 0)
                x->host = NULL;
        return r;
}

int scsi_host_reenter(struct block_export *x, const char *address)
{
        x->host = find(x->disks, address);
        if (!x->host)
                return err_note(-EBADMSG, "a SCSI controller '%s', which is not there", address);
        return add_unit(x);
}

/* --- and goes ---------------------------------------------------------------------------------------------------- */

static void on_stopped(void *opaque)
{
        struct scsi_host *h = opaque;
        struct disks *d = h->disks;

        list_del(&h->link);
        list_for_each_safe(l, &d->exports) {
                struct block_export *x = list_entry(l, struct block_export, link);

                if (x->host == h)
                        block_export_stopped(x);
        }
        host_free(h);
}

/*
 * A unit that is removed is one that the guest loses. When the daemon stops it does not lose its disks, it waits for them: the
 * controller hangs up as a whole.
 */
void scsi_host_leave(struct block_export *x, void (*stopped)(void *opaque))
{
        struct scsi_host *h = x->host;
        struct scsi_unit *u = TAKE(x->unit, NULL);

        h->nunits--;
        if (!h->controller)
                return; /* on_stopped() */
        if (h->nunits && !h->disks->exports_stopping) {
                scsi_unit_remove(u, stopped, x);
                return;
        }
        listener_close(&h->listener); /* its file: nobody new comes */
        scsi_controller_stop(TAKE(h->controller, NULL), on_stopped, h);
}

int scsi_host_change(struct scsi_host *h, const struct listen_at *at)
{
        AUTO(freep) char *owner = at->owner ? strdup(at->owner) : NULL;
        AUTO(freep) char *group = at->group ? strdup(at->group) : NULL;
        int r = listener_change(&h->listener, at);

        if (r < 0)
                return r;
        if ((at->owner && !owner) || (at->group && !group))
                return -ENOMEM;
        if (at->mode >= 0)
                h->socket_mode = at->mode;
        if (owner) {
                free(h->socket_owner);
                h->socket_owner = TAKE(owner, NULL);
        }
        if (group) {
                free(h->socket_group);
                h->socket_group = TAKE(group, NULL);
        }
        return 0;
}

/* --- for another process ----------------------------------------------------------------------------------------- */

static json_t *bytes_of(const char *text)
{
        return text ? parcel_bytes(text, strlen(text)) : json_null();
}

static json_t *host_pack(const struct scsi_host *h, struct parcel *p)
{
        return json_pack("{s:o,s:o,s:o,s:o,s:i,s:o,s:o,s:o,s:o,s:o}", "address", bytes_of(h->address), "place", bytes_of(h->place),
                         "listener", listener_pack(&h->listener), "connect", bytes_of(h->connect), "socket-mode", h->socket_mode,
                         "socket-owner", bytes_of(h->socket_owner), "socket-group", bytes_of(h->socket_group), "home",
                         parcel_u64(h->home), "num-queues", parcel_u64(scsi_controller_num_queues(h->controller)), "controller",
                         scsi_controller_pack(h->controller, p));
}

json_t *scsi_hosts_pack(const struct disks *d, struct parcel *p)
{
        json_t *all = json_array();

        list_for_each(l, &d->scsi_hosts)
                parcel_append(p, all, host_pack(list_entry(l, struct scsi_host, link), p));
        return all;
}

static int unpack_text(const json_t *o, const char *key, char **ret)
{
        char text[512];
        size_t len = 0;
        int r = json_is_null(json_object_get(o, key)) ? 0 : parcel_get_bytes(o, key, text, sizeof(text), &len);

        if (r < 0 || !len)
                return r;
        *ret = strndup(text, len);
        return *ret ? 0 : -ENOMEM;
}

static int unpack_words(struct scsi_host *h, const json_t *o)
{
        const json_t *mode = json_object_get(o, "socket-mode");
        int r = unpack_text(o, "address", &h->address);

        if (r == 0)
                r = unpack_text(o, "place", &h->place);
        if (r == 0)
                r = unpack_text(o, "connect", &h->connect);
        if (r == 0)
                r = unpack_text(o, "socket-owner", &h->socket_owner);
        if (r == 0)
                r = unpack_text(o, "socket-group", &h->socket_group);
        if (r == 0)
                r = parcel_get_unsigned(o, "home", UINT32_MAX, &h->home);
        if (r < 0)
                return r;
        h->home %= h->disks->nthreads; /* which may be fewer than they were */
        h->socket_mode = json_is_integer(mode) ? (int)json_integer_value(mode) : -1;
        return h->address && h->place ? 0 : err_note(-EBADMSG, "a SCSI controller without an address");
}

static int host_unpack(struct disks *d, struct parcel *p, const json_t *o)
{
        AUTO(host_freep) struct scsi_host *h = host_new(d, 0);
        const json_t *listener, *controller;
        unsigned num_queues;
        int fd = -1, r = h ? unpack_words(h, o) : -ENOMEM;

        if (r == 0)
                r = parcel_get_unsigned(o, "num-queues", SCSI_MAX_QUEUES, &num_queues);
        if (r == 0)
                r = parcel_get_object(o, "listener", false, &listener);
        if (r == 0)
                r = listener_unpack(&h->listener, listener);
        if (r == 0)
                r = parcel_get_object(o, "controller", false, &controller);
        if (r == 0)
                r = scsi_controller_unpack_socket(p, controller, &fd);
        if (r == 0 && (fd < 0) != !!h->connect)
                r = err_note(-EBADMSG, "a SCSI controller without its socket");
        if (r == 0)
                r = start(h, fd, num_queues, true);
        if (r < 0)
                return r;
        list_add_tail(&d->scsi_hosts, &h->link);
        h = NULL;
        return 0;
}

/* An older process had none. */
int scsi_hosts_unpack(struct disks *d, struct parcel *p, const json_t *all)
{
        int r = 0;

        for (size_t i = 0; r == 0 && i < json_array_size(all); i++)
                r = host_unpack(d, p, json_array_get(all, i));
        return r;
}

int scsi_hosts_unpack_sessions(struct disks *d, struct parcel *p, const json_t *all)
{
        size_t i = 0;
        int r = 0;

        list_for_each(l, &d->scsi_hosts) {
                struct scsi_host *h = list_entry(l, struct scsi_host, link);

                r = scsi_controller_unpack(h->controller, p, json_object_get(json_array_get(all, i++), "controller"));
                if (r < 0)
                        return err_prefix(r, "SCSI controller '%s': ", h->place);
        }
        return 0;
}
