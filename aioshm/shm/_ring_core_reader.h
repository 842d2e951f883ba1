/* The reading side of the ring; ring.py has the theory, _ring_core.h what both sides share.
 *
 * Every number that comes from the segments is loaded once, into a local, and checked before it
 * leads anywhere: whatever the memory holds, and however it changes meanwhile, a reader stays
 * inside the ring and comes back.
 */
#ifndef AIOSHM_RING_CORE_READER_H
#define AIOSHM_RING_CORE_READER_H

#include "_ring_core.h"

struct ring_reader {
    struct ring_map map;
    uint64_t slot, position, number;
    uint64_t written;  /* where it was at the last look */
    uint64_t told;     /* the writer knows us here: what a store has to cross starts from it */
    uint64_t found[4]; /* what stands where no record is: position, size, frames, kind */
    char owed;
};

/* A message in the ring, and how far its frames have been gone through. */
struct ring_record {
    const unsigned char *at;
    uint64_t size, end, number, count, next, length, stop;
    uint32_t kind;
};

enum ring_read {
    RING_EMPTY,
    RING_THERE,
    RING_EVICTED,     /* the writer went on without us */
    RING_OVERWRITTEN, /* it went on without knowing it: somebody moved our cursor */
    RING_NO_RECORD,   /* `found` is no header */
    RING_NO_END,      /* found[0] is no possible end of what is written */
};

static inline void ring_reader_begin(struct ring_reader *r, uint64_t slot, uint64_t position)
{
    r->slot = slot;
    r->position = r->written = r->told = position;
    r->number = 0;
    r->owed = 0;
}

/* Tell whether the bytes at `position` are still ours, and if not, why. */
static inline enum ring_read ring_still_ours(const struct ring_reader *r)
{
    uint64_t ours = r->position + r->map.capacity;
    bool evicted, passed;

    ring_fence_loads();                                                 /* EVICT */
    evicted = ring_load_flag(ring_evicted_flag(&r->map, r->slot)) != 0; /* EVICT */
    /* By the difference, as positions may begin anywhere up to 2^64. */
    passed = (int64_t)(ring_load(ring_data_word(&r->map, r->map.claim)) - ours) > 0; /* EVICT */
    if (passed && !evicted) {
        /* A claim that moved over an evicted reader's place was seen before the eviction that
         * let it: without the fence the reason given could be the wrong one. */
        ring_fence_loads(); /* EVICT */
        evicted = ring_load_flag(ring_evicted_flag(&r->map, r->slot)) != 0;
    }
    return evicted ? RING_EVICTED : passed ? RING_OVERWRITTEN : RING_THERE;
}

/* Say why there is no record: what was read may have been overwritten, and then it is no error
 * of the segment. */
static inline enum ring_read ring_why(const struct ring_reader *r, enum ring_read otherwise)
{
    enum ring_read ours = ring_still_ours(r);

    return ours == RING_THERE ? otherwise : ours;
}

static inline enum ring_read ring_no_record(struct ring_reader *r, uint64_t there, uint64_t size,
                                            uint64_t count, uint64_t kind)
{
    r->found[0] = there;
    r->found[1] = size;
    r->found[2] = count;
    r->found[3] = kind;
    return ring_why(r, RING_NO_RECORD);
}

static inline enum ring_read ring_look_for_written(struct ring_reader *r)
{
    uint64_t written;

    if (ring_load_flag(ring_evicted_flag(&r->map, r->slot)))
        return RING_EVICTED;
    written = ring_load_acquire(ring_data_word(&r->map, r->map.written)); /* PUBLISH */
    /* A whole number of blocks, or what lies between would not be made of records. */
    if (written - r->position > r->map.capacity || written % RING_ALIGN) {
        r->found[0] = written;
        return ring_why(r, RING_NO_END);
    }
    r->written = written;
    return written == r->position ? RING_EMPTY : RING_THERE;
}

/* Find the next message, past a padding record. Its frames are checked one by one as
 * ring_next_frame gives them. */
static inline enum ring_read ring_find(struct ring_reader *r, struct ring_record *record)
{
    uint64_t position = r->position;

    if (position == r->written) {
        enum ring_read look = ring_look_for_written(r);

        if (look != RING_THERE)
            return look;
    }
    for (;;) {
        uint64_t offset = position % r->map.capacity, ahead = r->written - position;
        const unsigned char *at = r->map.data + r->map.records + offset;
        const struct ring_header *header = (const struct ring_header *)(const void *)at;
        uint64_t there = ring_load((const ring_word *)&header->position);
        uint64_t size = (uint64_t)atomic_load_explicit((const ring_half *)&header->blocks,
                                                       memory_order_relaxed) * RING_ALIGN;
        uint32_t meta = atomic_load_explicit((const ring_half *)&header->meta,
                                             memory_order_relaxed);
        uint64_t length = ring_load((const ring_word *)&header->length);
        uint32_t kind = meta & 15, count = meta >> 4;

        if (there == position && size > 0 && size <= ahead && size <= r->map.capacity - offset) {
            if (kind == r->map.padding && count == 1 && length == 0 && size < ahead) {
                position += size;
                continue;
            }
            bool known = r->map.kinds >> kind & 1 ||
                         (kind == r->map.marker && count == 1 && length == r->map.marker_bytes);

            if (known && count >= 1 && count <= size / sizeof(uint64_t)) {
                record->at = at;
                record->size = size;
                record->end = position + size;
                record->number = ring_load((const ring_word *)&header->number);
                record->count = count;
                record->next = 0;
                record->length = length;
                record->stop = ring_first_frame(count);
                record->kind = kind;
                return RING_THERE;
            }
        }
        return ring_no_record(r, there, size, count, kind);
    }
}

/* Give the next frame of a record; RING_EMPTY behind the last. If it does not fit, or the last
 * does not end where the record does, it is no record. */
static inline enum ring_read ring_next_frame(struct ring_reader *r, struct ring_record *record,
                                             struct ring_frame *frame)
{
    uint64_t start, length, stop;

    if (record->next == record->count)
        return RING_EMPTY;
    if (record->next == 0) {
        start = record->stop;
        length = record->length;
    } else {
        const unsigned char *table = record->at + sizeof(struct ring_header);

        start = ring_aligned(record->stop);
        length = ring_load((const ring_word *)(const void *)table + (record->next - 1));
    }
    stop = start + length;
    record->next++;
    if (start > record->size || length > record->size - start ||
        (record->next == record->count && ring_aligned(stop) != record->size))
        return ring_no_record(r, record->end - record->size, record->size, record->count,
                              record->kind);
    record->stop = stop;
    frame->start = record->at + start;
    frame->nbytes = length;
    return RING_THERE;
}

/* Free the place of a message that was copied, or used where it lies; RING_THERE, or why its
 * bytes are none. */
static inline enum ring_read ring_free(struct ring_reader *r, uint64_t end, uint64_t number)
{
    enum ring_read ours = ring_still_ours(r);
    uint64_t wake_at;

    if (ours != RING_THERE)
        return ours;
    r->position = end;
    /* The copy above is the last touch of the record. Not before the look at claim: from here on
     * the writer may move it over this very record, and rightly. */
    ring_store_release(ring_cursor(&r->map, r->slot), end); /* FREE, PARK-WRITER */
    ring_fence();                                           /* PARK-WRITER */
    wake_at = ring_load(ring_data_word(&r->map, r->map.wake_at)); /* PARK-WRITER */
    if (r->told < wake_at && wake_at <= end)
        r->owed = 1; /* only the store that crosses it rings; any later one would ring again */
    r->told = end;
    r->number = number + 1;
    return RING_THERE;
}

/* ---- waiting for a message ------------------------------------------------------------- */

static inline bool ring_is_closed(const struct ring_reader *r)
{
    return ring_load_acquire(ring_data_word(&r->map, r->map.closed)) != 0;
}

/* Tell whether the chunk at `position` is published; nothing is read on its strength. */
static inline bool ring_is_written(const struct ring_reader *r)
{
    return r->position < ring_load(ring_data_word(&r->map, r->map.written));
}

/* Ask for a bell at the next message, close or eviction; true if there is something already. */
static inline bool ring_arm_reader(struct ring_reader *r)
{
    ring_store_flag(ring_parked_flag(&r->map, r->slot), 1); /* PARK-READER */
    ring_fence();                                           /* PARK-READER */
    return ring_is_written(r) || ring_is_closed(r) ||       /* PARK-READER */
           ring_load_flag(ring_evicted_flag(&r->map, r->slot)) != 0; /* PARK-READER */
}

static inline void ring_disarm_reader(struct ring_reader *r)
{
    ring_store_flag(ring_parked_flag(&r->map, r->slot), 0);
}

/* Store the cursor once more: had another process scribbled an older one over it, the writer would
 * wait for us, and we for the writer. */
static inline void ring_repeat(struct ring_reader *r)
{
    ring_store_release(ring_cursor(&r->map, r->slot), r->position);
}

/* Tell whether the flag still stands although there is a message: a bell is due. */
static inline bool ring_reader_overdue(const struct ring_reader *r)
{
    return ring_load_flag(ring_parked_flag(&r->map, r->slot)) != 0 && ring_is_written(r);
}

#endif
