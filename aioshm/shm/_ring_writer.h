/* The writer's object, and its calls that deal with its readers (_ring_writer_readers.c). */
#ifndef AIOSHM_RING_WRITER_H
#define AIOSHM_RING_WRITER_H

#include "_ring_binding.h"
#include "_ring_core_writer.h"

typedef struct {
    PyObject_HEAD
    struct ring_memory memory;
    struct ring_writer core;
    struct ring_room claimed; /* size 0: nothing is */
    PyObject *owed;
    PyObject *names; /* slot to whom errors speak of */
} Writer;

static inline struct ring_names *ring_writer_names(Writer *self)
{
    return ring_names_of(Py_TYPE((PyObject *)self));
}

/* Raise what an impossible cursor is. */
PyObject *ring_bad_cursor(Writer *self);

/* Owe a bell to everybody who parked, and clear their flags. */
int ring_note_parked(Writer *self);

PyObject *writer_cursors(Writer *self, PyObject *nothing);
PyObject *writer_holding_back(Writer *self, PyObject *nothing);
PyObject *writer_is_read(Writer *self, PyObject *position);
PyObject *writer_arm(Writer *self, PyObject *nothing);
PyObject *writer_disarm(Writer *self, PyObject *nothing);
PyObject *writer_overdue(Writer *self, PyObject *nothing);
PyObject *writer_admit(Writer *self, PyObject *const *arguments, Py_ssize_t count);
PyObject *writer_forget(Writer *self, PyObject *slot);
PyObject *writer_evict(Writer *self, PyObject *slot);
PyObject *writer_close(Writer *self, PyObject *nothing);

#endif
