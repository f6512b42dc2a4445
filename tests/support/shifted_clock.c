/* Loaded into a process before the C library: its wall clock is SHIFT seconds off, its monotonic clock is right. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <semaphore.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

int clock_gettime(clockid_t clock, struct timespec *now) {
    int failed = (int)syscall(SYS_clock_gettime, clock, now);
    if (!failed && clock == CLOCK_REALTIME) {
        now->tv_sec += SHIFT;
    }
    return failed;
}

int gettimeofday(struct timeval *now, void *zone) {
    struct timespec precise;
    (void)zone;
    int failed = clock_gettime(CLOCK_REALTIME, &precise);
    if (!failed) {
        now->tv_sec = precise.tv_sec;
        now->tv_usec = precise.tv_nsec / 1000;
    }
    return failed;
}

time_t time(time_t *seconds) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (seconds) {
        *seconds = now.tv_sec;
    }
    return now.tv_sec;
}

/* An instant of the wall clock as the kernel knows it; one of the monotonic clock is far smaller. */
static struct timespec real(const struct timespec *until) {
    struct timespec instant = *until;
    if (instant.tv_sec > 1000000000) {
        instant.tv_sec -= SHIFT;
    }
    return instant;
}

static void *next(const char *name, const char *version) {
    void *found = dlvsym(RTLD_NEXT, name, version);
    return found ? found : dlsym(RTLD_NEXT, name);
}

int pthread_cond_timedwait(pthread_cond_t *condition, pthread_mutex_t *mutex, const struct timespec *until) {
    static int (*wait)(pthread_cond_t *, pthread_mutex_t *, const struct timespec *);
    if (!wait) {
        wait = next("pthread_cond_timedwait", "GLIBC_2.3.2");
    }
    struct timespec instant = real(until);
    return wait(condition, mutex, &instant);
}

int sem_timedwait(sem_t *semaphore, const struct timespec *until) {
    static int (*wait)(sem_t *, const struct timespec *);
    if (!wait) {
        wait = next("sem_timedwait", "GLIBC_2.34");
    }
    struct timespec instant = real(until);
    return wait(semaphore, &instant);
}
