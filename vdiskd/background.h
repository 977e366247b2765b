/* SPDX-License-Identifier: BSD-3-Clause */
/* background.h - --daemonize: who started us gets his prompt back when all is served, not before. */
#pragma once

/*
 * To the background, before there are threads: returns in the child, *@fd and *@null are for background_tell(). The
 * parent waits for that, or for the child's end, and ends itself. 0 or -errno with a sentence.
 */
int background_begin(int *fd, int *null);

/* All is served: the parent ends well. Standard input and output, and errors, go nowhere from now on. Closes both. */
void background_tell(int fd, int null);
