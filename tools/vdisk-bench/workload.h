/* SPDX-License-Identifier: BSD-3-Clause */
/* workload.h - which request a job sends next, and when a phase is over. The job's thread. */
#pragma once

#include <stdatomic.h>

#include "job.h"

/* Set (by a signal handler): WORK ends as if its limit was reached. */
extern atomic_bool workload_interrupted;

/* Draws the next request of the phase; false: none now (a flush is under way) or none any more. */
bool workload_next(struct job *j, uint64_t now, struct request *ret);

/* Everything of the phase is answered: 1: another phase begins, or the same goes on; 0: the goal is reached. */
int workload_next_phase(struct job *j);
