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

#define SPARE 8 /* threads that must be left to others */

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

static void *pass(void *gate)
{
    pthread_mutex_lock(gate);
    pthread_mutex_unlock(gate);
    return NULL;
}

/* Whether so many threads can be at once. libgomp ends the process where one of its own cannot be made: within a limit
   of a user's or a container's processes, say. */
static int room_for(int threads)
{
    pthread_mutex_t gate = PTHREAD_MUTEX_INITIALIZER;
    pthread_t *made = malloc(threads * sizeof *made);
    int count = 0;
    if (!made) return 0;
    pthread_mutex_lock(&gate);
    while (count < threads && !pthread_create(&made[count], NULL, pass, &gate)) count++;
    pthread_mutex_unlock(&gate);
    for (int i = 0; i < count; i++) pthread_join(made[i], NULL);
    free(made);
    return count == threads;
}

static int by_libgomp(void)
{
    Dl_info found;
    return dladdr((void *)omp_get_num_procs, &found) && found.dli_fname && strstr(found.dli_fname, "gomp");
}

static Held *held_by_one(int threads)
{
    Held *held = calloc(1, sizeof *held);
    if (!held) return NULL;
    held->threads = threads;
    pthread_mutex_init(&held->lock, NULL);
    pthread_cond_init(&held->over, NULL);
    if (!pthread_create(&held->thread, NULL, hold, held)) return held;
    free(held);
    return NULL;
}

/* As many threads as make libgomp, beside `threads` that it has, manage one more than there are processors. 1 and what
   spikeproof_release takes; 0 where there is another runtime, no room for such threads, or no need of them. */
int32_t spikeproof_hold(int32_t threads, void **handle)
{
    const int more = omp_get_num_procs() - threads + 2; /* one of them is the holder's own, which is not counted */
    if (more < 2 || !by_libgomp()) return 0;
    sigset_t all, before; /* signals are for the threads of the user */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    *handle = room_for(more + SPARE) ? held_by_one(more) : NULL;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return *handle != NULL;
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
