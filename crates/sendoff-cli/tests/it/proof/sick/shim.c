/* Sick surroundings for one process, by LD_PRELOAD: a disk that fails or forgets, a clock that steps.
 *
 * SICK_STORE    the path of the SQLite file; its -wal and -journal belong to it
 * SICK_CONTROL  a file of `struct control`, which the test writes and reads while the process runs
 * SICK_LOG      where every write to the store is noted, with what was synced (see cut.rs)
 *
 * Nothing is really synced: what a power cut leaves is made up from the log.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

/* Each a little-endian 64-bit number, as the test writes them. */
struct control {
    volatile int64_t clock;        /* microseconds that the wall clock is ahead of the machine's */
    volatile int64_t fail_sync;    /* the how manieth sync from now fails with EIO; 0: none */
    volatile int64_t fail_write;
    volatile int64_t fail_read;
    volatile int64_t only;         /* 0: of any file; 1 + file: of this one alone */
    volatile int64_t sync_micros;  /* a sync takes up to this long */
    volatile int64_t failed;       /* so many have failed */
    volatile int64_t syncs;        /* so many have succeeded */
};

enum { DB, WAL, JOURNAL, DIRECTORY, OTHER };
enum { WRITE, TRUNCATE, SYNC_BEGIN, SYNC_END, SYNC_FAILED, CREATE, UNLINK };

struct entry {
    uint8_t kind, file;
    uint16_t unused;
    uint32_t length;
    uint64_t at; /* an offset, a size, or the number of a sync */
};

static struct control nothing, *control = &nothing;
static char store[4096], directory[4096];
static int noted = -1;
static uint64_t sync_number;
static pthread_mutex_t order = PTHREAD_MUTEX_INITIALIZER;
/* By descriptor: 1 + file, 0 if it is none of the store's. */
static volatile uint8_t known[1 << 16];

#define REAL(name) \
    static __typeof__(&name) real; \
    if (!real) real = (__typeof__(&name))dlsym(RTLD_NEXT, #name)

static int file_of(const char *path) {
    size_t length = strlen(store);
    if (!length) return OTHER;
    if (!strncmp(path, store, length)) {
        if (!path[length]) return DB;
        if (!strcmp(path + length, "-wal")) return WAL;
        if (!strcmp(path + length, "-journal")) return JOURNAL;
    }
    return strcmp(path, directory) ? OTHER : DIRECTORY;
}

static int file_at(int fd) {
    return fd >= 0 && fd < (int)sizeof known && known[fd] ? known[fd] - 1 : OTHER;
}

/* Called with `order` held, so that the log has the order of the effects. */
static void note(int kind, int file, uint64_t at, const void *bytes, uint32_t length) {
    if (noted < 0) return;
    struct entry entry = {kind, file, 0, length, at};
    char *all = malloc(sizeof entry + length);
    memcpy(all, &entry, sizeof entry);
    if (length) memcpy(all + sizeof entry, bytes, length);
    /* In one call: a process that is killed leaves a whole entry or a part that the reader drops. */
    if (syscall(SYS_write, noted, all, sizeof entry + length) < 0) abort();
    free(all);
}

/* Whether this is the one that fails. */
static int fails(volatile int64_t *countdown, int file) {
    if (file > JOURNAL || (control->only && control->only != 1 + file)) return 0;
    if (*countdown <= 0 || __atomic_sub_fetch(countdown, 1, __ATOMIC_SEQ_CST) != 0) return 0;
    __atomic_add_fetch(&control->failed, 1, __ATOMIC_SEQ_CST);
    errno = EIO;
    return 1;
}

static void opened(int fd, const char *path, int flags, int existed) {
    if (fd < 0 || fd >= (int)sizeof known) return;
    int file = file_of(path);
    known[fd] = file == OTHER ? 0 : 1 + file;
    if (file > JOURNAL) return;
    pthread_mutex_lock(&order);
    if ((flags & O_CREAT) && !existed) note(CREATE, file, 0, NULL, 0);
    if (flags & O_TRUNC) note(TRUNCATE, file, 0, NULL, 0);
    pthread_mutex_unlock(&order);
}

#define OPEN(name, declared, passed) \
    int name declared { \
        REAL(name); \
        mode_t mode = 0; \
        if (flags & (O_CREAT | __O_TMPFILE)) { \
            va_list list; \
            va_start(list, flags); \
            mode = va_arg(list, mode_t); \
            va_end(list); \
        } \
        struct stat status; \
        int existed = (flags & O_CREAT) && file_of(path) <= JOURNAL && !stat(path, &status); \
        int fd = real passed; \
        int kept = errno; \
        opened(fd, path, flags, existed); \
        errno = kept; \
        return fd; \
    }
OPEN(open, (const char *path, int flags, ...), (path, flags, mode))
OPEN(open64, (const char *path, int flags, ...), (path, flags, mode))
OPEN(openat, (int at, const char *path, int flags, ...), (at, path, flags, mode))
OPEN(openat64, (int at, const char *path, int flags, ...), (at, path, flags, mode))

int close(int fd) {
    REAL(close);
    if (fd >= 0 && fd < (int)sizeof known) known[fd] = 0;
    return real(fd);
}

static ssize_t written(int fd, int file, const void *bytes, size_t length, off64_t at, int positioned) {
    if (fails(&control->fail_write, file)) return -1;
    pthread_mutex_lock(&order);
    if (!positioned) at = lseek64(fd, 0, SEEK_CUR);
    note(WRITE, file, at, bytes, length);
    ssize_t done = positioned ? syscall(SYS_pwrite64, fd, bytes, length, at) : syscall(SYS_write, fd, bytes, length);
    pthread_mutex_unlock(&order);
    return done;
}

ssize_t write(int fd, const void *bytes, size_t length) {
    REAL(write);
    int file = file_at(fd);
    return file <= JOURNAL ? written(fd, file, bytes, length, 0, 0) : real(fd, bytes, length);
}

#define PWRITE(name, offset) \
    ssize_t name(int fd, const void *bytes, size_t length, offset at) { \
        REAL(name); \
        int file = file_at(fd); \
        return file <= JOURNAL ? written(fd, file, bytes, length, at, 1) : real(fd, bytes, length, at); \
    }
PWRITE(pwrite, off_t)
PWRITE(pwrite64, off64_t)

ssize_t read(int fd, void *bytes, size_t length) {
    REAL(read);
    return fails(&control->fail_read, file_at(fd)) ? -1 : real(fd, bytes, length);
}

#define PREAD(name, offset) \
    ssize_t name(int fd, void *bytes, size_t length, offset at) { \
        REAL(name); \
        return fails(&control->fail_read, file_at(fd)) ? -1 : real(fd, bytes, length, at); \
    }
PREAD(pread, off_t)
PREAD(pread64, off64_t)

#define TRUNCATED(name, offset) \
    int name(int fd, offset size) { \
        REAL(name); \
        int file = file_at(fd); \
        if (file > JOURNAL) return real(fd, size); \
        pthread_mutex_lock(&order); \
        note(TRUNCATE, file, size, NULL, 0); \
        int done = real(fd, size); \
        pthread_mutex_unlock(&order); \
        return done; \
    }
TRUNCATED(ftruncate, off_t)
TRUNCATED(ftruncate64, off64_t)

int unlink(const char *path) {
    REAL(unlink);
    int file = file_of(path);
    if (file > JOURNAL) return real(path);
    pthread_mutex_lock(&order);
    int done = real(path);
    if (!done) note(UNLINK, file, 0, NULL, 0);
    pthread_mutex_unlock(&order);
    return done;
}

static int synced(int file) {
    pthread_mutex_lock(&order);
    uint64_t number = ++sync_number;
    note(SYNC_BEGIN, file, number, NULL, 0);
    pthread_mutex_unlock(&order);
    if (control->sync_micros > 0) {
        unsigned chance = (unsigned)(number * 2654435761u) >> 8;
        usleep(chance % control->sync_micros);
    }
    int failed = fails(&control->fail_sync, file);
    pthread_mutex_lock(&order);
    note(failed ? SYNC_FAILED : SYNC_END, file, number, NULL, 0);
    pthread_mutex_unlock(&order);
    if (failed) return -1;
    __atomic_add_fetch(&control->syncs, 1, __ATOMIC_SEQ_CST);
    return 0;
}

int fsync(int fd) {
    REAL(fsync);
    int file = file_at(fd);
    return file == OTHER ? real(fd) : synced(file);
}

int fdatasync(int fd) {
    REAL(fdatasync);
    int file = file_at(fd);
    return file == OTHER ? real(fd) : synced(file);
}

static int is_wall(clockid_t clock) { return clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE; }

int clock_gettime(clockid_t clock, struct timespec *time) {
    REAL(clock_gettime);
    int done = real(clock, time);
    int64_t ahead = control->clock;
    if (!done && ahead && is_wall(clock)) {
        int64_t micros = time->tv_sec * INT64_C(1000000) + time->tv_nsec / 1000 + ahead;
        time->tv_nsec = micros % 1000000 * 1000 + time->tv_nsec % 1000;
        time->tv_sec = micros / 1000000;
    }
    return done;
}

int gettimeofday(struct timeval *restrict time, void *restrict zone) {
    (void)zone;
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    time->tv_sec = now.tv_sec;
    time->tv_usec = now.tv_nsec / 1000;
    return 0;
}

/* Alarms are set by calls to the kernel that cannot be caught here, and so by the machine's clock.
 * With a clock that is ahead they would ring late: this rings them when that clock says so, and all
 * of them when it was stepped, as the kernel does for TFD_TIMER_CANCEL_ON_SET. A clock behind the
 * machine's would ring them again and again: a test steps around a clock that is years ahead. */
static void *ring(void *unused) {
    (void)unused;
    int timers[16], count = 0;
    int64_t before = control->clock;
    for (unsigned turn = 0;; turn++) {
        struct timespec pause = {0, 1000000};
        nanosleep(&pause, NULL);
        if (turn % 64 == 0) {
            count = 0;
            for (int fd = 0; fd < 256 && count < 16; fd++) {
                char name[32], target[32] = "";
                snprintf(name, sizeof name, "/proc/self/fd/%d", fd);
                if (readlink(name, target, sizeof target - 1) > 0 && strstr(target, "[timerfd]")) timers[count++] = fd;
            }
        }
        int64_t ahead = control->clock;
        for (int i = 0; i < count; i++) {
            struct itimerspec left;
            if (timerfd_gettime(timers[i], &left)) continue;
            int64_t micros = left.it_value.tv_sec * INT64_C(1000000) + left.it_value.tv_nsec / 1000;
            if (!left.it_value.tv_sec && !left.it_value.tv_nsec) continue;
            if (micros <= ahead || ahead != before) {
                struct itimerspec now = {{0, 0}, {0, 1}};
                timerfd_settime(timers[i], 0, &now, NULL);
            }
        }
        before = ahead;
    }
    return NULL;
}

__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("SICK_STORE");
    if (path) {
        snprintf(store, sizeof store, "%s", path);
        snprintf(directory, sizeof directory, "%s", path);
        *strrchr(directory, '/') = 0;
    }
    if ((path = getenv("SICK_LOG"))) {
        noted = syscall(SYS_openat, AT_FDCWD, path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    }
    if ((path = getenv("SICK_CONTROL"))) {
        int fd = syscall(SYS_openat, AT_FDCWD, path, O_RDWR | O_CLOEXEC, 0);
        void *mapped = mmap(NULL, sizeof(struct control), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        syscall(SYS_close, fd);
        if (mapped == MAP_FAILED) abort();
        control = mapped;
    }
    if (control->clock) {
        sigset_t all, kept;
        pthread_t thread;
        sigfillset(&all);
        pthread_sigmask(SIG_SETMASK, &all, &kept);
        pthread_create(&thread, NULL, ring, NULL);
        pthread_sigmask(SIG_SETMASK, &kept, NULL);
    }
}
