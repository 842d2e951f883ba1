/* Two segments on the heap, exactly as large as layout.py says, so that a sanitizer sees the first
 * byte outside; and messages that say themselves what they hold.
 *
 * layout.h is made by .ci/sanitize from layout.py: the map of one ring, and the kinds.
 */
#ifndef MEMORY_H
#define MEMORY_H

#include <stdio.h>
#include <stdlib.h>

#include "_ring_core_reader.h"
#include "_ring_core_writer.h"
#include "layout.h"

#define MOST_FRAMES 3

static inline void fail(const char *what, uint64_t number)
{
    fprintf(stderr, "%s (message %llu)\n", what, (unsigned long long)number);
    abort();
}

static inline struct ring_map new_memory(void)
{
    struct ring_map map = LAYOUT;

    map.data = aligned_alloc(RING_ALIGN, map.data_bytes);
    map.control = aligned_alloc(RING_ALIGN, map.control_bytes);
    if (!map.data || !map.control || !ring_map_fits(&map))
        fail("no memory, or the map does not fit it", 0);
    memset(map.data, 0, map.data_bytes);
    memset(map.control, 0, map.control_bytes);
    return map;
}

static inline void free_memory(struct ring_map *map)
{
    free(map->data);
    free(map->control);
}

/* xorshift64: the same numbers on every run. */
static inline uint64_t any(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

static inline unsigned char byte_of(uint64_t number, uint64_t frame, uint64_t at)
{
    return (unsigned char)(number * 31 + frame * 7 + at * 3 + (at >> 8));
}

/* Frames of message `number`, in fresh memory: some empty, some large, sometimes several. */
static inline uint64_t make_message(uint64_t number, struct ring_frame *frames)
{
    uint64_t state = number * 0x9e3779b97f4a7c15u + 1, count = 1 + any(&state) % MOST_FRAMES;
    uint64_t most = any(&state) % 16 ? 96 : LAYOUT.payload / MOST_FRAMES;

    for (uint64_t i = 0; i < count; i++) {
        uint64_t nbytes = any(&state) % (most + 1);
        unsigned char *bytes = malloc(nbytes ? nbytes : 1);

        for (uint64_t at = 0; at < nbytes; at++)
            bytes[at] = byte_of(number, i, at);
        frames[i] = (struct ring_frame){bytes, nbytes};
    }
    return count;
}

static inline void free_message(struct ring_frame *frames, uint64_t count)
{
    for (uint64_t i = 0; i < count; i++)
        free((void *)frames[i].start);
}

/* Write one message, as _ring_writer.c does. */
static inline enum ring_answer write_message(struct ring_writer *writer,
                                             const struct ring_frame *frames, uint64_t count,
                                             struct ring_room *room)
{
    enum ring_answer found = ring_find_room(writer, ring_record_size(frames, count), room);

    if (found == RING_YES)
        ring_fill(writer, room, OBJECT, frames, count);
    return found;
}

/* Copy one message out, as _ring_reader.c does. `good` tells whether it is message `number`. */
static inline enum ring_read read_message(struct ring_reader *reader, uint64_t number, bool *good)
{
    struct ring_record record;
    struct ring_frame frame, expected[MOST_FRAMES];
    enum ring_read found = ring_find(reader, &record);
    uint64_t count;

    if (found != RING_THERE)
        return found;
    count = make_message(number, expected);
    *good = record.number == number && record.kind == OBJECT && record.count == count;
    while ((found = ring_next_frame(reader, &record, &frame)) == RING_THERE) {
        unsigned char *copy = malloc(frame.nbytes ? frame.nbytes : 1);
        const struct ring_frame *wanted = &expected[(record.next - 1) % MOST_FRAMES];

        memcpy(copy, frame.start, frame.nbytes);
        *good = *good && frame.nbytes == wanted->nbytes &&
                memcmp(copy, wanted->start, frame.nbytes) == 0;
        free(copy);
    }
    free_message(expected, count);
    return found == RING_EMPTY ? ring_free(reader, record.end, record.number) : found;
}

#endif
