/* SPDX-License-Identifier: BSD-3-Clause */
#include "fault.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cleanup.h"
#include "err.h"

#define MAX_POINTS 32

struct point {
        char name[48];
        unsigned long nth; /* fails at this hit; 0: only counts */
        unsigned long hits;
        int err; /* positive errno; DIE: the process is killed there */
        bool forever;
};

#define DIE 10000

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct point points[MAX_POINTS];
static unsigned npoints;
atomic_bool fault_armed;

static const struct {
        const char *name;
        int err;
} errnos[] = {
        { "EIO", EIO },       { "ENOSPC", ENOSPC }, { "ENOMEM", ENOMEM },
        { "EAGAIN", EAGAIN }, { "EINTR", EINTR },   { "EINVAL", EINVAL },
        { "KILL", DIE },
};

static struct point *find(const char *name)
{
        for (unsigned i = 0; i < npoints; i++)
                if (!strcmp(points[i].name, name))
                        return &points[i];
        return NULL;
}

int fault_hit(const char *name)
{
        struct point *p;
        int r = 0;

        pthread_mutex_lock(&lock);
        p = find(name);
        if (p) {
                p->hits++;
                if (p->nth && (p->hits == p->nth || (p->forever && p->hits > p->nth)))
                        r = -p->err;
        }
        pthread_mutex_unlock(&lock);
        if (r == -DIE)
                raise(SIGKILL);
        return r;
}

/* "name=nth[:ERRNO][:forever]" */
static int parse_point(char *text, struct point *p)
{
        char *save = NULL, *nth, *word;

        *p = (struct point){ .err = EIO };
        nth = strchr(text, '=');
        if (!nth || (size_t)(nth - text) >= sizeof(p->name))
                return err_note(-EINVAL, "fault '%s': write name=nth[:ERRNO][:forever]", text);
        memcpy(p->name, text, (size_t)(nth - text));
        word = strtok_r(nth + 1, ":", &save);
        if (!word || !word[0] || word[strspn(word, "0123456789")])
                return err_note(-EINVAL, "fault '%s': '%s' is not a count of hits", p->name, word ? word : "");
        p->nth = strtoul(word, NULL, 10);
        while ((word = strtok_r(NULL, ":", &save))) {
                bool known = !strcmp(word, "forever");

                p->forever |= known;
                for (size_t i = 0; i < ARRAY_SIZE(errnos); i++)
                        if (!strcmp(word, errnos[i].name)) {
                                p->err = errnos[i].err;
                                known = true;
                        }
                if (!known)
                        return err_note(-EINVAL, "fault '%s': unknown word '%s'", p->name, word);
        }
        return 0;
}

int fault_arm(const char *spec)
{
        AUTO(freep) char *copy = strdup(spec ? spec : "");
        struct point parsed[MAX_POINTS];
        unsigned n = 0;
        char *save = NULL;

        if (!copy)
                return -ENOMEM;
        for (char *one = strtok_r(copy, ",", &save); one; one = strtok_r(NULL, ",", &save)) {
                int r = n < MAX_POINTS ? parse_point(one, &parsed[n]) : err_note(-EINVAL, "more than 32 faults");

                if (r < 0)
                        return r;
                n++;
        }
        pthread_mutex_lock(&lock);
        memcpy(points, parsed, n * sizeof(points[0]));
        npoints = n;
        atomic_store(&fault_armed, n > 0);
        pthread_mutex_unlock(&lock);
        return 0;
}

int fault_arm_from_env(void)
{
        return fault_arm(getenv("VDISKD_FAULT"));
}

unsigned long fault_count(const char *name)
{
        struct point *p;
        unsigned long n;

        pthread_mutex_lock(&lock);
        p = find(name);
        n = p ? p->hits : 0;
        pthread_mutex_unlock(&lock);
        return n;
}
