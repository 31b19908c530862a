/* Threads that only are: libgomp then manages more of them than there are processors. See _neighbours.py. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#ifdef _OPENMP
#include <omp.h>

typedef struct {
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t over;
    int threads, released, met;
} Held;

static void *hold(void *given)
{
    Held *held = given;
#pragma omp parallel num_threads(held->threads)
    {
#pragma omp atomic
        held->met++; /* a region that does nothing might be left out, and its threads never be made */
    }
    pthread_mutex_lock(&held->lock);
    while (!held->released) pthread_cond_wait(&held->over, &held->lock);
    pthread_mutex_unlock(&held->lock);
    return NULL; /* with which libgomp ends this thread's own pool */
}

static int by_libgomp(void)
{
    Dl_info found;
    return dladdr((void *)omp_get_num_procs, &found) && found.dli_fname && strstr(found.dli_fname, "gomp");
}

/* As many threads as make libgomp, beside `threads` that it has, manage one more than there are processors. 1 and what
   spikeproof_release takes; 0 where there is another runtime, no such thread, or no need of one. */
int32_t spikeproof_hold(int32_t threads, void **handle)
{
    const int more = omp_get_num_procs() - threads + 2; /* one of them is the holder's own, which is not counted */
    if (more < 2 || !by_libgomp()) return 0;
    Held *held = calloc(1, sizeof *held);
    if (!held) return 0;
    held->threads = more;
    pthread_mutex_init(&held->lock, NULL);
    pthread_cond_init(&held->over, NULL);
    sigset_t all, before; /* signals are for the threads of the user */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    const int failed = pthread_create(&held->thread, NULL, hold, held);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (failed) {
        free(held);
        return 0;
    }
    *handle = held;
    return 1;
}

int32_t spikeproof_release(void *handle)
{
    Held *held = handle;
    pthread_mutex_lock(&held->lock);
    held->released = 1;
    pthread_cond_signal(&held->over);
    pthread_mutex_unlock(&held->lock);
    pthread_join(held->thread, NULL);
    pthread_mutex_destroy(&held->lock);
    pthread_cond_destroy(&held->over);
    free(held);
    return 1;
}
#else
int32_t spikeproof_hold(int32_t threads, void **handle) { return 0; }
int32_t spikeproof_release(void *handle) { return 0; }
#endif
