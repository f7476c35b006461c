/* Lost wake-ups: producers post one job at a time and wait for it, with pauses of every length in between, so that posts fall
   before, into and behind the moment at which the consumer goes to sleep. One that is not run in time is a lost wake-up.
   How often the consumer did sleep is what the kernel counted of its voluntary context switches.
   A consumer is a server's loop or the thread that drains a queue. By default it is woken at once and takes the producer's
   place on its processor, in the middle of the post; a calm one waits until a processor is free.
   usage: wake MILLIONS SECONDS_OF_PATIENCE loop|queue|calm-loop|calm-queue... */
#ifndef WSSERVER_TESTED
#define WSSERVER_TESTED "../../wsserver.h"
#endif
#define WSSERVER_STATIC
#define WSSERVER_IMPLEMENTATION
#include WSSERVER_TESTED

#include <sched.h>

enum {
    PRODUCERS = 2, /* of each consumer: what one posts while the other's job is taken is the hard case */
    CONSUMERS = 16
};

typedef struct consumer {
    wss_server *server; /* or */
    wss_queue *queue;
    pthread_t thread;
    long slept;
} consumer;

typedef struct producer {
    consumer *to;
    pthread_t thread;
    long posts;
    long waited;  /* posts that were not run while the producer was spinning */
    long patience;
    int spins; /* until it sleeps too */
    unsigned seed;
    char gap[64]; /* the next field is alone in its cache line */
    long run;     /* atomic */
} producer;

static int lost; /* atomic */

static void stay_awake(void) {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#else
    __asm__ volatile("" ::: "memory");
#endif
}

static unsigned next_random(unsigned *seed) {
    *seed ^= *seed << 13;
    *seed ^= *seed >> 17;
    *seed ^= *seed << 5;
    return *seed;
}

static long seconds_now(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (long)now.tv_sec;
}

static void run_one(void *arg) {
    producer *p = (producer *)arg;
    __atomic_store_n(&p->run, p->run + 1, __ATOMIC_RELEASE);
}

static void count_sleeps(void *arg) {
    struct rusage usage;
    getrusage(RUSAGE_THREAD, &usage);
    __atomic_store_n((long *)arg, usage.ru_nvcsw, __ATOMIC_RELEASE);
}

static int post(consumer *to, void (*function)(void *), void *arg) {
    return to->server ? wss_post(to->server, function, arg) : wss_queue_post(to->queue, function, arg);
}

/* False if the post number n of this producer has not been run after all its patience. */
static int await(producer *p, long n) {
    for (int i = 0; i < p->spins; i++) {
        if (__atomic_load_n(&p->run, __ATOMIC_ACQUIRE) == n) return 1;
        stay_awake();
    }
    p->waited++;
    long until = seconds_now() + p->patience + 1;
    for (long yields = 0;; yields++) {
        if (__atomic_load_n(&p->run, __ATOMIC_ACQUIRE) == n) return 1;
        if (__atomic_load_n(&lost, __ATOMIC_RELAXED)) return 0;
        if (yields % 4096 == 4095 && seconds_now() > until) return 0;
        sched_yield();
    }
}

static void *produce(void *arg) {
    producer *p = (producer *)arg;
    for (long n = 1; n <= p->posts; n++) {
        unsigned pause = next_random(&p->seed);
        for (unsigned i = (pause >> 8) % (pause & 15 ? 4 : 64); i > 0; i--) stay_awake();
        if (post(p->to, run_one, p) == WSS_OK && await(p, n)) continue;
        if (!__atomic_exchange_n(&lost, 1, __ATOMIC_RELAXED))
            printf("post %ld of %ld was not run: a wake-up is lost\n", n, p->posts);
        return NULL;
    }
    return NULL;
}

static void *drain(void *arg) {
    wss_queue_run((wss_queue *)arg);
    return NULL;
}

/* The threads that are made from here on have this policy. */
static void be_calm(int calm) {
    struct sched_param none;
    memset(&none, 0, sizeof none);
    sched_setscheduler(0, calm ? SCHED_BATCH : SCHED_OTHER, &none);
}

static int begin(consumer *c, int with_queue) {
    wss_options options;
    memset(&options, 0, sizeof options);
    options.address = "127.0.0.1";
    memset(c, 0, sizeof *c);
    if (with_queue) {
        c->queue = wss_queue_create(&options, NULL);
        return c->queue && pthread_create(&c->thread, NULL, drain, c->queue) == 0;
    }
    c->server = wss_create(&options, NULL);
    return c->server && wss_start(c->server) == WSS_OK;
}

static void end(consumer *c) {
    long slept = -1;
    if (post(c, count_sleeps, &slept) == WSS_OK)
        while (__atomic_load_n(&slept, __ATOMIC_ACQUIRE) < 0) sched_yield();
    c->slept = slept;
    if (c->queue) {
        wss_queue_stop(c->queue);
        pthread_join(c->thread, NULL);
        wss_queue_destroy(c->queue);
    } else {
        wss_destroy(c->server);
    }
}

static int begin_producers(consumer *c, producer *producers, long posts, long patience, int spins) {
    static unsigned seed = 2463534242u;
    for (int i = 0; i < PRODUCERS; i++) {
        producer *p = &producers[i];
        p->to = c;
        p->posts = posts;
        p->patience = patience;
        p->spins = spins;
        p->seed = seed += 7919u;
        if (pthread_create(&p->thread, NULL, produce, p) != 0) return 0;
    }
    return 1;
}

int main(int argc, char **argv) {
    static consumer consumers[CONSUMERS];
    static producer producers[CONSUMERS][PRODUCERS];
    double millions = argc > 1 ? strtod(argv[1], NULL) : 10;
    long patience = argc > 2 ? strtol(argv[2], NULL, 10) : 10;
    int count = argc - 3 < CONSUMERS ? argc - 3 : CONSUMERS;
    long posts = 0;
    long waited = 0;
    long slept = 0;
    for (int i = 0; i < count; i++) {
        const char *name = argv[3 + i];
        int calm = strncmp(name, "calm-", 5) == 0;
        long share = (long)(millions * 1e6) / count / PRODUCERS;
        be_calm(calm);
        if (!begin(&consumers[i], strcmp(name + 5 * calm, "queue") == 0)) return 2;
        if (!begin_producers(&consumers[i], producers[i], share, patience, calm ? 4 : 64)) return 2;
    }
    for (int i = 0; i < count * PRODUCERS; i++) {
        producer *p = &producers[i / PRODUCERS][i % PRODUCERS];
        pthread_join(p->thread, NULL);
        posts += p->run;
        waited += p->waited;
    }
    if (lost) return 1; /* a consumer that sleeps for ever cannot be asked */
    for (int i = 0; i < count; i++) end(&consumers[i]);
    for (int i = 0; i < count; i++) slept += consumers[i].slept;
    printf("wake: %ld single posts, each awaited, to %d threads that slept %ld times; 0 lost\n", posts, count, slept);
    return slept < posts / 100 || !waited; /* too little sleep proves too little */
}
