/* A writer and its readers, each a thread, over ONE mapping: a race detector compares addresses,
 * and two mappings of the same memory would hide from it whatever they do to each other.
 *
 *   threads MESSAGES READERS spin|park|evict
 *
 * spin: nobody ever waits but by trying again; nothing but the ring itself orders the threads.
 * park: both sides arm, and sleep until the bell: a bell that is lost is a hang, and is reported.
 * evict: the writer throws out whoever is slow; each reader must notice before it believes a byte.
 *        An evicted reader's copy is a race by design, so this is not for ThreadSanitizer.
 */
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <time.h>

#include "memory.h"

#define MOST_READERS 8
#define PATIENCE 60 /* seconds without a bell that make a hang */

static struct ring_map map;
static uint64_t messages, n_readers;
static enum { SPIN, PARK, EVICT } how;
static sem_t writer_bell, bells[MOST_READERS];
static uint64_t starts[MOST_READERS], parks[MOST_READERS], n_evicted[MOST_READERS];

static void sleep_until_rung(sem_t *bell, const char *who, uint64_t number)
{
    struct timespec until;

    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += PATIENCE;
    if (sem_timedwait(bell, &until) < 0)
        fail(who, number);
}

static void ring_bells(struct ring_writer *writer)
{
    for (uint64_t slot = 0; slot < map.slots; slot++)
        if (ring_load_flag(ring_parked_flag(&map, slot))) {
            ring_store_flag(ring_parked_flag(&map, slot), 0);
            if (ring_is_live(writer, slot))
                sem_post(&bells[slot]);
        }
}

static void wait_for_room(struct ring_writer *writer)
{
    if (how == EVICT && writer->n_live > 1) {
        /* Throw out the slowest; the last one stays, to have read everything. */
        uint64_t slot = writer->live[0].slot, read = writer->live[0].read;

        for (uint64_t i = 1; i < writer->n_live; i++)
            if (writer->live[i].read < read) {
                slot = writer->live[i].slot;
                read = writer->live[i].read;
            }
        ring_evict(writer, slot);
        return;
    }
    if (how != PARK) {
        sched_yield();
        return;
    }
    if (ring_arm_writer(writer) == RING_NO)
        sleep_until_rung(&writer_bell, "the writer's bell is lost", writer->number);
    ring_disarm_writer(writer);
}

static void *write_all(void *argument)
{
    struct ring_writer *writer = argument;

    while (writer->number < messages) {
        struct ring_frame frames[MOST_FRAMES];
        uint64_t count = make_message(writer->number, frames);
        struct ring_room room;
        enum ring_answer found;

        while ((found = write_message(writer, frames, count, &room)) == RING_NO)
            wait_for_room(writer);
        if (found == RING_BROKEN)
            fail("an impossible cursor", writer->number);
        if (ring_publish(writer, room.position + room.size))
            ring_bells(writer);
        free_message(frames, count);
    }
    if (ring_close(writer))
        ring_bells(writer);
    return NULL;
}

static void *read_all(void *argument)
{
    struct ring_reader reader = {.map = map};
    uint64_t slot = (uint64_t)(uintptr_t)argument, number = 0;

    ring_reader_begin(&reader, slot, starts[slot]);
    for (;;) {
        bool good = false, closed = ring_is_closed(&reader);
        enum ring_read found = read_message(&reader, number, &good);

        if (found == RING_THERE) {
            if (!good)
                fail("wrong bytes", number);
            number++;
            if (reader.owed) {
                reader.owed = 0;
                sem_post(&writer_bell);
            }
        } else if (found == RING_EVICTED && how == EVICT) {
            n_evicted[slot] = 1;
            return NULL;
        } else if (found != RING_EMPTY) {
            fail("no message where one should be", number);
        } else if (closed) {
            if (number != messages)
                fail("the end came too early", number);
            return NULL;
        } else if (how != PARK) {
            sched_yield();
        } else {
            if (!ring_arm_reader(&reader)) {
                parks[slot]++;
                sleep_until_rung(&bells[slot], "a reader's bell is lost", number);
            }
            ring_disarm_reader(&reader);
        }
    }
}

int main(int argc, char **argv)
{
    struct ring_live live[MOST_READERS];
    struct ring_writer writer = {.live = live};
    pthread_t threads[MOST_READERS + 1];
    uint64_t n_parks = 0, evictions = 0;

    if (argc != 4)
        return 2;
    messages = strtoull(argv[1], NULL, 10);
    n_readers = strtoull(argv[2], NULL, 10) % (MOST_READERS + 1);
    how = argv[3][0] == 'p' ? PARK : argv[3][0] == 'e' ? EVICT : SPIN;
    map = writer.map = new_memory();
    sem_init(&writer_bell, 0, 0);
    ring_writer_begin(&writer, 0);
    for (uint64_t i = 0; i < n_readers; i++) {
        sem_init(&bells[i], 0, 0);
        ring_admit(&writer, i);
        starts[i] = writer.position;
    }
    for (uint64_t i = 0; i < n_readers; i++)
        pthread_create(&threads[i], NULL, read_all, (void *)(uintptr_t)i);
    pthread_create(&threads[n_readers], NULL, write_all, &writer);
    for (uint64_t i = 0; i <= n_readers; i++)
        pthread_join(threads[i], NULL);
    for (uint64_t i = 0; i < n_readers; i++) {
        n_parks += parks[i];
        evictions += n_evicted[i];
    }
    printf("%s: %llu messages to %llu readers, %llu parked, %llu evicted\n", argv[3],
           (unsigned long long)messages, (unsigned long long)n_readers,
           (unsigned long long)n_parks, (unsigned long long)evictions);
    free_memory(&map);
    return 0;
}
