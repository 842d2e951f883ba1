/* What the Python types of the two sides share: the memory, the guard, the errors.
 *
 * A call on a ring is between ring_enter and ring_leave. Nothing of Python's that can run other
 * code, or let other threads run, happens between the two but two things: a copy above 64 KiB lets
 * other threads run, and making a list may start the garbage collector. Whoever calls the same
 * ring meanwhile gets a RuntimeError, and a segment that is closed meanwhile stays mapped until
 * the call is over.
 */
#ifndef AIOSHM_RING_BINDING_H
#define AIOSHM_RING_BINDING_H

#define PY_SSIZE_T_CLEAN
/* One build for 3.11 and all later ones; the buffer protocol is in it from 3.11 on. */
#define Py_LIMITED_API 0x030B0000
#include <Python.h>
#include <structmember.h>

#include "_ring_core.h"

/* Above it, letting other threads run costs little beside the copy itself. */
#define RING_LARGE_COPY 65536u

/* What the module takes from layout.py and errors.py when it is imported. */
struct ring_names {
    PyObject *segment_error, *evicted, *message_too_large;
    uint64_t written, claim, wake_at, closed; /* offsets in the data segment */
    uint32_t padding, object, raw, overflow, kinds;
    uint64_t marker_bytes;
};

/* The two mapped segments of one ring. */
struct ring_memory {
    Py_buffer data, control;
    bool mapped; /* the buffers are held; not so once a segment was closed */
    bool busy;   /* a call is under way */
    bool let_go; /* a segment was closed during it */
};

extern PyType_Spec ring_writer_spec, ring_reader_spec;

struct ring_names *ring_names_of(PyTypeObject *type);

/* Map both segments and lay the map over them; -1 and an exception if they do not fit. */
int ring_map_segments(const struct ring_names *names, struct ring_memory *memory,
                      struct ring_map *map, PyObject *data, PyObject *control, PyObject *layout,
                      bool writes);

/* Have `let_go` called when either segment is closed, so that no mapping outlives it. */
int ring_listen(PyObject *self, PyObject *data, PyObject *control);

/* Give the buffers back, at the end of the call if one is under way. */
void ring_let_go(struct ring_memory *memory);

/* Take a number of an object's; UINT64_MAX and an exception if there is none. */
uint64_t ring_number_of(PyObject *object, const char *name);

int ring_refuse_call(const struct ring_memory *memory);

static inline int ring_enter(struct ring_memory *memory)
{
    if (memory->busy || !memory->mapped)
        return ring_refuse_call(memory);
    memory->busy = true;
    return 0;
}

static inline void ring_leave(struct ring_memory *memory)
{
    memory->busy = false;
    if (memory->let_go)
        ring_let_go(memory);
}

#endif
