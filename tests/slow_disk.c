/*
 * Loaded into a program (LD_PRELOAD), makes its syncs as slow as an SD card's: about 30 ms
 * each, of a hundred six take 200 to 500 ms, drawn from a seed. One card takes one sync at
 * a time. Whoever has a file at SLOW_DISK_STALL makes every sync wait until it is gone.
 *
 * SLOW_DISK_SEED: a number; without one syncs are as fast as they are. SLOW_DISK_HELLO: a
 * file that is made when this is loaded, so that whoever asked for it knows.
 *
 * Left out: reads, and writes that wait in memory, which a card slows down as well.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <fcntl.h>
#include <time.h>
#include <unistd.h>

#define LOOK_MS 5

static pthread_mutex_t card = PTHREAD_MUTEX_INITIALIZER;
static const char *stall;
static uint64_t state;

__attribute__((constructor)) static void begin(void)
{
    const char *seed = getenv("SLOW_DISK_SEED");
    const char *hello = getenv("SLOW_DISK_HELLO");
    stall = getenv("SLOW_DISK_STALL");
    if (seed != NULL)
        /* Zero is where the generator below would stay for ever. */
        state = strtoull(seed, NULL, 10) * 0x9e3779b97f4a7c15u | 1;
    if (hello != NULL) {
        int file = open(hello, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
        if (file >= 0)
            close(file);
    }
}

/* xorshift64*, Vigna 2016 */
static unsigned draw(unsigned below)
{
    state ^= state >> 12;
    state ^= state << 25;
    state ^= state >> 27;
    return (unsigned)((state * 0x2545f4914f6cdd1du) >> 33) % below;
}

static unsigned drawn_ms(void)
{
    unsigned rank = draw(1000);
    if (rank < 940)
        return 20 + draw(21);
    if (rank < 990)
        return 200 + draw(100);
    return 300 + draw(201);
}

static void wait_ms(unsigned ms)
{
    struct timespec left = {ms / 1000, (long)(ms % 1000) * 1000000};
    while (nanosleep(&left, &left) != 0 && errno == EINTR) {
    }
}

static int sync_slowly(const char *name, int file)
{
    int (*real)(int);
    int result, reason;
    *(void **)&real = dlsym(RTLD_NEXT, name);
    pthread_mutex_lock(&card);
    while (stall != NULL && access(stall, F_OK) == 0)
        wait_ms(LOOK_MS);
    if (state != 0)
        wait_ms(drawn_ms());
    result = real(file);
    reason = errno;
    pthread_mutex_unlock(&card);
    errno = reason;
    return result;
}

int fsync(int file)
{
    return sync_slowly("fsync", file);
}

int fdatasync(int file)
{
    return sync_slowly("fdatasync", file);
}
