/* A writer and a reader at work while somebody scribbles over both segments: every call returns,
 * and none leaves the segments.
 *
 *   mutations COUNT alone|beside
 *
 * alone: a mutation, then a call, and so on, the same on every run.
 * beside: another thread scribbles without a pause, so that memory changes within the calls.
 */
#include <pthread.h>

#include "memory.h"

static struct ring_map map;
static atomic_bool over;
static _Atomic uint64_t made;

static uint64_t value(uint64_t *state)
{
    const uint64_t telling[] = {0, 1, 31, 63, 64, 65, 1u << 4 | OBJECT, 1u << 4 | RAW,
                                1u << 4 | PADDING, 2u << 4 | OBJECT, UINT32_MAX, INT64_MAX,
                                (uint64_t)1 << 63, UINT64_MAX, UINT64_MAX - 63,
                                map.capacity, map.capacity + 64, map.capacity - 64, map.slot};
    uint64_t pick = any(state) % (sizeof telling / sizeof *telling + 8);

    if (pick < sizeof telling / sizeof *telling)
        return telling[pick];
    return any(state) % (any(state) % 2 ? 64 : 2 * map.capacity);
}

/* Make a header agree with itself on a size of its own, as no accident does. */
static void forge(uint64_t *state)
{
    uint64_t blocks = 1 + any(state) % (map.capacity / RING_ALIGN);
    unsigned char *at = map.data + map.records + any(state) % (map.capacity / 64) * 64;
    struct ring_header *header = (struct ring_header *)(void *)at;

    atomic_store_explicit((ring_half *)&header->blocks, (uint32_t)blocks, memory_order_relaxed);
    atomic_store_explicit((ring_half *)&header->meta, 1u << 4 | OBJECT, memory_order_relaxed);
    ring_store((ring_word *)&header->length,
               blocks * RING_ALIGN - sizeof *header - any(state) % 32);
    made++;
}

/* Change one place: a bit, a byte, a half or a whole word; mostly where something is read. */
static void mutate(uint64_t *state)
{
    bool control = any(state) % 3 == 0;
    unsigned char *segment = control ? map.control : map.data;
    uint64_t nbytes = control ? map.control_bytes : map.data_bytes, at;

    if (any(state) % 8 == 0) {
        forge(state);
        return;
    }
    switch (any(state) % 4) {
    case 0: /* the shared words, or the first cursors */
        at = any(state) % (control ? map.cursors + 8 : map.records) & ~(uint64_t)7;
        break;
    case 1: /* anywhere */
        at = any(state) % nbytes;
        break;
    default: /* near the beginning of some record */
        at = control ? map.parked + any(state) % map.slots
                     : map.records + any(state) % (map.capacity / 64) * 64 + any(state) % 48;
        break;
    }
    switch (any(state) % 4) {
    case 0:
        atomic_fetch_xor((ring_flag *)(segment + at), (uint8_t)(1u << any(state) % 8));
        break;
    case 1:
        ring_store_flag((ring_flag *)(segment + at), (uint8_t)any(state));
        break;
    case 2:
        at &= ~(uint64_t)3;
        atomic_store_explicit((ring_half *)(void *)(segment + at), (uint32_t)value(state),
                              memory_order_relaxed);
        break;
    default:
        at &= ~(uint64_t)7;
        ring_store((ring_word *)(void *)(segment + at), value(state));
        break;
    }
    made++;
}

static void *scribble(void *argument)
{
    uint64_t state = 88172645463325252u;

    (void)argument;
    while (!over)
        mutate(&state);
    return NULL;
}

/* Begin anew, as memory that was scribbled over gives nothing but errors. */
static void begin(struct ring_writer *writer, struct ring_reader *reader, uint64_t start)
{
    if (any(&start) % 2)
        memset(map.data + map.records, 0, map.capacity);
    ring_store(ring_data_word(&map, map.wake_at), 0);
    ring_store(ring_data_word(&map, map.closed), 0);
    ring_writer_begin(writer, start & ~(uint64_t)63);
    ring_admit(writer, 0);
    ring_reader_begin(reader, 0, writer->position);
}

int main(int argc, char **argv)
{
    uint64_t count, state = 2463534242u, calls = 0, got = 0, refused = 0;
    struct ring_live live[8];
    struct ring_writer writer = {.live = live};
    struct ring_reader reader = {0};
    pthread_t scribbler;
    bool beside;

    if (argc != 3)
        return 2;
    count = strtoull(argv[1], NULL, 10);
    beside = argv[2][0] == 'b';
    map = writer.map = reader.map = new_memory();
    begin(&writer, &reader, 0);
    if (beside)
        pthread_create(&scribbler, NULL, scribble, NULL);
    for (; made < count; calls++) {
        struct ring_frame frames[MOST_FRAMES];
        struct ring_room room;
        enum ring_read found = RING_EMPTY;
        uint64_t n_frames;
        bool good;

        if (any(&state) % 16 == 0)
            begin(&writer, &reader, any(&state));
        if (!beside && any(&state) % 2)
            mutate(&state);
        switch (any(&state) % 8) {
        case 0:
        case 1:
        case 2:
            /* Several, so that much lies ahead of the reader. */
            for (uint64_t more = any(&state) % 8; more; more--) {
                n_frames = make_message(writer.number, frames);
                if (write_message(&writer, frames, n_frames, &room) == RING_YES)
                    ring_publish(&writer, room.position + room.size);
                free_message(frames, n_frames);
            }
            break;
        case 3:
            ring_arm_writer(&writer);
            ring_writer_overdue(&writer);
            ring_disarm_writer(&writer);
            break;
        case 4:
            ring_arm_reader(&reader);
            ring_reader_overdue(&reader);
            ring_disarm_reader(&reader);
            break;
        default:
            found = read_message(&reader, reader.number, &good);
            got += found == RING_THERE;
            refused += found > RING_THERE;
            break;
        }
        if (reader.position % RING_ALIGN || writer.position % RING_ALIGN)
            fail("a position between two blocks", calls);
    }
    over = true;
    if (beside)
        pthread_join(scribbler, NULL);
    printf("%s: %llu mutations, %llu calls, %llu messages read, %llu refused\n", argv[2],
           (unsigned long long)made, (unsigned long long)calls, (unsigned long long)got,
           (unsigned long long)refused);
    free_memory(&map);
    if (!got || !refused)
        fail("the mutations proved nothing", got);
    return 0;
}
