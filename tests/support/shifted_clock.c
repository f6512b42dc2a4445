/* Loaded into a process before the C library: its wall clock is SHIFT seconds off, its monotonic clock is right. */
#define _GNU_SOURCE
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

int clock_gettime(clockid_t clock, struct timespec *now) {
    int failed = (int)syscall(SYS_clock_gettime, clock, now);
    if (!failed && clock == CLOCK_REALTIME) {
        now->tv_sec += SHIFT;
    }
    return failed;
}
