/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * coverage_exit.c - goes into the daemon of a build with -Db_coverage=true only: processes that end by _exit(), as the one that
 * hands over and the one that opens files do, write their counts first. The linker's --wrap=_exit sends them here. The fault loop's
 * module (tests/faults/preload.c), where it is loaded, lets that succeed.
 */
#include <dlfcn.h>

void __gcov_dump(void);
void __real__exit(int status) __attribute__((noreturn));
void __wrap__exit(int status) __attribute__((noreturn));
void __wrap__exit(int status)
{
        void (*no_more_faults)(void);

        *(void **)&no_more_faults = dlsym(RTLD_DEFAULT, "fault_preload_end");
        if (no_more_faults)
                no_more_faults();
        __gcov_dump();
        __real__exit(status);
}
