/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * manager.h - what the service manager is told (sd_notify(3)). Over a socket that is made once, at the start: the
 * library's functions make one for each word, which a daemon in its sandbox may not. All of it does nothing without
 * NOTIFY_SOCKET. Control thread.
 */
#pragma once

void manager_find(void);              /* before the sandbox */
void manager_tell(const char *state); /* "READY=1" */
void manager_wait(void);              /* until it has heard what we told, a second at most */
void manager_finish(void);
