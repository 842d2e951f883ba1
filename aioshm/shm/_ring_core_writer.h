/* The writing side of the ring; ring.py has the theory, _ring_core.h what both sides share. */
#ifndef AIOSHM_RING_CORE_WRITER_H
#define AIOSHM_RING_CORE_WRITER_H

#include "_ring_core.h"

/* How far ahead of a full ring a parked writer may ask to be woken, in records. */
#define RING_WAKE_RECORDS 64u

/* A live reader and where it was at the last look. */
struct ring_live {
    uint64_t slot, read;
};

struct ring_writer {
    struct ring_map map;
    uint64_t position, number;
    uint64_t limit; /* no record may end beyond it before the next look at the readers */
    uint64_t wanted_end, wanted_size; /* of the record that found no room last */
    struct ring_live *live; /* the caller's, room for map.slots of them */
    uint64_t n_live;
    struct ring_live broken; /* who has an impossible cursor, and the cursor before it ... */
    uint64_t broken_read;    /* ... and that cursor */
};

/* Where a record may be put. */
struct ring_room {
    uint64_t position, size;
    unsigned char *at;
};

enum ring_answer { RING_NO, RING_YES, RING_BROKEN };

static inline void ring_writer_begin(struct ring_writer *w, uint64_t start)
{
    w->position = w->limit = w->wanted_end = start;
    w->number = w->wanted_size = w->n_live = 0;
    ring_store(ring_data_word(&w->map, w->map.written), start);
    ring_store(ring_data_word(&w->map, w->map.claim), start);
}

/* ---- room ------------------------------------------------------------------------------ */

/* Look at all live readers; RING_BROKEN if a cursor went backwards or beyond what is written. */
static inline enum ring_answer ring_look_at_cursors(struct ring_writer *w, uint64_t *slowest)
{
    *slowest = w->position;
    for (struct ring_live *each = w->live, *end = each + w->n_live; each < end; each++) {
        uint64_t read = ring_load_acquire(ring_cursor(&w->map, each->slot)); /* FREE */

        if (read < each->read || read > w->position) {
            w->broken = *each;
            w->broken_read = read;
            return RING_BROKEN;
        }
        each->read = read;
        if (read < *slowest)
            *slowest = read;
    }
    return RING_YES;
}

static inline enum ring_answer ring_look_for_room(struct ring_writer *w, uint64_t end,
                                                  uint64_t size)
{
    uint64_t limit;

    w->wanted_end = end;
    w->wanted_size = size;
    if (ring_look_at_cursors(w, &limit) == RING_BROKEN)
        return RING_BROKEN;
    limit += w->map.capacity;
    if (limit > w->limit) {
        ring_store(ring_data_word(&w->map, w->map.claim), limit); /* EVICT */
        ring_fence();                                             /* EVICT, FREE */
        w->limit = limit;
    }
    return end <= limit ? RING_YES : RING_NO;
}

/* Find room for a record of `size` bytes, at most a slot; a padding record goes before it if
 * the wrap is in the way. */
static inline enum ring_answer ring_find_room(struct ring_writer *w, uint64_t size,
                                              struct ring_room *room)
{
    uint64_t offset = w->position % w->map.capacity, left = w->map.capacity - offset;
    uint64_t padding = size > left ? left : 0, end = w->position + padding + size;
    unsigned char *ring = w->map.data + w->map.records;

    if (end > w->limit) {
        enum ring_answer found = ring_look_for_room(w, end, size);

        if (found != RING_YES)
            return found;
    }
    if (padding) {
        struct ring_header header = {.position = w->position,
                                     .blocks = (uint32_t)(padding / RING_ALIGN),
                                     .meta = 1u << 4 | w->map.padding};

        memcpy(ring + offset, &header, sizeof header);
        offset = 0;
    }
    room->position = w->position + padding;
    room->size = size;
    room->at = ring + offset;
    return RING_YES;
}

/* ---- writing --------------------------------------------------------------------------- */

/* Bytes of all frames together, as many as there can be if they are more. */
static inline uint64_t ring_total(const struct ring_frame *frames, uint64_t count)
{
    uint64_t total = 0;

    for (uint64_t i = 0; i < count; i++)
        total = frames[i].nbytes > UINT64_MAX - total ? UINT64_MAX : total + frames[i].nbytes;
    return total;
}

/* Bytes that a record takes in the ring; the frames' total is within the payload. */
static inline uint64_t ring_record_size(const struct ring_frame *frames, uint64_t count)
{
    uint64_t size = ring_first_frame(count) + frames[0].nbytes;

    for (uint64_t i = 1; i < count; i++)
        size = ring_aligned(size) + frames[i].nbytes;
    return ring_aligned(size);
}

static inline void ring_fill_header(const struct ring_writer *w, const struct ring_room *room,
                                    uint32_t kind, uint64_t count, uint64_t length)
{
    struct ring_header header = {.position = room->position,
                                 .blocks = (uint32_t)(room->size / RING_ALIGN),
                                 .meta = (uint32_t)count << 4 | kind,
                                 .number = w->number,
                                 .length = length};

    memcpy(room->at, &header, sizeof header);
}

/* Put a message where room was found. Touches nothing but that room, so that it may run while
 * other threads do something else. */
static inline void ring_fill(const struct ring_writer *w, const struct ring_room *room,
                             uint32_t kind, const struct ring_frame *frames, uint64_t count)
{
    unsigned char *table = room->at + sizeof(struct ring_header);
    uint64_t start = ring_first_frame(count);

    ring_fill_header(w, room, kind, count, frames[0].nbytes);
    for (uint64_t i = 0; i < count; i++) {
        if (i) {
            memcpy(table + sizeof(uint64_t) * (i - 1), &frames[i].nbytes, sizeof(uint64_t));
            start = ring_aligned(start);
        }
        if (frames[i].nbytes) /* an empty one may point nowhere */
            memcpy(room->at + start, frames[i].start, frames[i].nbytes);
        start += frames[i].nbytes;
    }
}

/* Eight flags at a time: each byte of an aligned load is read whole, and the fence before it
 * orders each of them. */
static inline bool ring_anybody_parked(const struct ring_writer *w)
{
    const ring_word *flags = (const ring_word *)(const void *)(w->map.control + w->map.parked);
    uint64_t any = 0;

    for (uint64_t i = 0; i < w->map.slots / 8; i++)
        any |= ring_load(&flags[i]); /* PARK-READER */
    return any != 0;
}

/* Publish what was filled in, up to `end`; true if somebody parked: then take_parked. */
static inline bool ring_publish(struct ring_writer *w, uint64_t end)
{
    w->position = end;
    w->number++;
    ring_store_release(ring_data_word(&w->map, w->map.written), end); /* PUBLISH */
    ring_fence();                                                     /* PARK-READER */
    return ring_anybody_parked(w);
}

static inline bool ring_is_live(const struct ring_writer *w, uint64_t slot)
{
    for (uint64_t i = 0; i < w->n_live; i++)
        if (w->live[i].slot == slot)
            return true;
    return false;
}

/* ---- waiting for room ------------------------------------------------------------------ */

/* Ask for a bell when there is room for the message last tried, and look again; RingWriter.arm
 * in ring_writer.py says where, and why there. */
static inline enum ring_answer ring_arm_writer(struct ring_writer *w)
{
    /* Counted from `base`, as positions may begin anywhere up to 2^64. */
    uint64_t base = w->position - w->map.capacity;
    int64_t enough = (int64_t)(w->wanted_end - w->position);
    int64_t far = (int64_t)(w->map.capacity / 4);
    int64_t records = (int64_t)(RING_WAKE_RECORDS * w->wanted_size);

    if (records < far)
        far = records;
    ring_store(ring_data_word(&w->map, w->map.wake_at), /* PARK-WRITER */
               base + (uint64_t)(enough > far ? enough : far));
    ring_fence();                                                 /* PARK-WRITER */
    return ring_look_for_room(w, w->wanted_end, w->wanted_size); /* PARK-WRITER */
}

static inline void ring_disarm_writer(struct ring_writer *w)
{
    ring_store(ring_data_word(&w->map, w->map.wake_at), 0);
}

/* Tell whether every reader passed the armed position, so that a bell is due. */
static inline enum ring_answer ring_writer_overdue(struct ring_writer *w)
{
    uint64_t wake_at = ring_load(ring_data_word(&w->map, w->map.wake_at)), slowest;

    if (!wake_at)
        return RING_NO;
    if (ring_look_at_cursors(w, &slowest) == RING_BROKEN)
        return RING_BROKEN;
    return w->n_live == 0 || slowest >= wake_at ? RING_YES : RING_NO;
}

/* ---- readers come and go --------------------------------------------------------------- */

static inline void ring_forget_live(struct ring_writer *w, uint64_t slot)
{
    for (uint64_t i = 0; i < w->n_live; i++)
        if (w->live[i].slot == slot) {
            w->n_live--;
            memmove(&w->live[i], &w->live[i + 1], (w->n_live - i) * sizeof *w->live);
            return;
        }
}

static inline void ring_admit(struct ring_writer *w, uint64_t slot)
{
    ring_store_flag(ring_evicted_flag(&w->map, slot), 0);
    ring_store_flag(ring_parked_flag(&w->map, slot), 0);
    ring_store_release(ring_cursor(&w->map, slot), w->position);
    ring_forget_live(w, slot);
    w->live[w->n_live++] = (struct ring_live){slot, w->position};
}

static inline void ring_forget(struct ring_writer *w, uint64_t slot)
{
    ring_forget_live(w, slot);
    ring_store_flag(ring_parked_flag(&w->map, slot), 0);
}

/* Go on without a reader that may still be there; true if it parked: then clear its flag and
 * ring. */
static inline bool ring_evict(struct ring_writer *w, uint64_t slot)
{
    ring_forget_live(w, slot);
    ring_store_flag(ring_evicted_flag(&w->map, slot), 1);     /* EVICT, PARK-READER */
    ring_fence();                                             /* EVICT, PARK-READER */
    return ring_load_flag(ring_parked_flag(&w->map, slot)) != 0; /* PARK-READER */
}

/* Say that nothing more will be written; true if somebody parked. */
static inline bool ring_close(struct ring_writer *w)
{
    ring_store_release(ring_data_word(&w->map, w->map.closed), 1); /* PARK-READER */
    ring_fence();                                                  /* PARK-READER */
    return ring_anybody_parked(w);
}

#endif
