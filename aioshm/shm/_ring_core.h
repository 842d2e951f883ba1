/* The ring over raw pointers: shared words, the map of the segments, records.
 *
 * ring.py has the theory and the five tags; these headers say the same in C11, and know
 * nothing of Python, so that the sanitizers can run them in a program of their own. Where
 * they differ from the Python ring:
 *
 *   - The cursors are loaded with acquire, and claim, closed and the parked flags stored as
 *     there, relaxed before a fence. An acquire costs nothing on x86-64 and little elsewhere,
 *     and ThreadSanitizer, which does not know fences, sees FREE only by it.
 *   - An evicted reader copies bytes that are being overwritten, and finds out afterwards
 *     (EVICT). In the letter of C11 that is a race of plain accesses. Every number it acts
 *     upon comes from one atomic load, and the bytes are thrown away unseen.
 *
 * No offset is written down here. layout.py names them, and a ring_map carries them.
 */
#ifndef AIOSHM_RING_CORE_H
#define AIOSHM_RING_CORE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

typedef _Atomic uint64_t ring_word;
typedef _Atomic uint32_t ring_half;
typedef _Atomic uint8_t ring_flag;

/* An atomic that is made of a lock has it in this process alone. */
_Static_assert(ATOMIC_LLONG_LOCK_FREE == 2 && ATOMIC_INT_LOCK_FREE == 2, "no lock-free words");
_Static_assert(ATOMIC_CHAR_LOCK_FREE == 2, "no lock-free flags");
_Static_assert(sizeof(ring_word) == 8 && sizeof(ring_half) == 4 && sizeof(ring_flag) == 1,
               "an atomic is larger than what it holds");

/* ---- ordering.py, in C11 ------------------------------------------------------------- */

static inline uint64_t ring_load(const ring_word *word)
{
    return atomic_load_explicit(word, memory_order_relaxed);
}

static inline uint64_t ring_load_acquire(const ring_word *word)
{
    return atomic_load_explicit(word, memory_order_acquire);
}

static inline void ring_store(ring_word *word, uint64_t value)
{
    atomic_store_explicit(word, value, memory_order_relaxed);
}

static inline void ring_store_release(ring_word *word, uint64_t value)
{
    atomic_store_explicit(word, value, memory_order_release);
}

static inline uint8_t ring_load_flag(const ring_flag *flag)
{
    return atomic_load_explicit(flag, memory_order_relaxed);
}

static inline void ring_store_flag(ring_flag *flag, uint8_t value)
{
    atomic_store_explicit(flag, value, memory_order_relaxed);
}

static inline void ring_fence(void)
{
    atomic_thread_fence(memory_order_seq_cst);
}

static inline void ring_fence_loads(void)
{
    atomic_thread_fence(memory_order_acquire);
}

/* ---- the map --------------------------------------------------------------------------- */

#define RING_ALIGN 64u

/* Two segments and where all is in them: layout.py's names, in bytes. */
struct ring_map {
    unsigned char *data, *control;
    uint64_t data_bytes, control_bytes;
    uint64_t written, claim, wake_at, closed, evicted, records; /* in data */
    uint64_t parked, cursors, stride;                           /* in control */
    uint64_t payload, slot, capacity, slots;
    uint32_t padding; /* the kind of a padding record */
    uint32_t kinds;   /* the kinds of messages, one bit each */
    uint32_t marker;  /* the kind of a marker, which has one frame ... */
    uint64_t marker_bytes; /* ... of this length */
};

static inline bool ring_word_fits(uint64_t at, uint64_t nbytes)
{
    return at % sizeof(ring_word) == 0 && nbytes >= sizeof(ring_word) &&
           at <= nbytes - sizeof(ring_word);
}

/* Tell whether everything the map names lies inside the segments. What follows relies on it:
 * it is the one place where a size that another process sent is compared with the memory. */
static inline bool ring_map_fits(const struct ring_map *map)
{
    const uint64_t most = (uint64_t)1 << 48; /* no sum or product below can overflow */
    const uint64_t slots = map->slots, data = map->data_bytes, control = map->control_bytes;

    if ((uintptr_t)map->data % RING_ALIGN || (uintptr_t)map->control % RING_ALIGN || data > most ||
        control > most || slots == 0 || slots % 8 || slots > 1u << 20 || map->stride > 1u << 20)
        return false;
    if (!ring_word_fits(map->written, data) || !ring_word_fits(map->claim, data) ||
        !ring_word_fits(map->wake_at, data) || !ring_word_fits(map->closed, data))
        return false;
    if (map->evicted > data || slots > data - map->evicted || map->parked % 8 ||
        map->parked > control || slots > control - map->parked)
        return false;
    if (map->cursors > control || map->stride % sizeof(ring_word) ||
        map->stride < sizeof(ring_word) ||
        !ring_word_fits(map->cursors + map->stride * (slots - 1), control))
        return false;
    if (map->records % RING_ALIGN || map->capacity % RING_ALIGN || map->slot % RING_ALIGN ||
        map->records > data || map->capacity > data - map->records)
        return false;
    /* No record exceeds half of the ring, or an empty one could refuse it for ever. */
    return map->slot > 0 && map->slot <= map->capacity / 2 && map->payload < map->slot;
}

static inline ring_word *ring_data_word(const struct ring_map *map, uint64_t at)
{
    return (ring_word *)(void *)(map->data + at);
}

static inline ring_flag *ring_evicted_flag(const struct ring_map *map, uint64_t slot)
{
    return (ring_flag *)(map->data + map->evicted + slot);
}

static inline ring_flag *ring_parked_flag(const struct ring_map *map, uint64_t slot)
{
    return (ring_flag *)(map->control + map->parked + slot);
}

static inline ring_word *ring_cursor(const struct ring_map *map, uint64_t slot)
{
    return (ring_word *)(void *)(map->control + map->cursors + map->stride * slot);
}

/* ---- records --------------------------------------------------------------------------- */

/* layout.py's HEADER; _ring.c compares the two when it is imported. */
struct ring_header {
    uint64_t position;
    uint32_t blocks; /* of 64 bytes */
    uint32_t meta;   /* frames << 4 | kind */
    uint64_t number;
    uint64_t length; /* of frame 0; the others' follow the header */
};
_Static_assert(sizeof(struct ring_header) == 32, "the header has a hole");

/* One run of bytes: a frame on its way in or out. */
struct ring_frame {
    const unsigned char *start;
    uint64_t nbytes;
};

static inline uint64_t ring_aligned(uint64_t nbytes)
{
    return (nbytes + (RING_ALIGN - 1)) & ~(uint64_t)(RING_ALIGN - 1);
}

/* Offset of the first frame in a record of so many. */
static inline uint64_t ring_first_frame(uint64_t count)
{
    return sizeof(struct ring_header) + sizeof(uint64_t) * (count - 1);
}

#endif
