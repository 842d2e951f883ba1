/* RingWriter: the writing side for Python; ring_writer.py is its reference and documents it. */
#include "_ring_binding.h"
#include "_ring_core_writer.h"
#include "_ring_message.h"

typedef struct {
    PyObject_HEAD
    struct ring_memory memory;
    struct ring_writer core;
    struct ring_room claimed; /* size 0: nothing is */
    PyObject *owed;
} Writer;

static struct ring_names *names_of(Writer *self)
{
    return ring_names_of(Py_TYPE((PyObject *)self));
}

/* ---- making one -------------------------------------------------------------------------- */

static PyObject *writer_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *keywords[] = {"data", "control", "layout", "start", NULL};
    PyObject *data, *control, *layout;
    unsigned long long start = 0;
    Writer *self;

    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OOO|K:RingWriter", keywords, &data, &control,
                                     &layout, &start))
        return NULL;
    if (start % RING_ALIGN)
        return PyErr_Format(PyExc_ValueError, "start=%llu where a multiple of %u was expected",
                            start, RING_ALIGN);
    self = (Writer *)PyType_GenericAlloc(type, 0);
    if (!self)
        return NULL;
    if (ring_map_segments(names_of(self), &self->memory, &self->core.map, data, control, layout,
                          true) < 0 ||
        !(self->owed = PyList_New(0)))
        goto failed;
    self->core.live = PyMem_Calloc(self->core.map.slots, sizeof *self->core.live);
    if (!self->core.live) {
        PyErr_NoMemory();
        goto failed;
    }
    if (ring_listen((PyObject *)self, data, control) < 0)
        goto failed;
    ring_writer_begin(&self->core, start);
    return (PyObject *)self;
failed:
    Py_DECREF(self);
    return NULL;
}

static void writer_dealloc(Writer *self)
{
    PyTypeObject *type = Py_TYPE((PyObject *)self);
    freefunc release = PyType_GetSlot(type, Py_tp_free);

    ring_let_go(&self->memory);
    Py_CLEAR(self->owed);
    PyMem_Free(self->core.live);
    release(self);
    Py_DECREF(type);
}

static PyObject *writer_let_go(Writer *self, PyObject *nothing)
{
    (void)nothing;
    ring_let_go(&self->memory);
    Py_RETURN_NONE;
}

/* ---- errors ------------------------------------------------------------------------------ */

static PyObject *bad_cursor(Writer *self)
{
    const struct ring_writer *core = &self->core;

    return PyErr_Format(names_of(self)->segment_error,
                        "the cursor of slot %llu is %llu where %llu to %llu is possible: its "
                        "process scribbled over the control segment; evict it",
                        (unsigned long long)core->broken.slot,
                        (unsigned long long)core->broken_read,
                        (unsigned long long)core->broken.read, (unsigned long long)core->position);
}

/* ---- writing ----------------------------------------------------------------------------- */

/* Owe a bell to everybody who parked. Owed before the flag is cleared, and cleared before the bell
 * rings: the other way round would wipe out the flag of a reader that woke, found nothing and
 * parked again. */
static int note_parked(Writer *self)
{
    const struct ring_map *map = &self->core.map;

    for (uint64_t slot = 0; slot < map->slots; slot++) {
        ring_flag *parked = ring_parked_flag(map, slot);

        if (!ring_load_flag(parked))
            continue;
        if (ring_is_live(&self->core, slot)) {
            PyObject *number = PyLong_FromUnsignedLongLong(slot);
            int noted = number ? PyList_Append(self->owed, number) : -1;

            Py_XDECREF(number);
            if (noted < 0)
                return -1;
        }
        ring_store_flag(parked, 0);
    }
    return 0;
}

static int publish(Writer *self, uint64_t end)
{
    self->claimed.size = 0;
    return ring_publish(&self->core, end) ? note_parked(self) : 0;
}

static PyObject *write_message(Writer *self, uint32_t kind, const struct message *message)
{
    const struct ring_frame *frames = message->frames;
    uint64_t count = (uint64_t)message->count;
    uint64_t size =
        size_within_limits(names_of(self)->message_too_large, &self->core.map, frames, count);
    struct ring_room room;

    if (!size)
        return NULL;
    switch (ring_find_room(&self->core, size, &room)) {
    case RING_BROKEN:
        return bad_cursor(self);
    case RING_NO:
        Py_RETURN_FALSE;
    case RING_YES:
        break;
    }
    if (size > RING_LARGE_COPY) {
        Py_BEGIN_ALLOW_THREADS
        ring_fill(&self->core, &room, kind, frames, count);
        Py_END_ALLOW_THREADS
    } else {
        ring_fill(&self->core, &room, kind, frames, count);
    }
    if (publish(self, room.position + size) < 0)
        return NULL;
    Py_RETURN_TRUE;
}

static PyObject *writer_try_write(Writer *self, PyObject *frames)
{
    struct message message;
    PyObject *written = NULL;

    if (hold(&message, frames) < 0)
        return NULL;
    if (ring_enter(&self->memory) == 0) {
        written = write_message(self, names_of(self)->object, &message);
        ring_leave(&self->memory);
    }
    drop(&message);
    return written;
}

static PyObject *writer_claim(Writer *self, PyObject *nbytes)
{
    int overflow;
    long long wanted = PyLong_AsLongLongAndOverflow(nbytes, &overflow);
    struct ring_frame frame = {NULL, (uint64_t)wanted};
    PyObject *ends[2], *where = NULL;
    enum ring_answer found;
    uint64_t size, start;

    if (wanted == -1 && PyErr_Occurred())
        return NULL;
    if (overflow > 0) {
        refuse_total(names_of(self)->message_too_large, &self->core.map, nbytes);
        return NULL;
    }
    if (overflow < 0 || wanted < 0)
        return PyErr_Format(PyExc_ValueError, "claim: %S bytes where 0 or more were expected",
                            nbytes);
    size = size_within_limits(names_of(self)->message_too_large, &self->core.map, &frame, 1);
    if (!size || ring_enter(&self->memory) < 0)
        return NULL;
    found = ring_find_room(&self->core, size, &self->claimed);
    ring_leave(&self->memory);
    if (found != RING_YES) {
        self->claimed.size = 0;
        return found == RING_NO ? Py_NewRef(Py_None) : bad_cursor(self);
    }
    start = (uint64_t)(self->claimed.at - self->core.map.data) + ring_first_frame(1);
    ends[0] = PyLong_FromUnsignedLongLong(start);
    ends[1] = PyLong_FromUnsignedLongLong(start + frame.nbytes);
    if (ends[0] && ends[1])
        where = PySlice_New(ends[0], ends[1], NULL);
    Py_XDECREF(ends[0]);
    Py_XDECREF(ends[1]);
    return where;
}

static PyObject *writer_commit(Writer *self, PyObject *nbytes)
{
    unsigned long long length = PyLong_AsUnsignedLongLong(nbytes);
    struct ring_frame frame = {NULL, length};
    struct ring_room room = self->claimed;
    int noted;

    if (PyErr_Occurred())
        return NULL;
    if (!room.size || length > self->core.map.payload || ring_record_size(&frame, 1) > room.size)
        return PyErr_Format(PyExc_ValueError,
                            "commit: %llu bytes where no room for so many is claimed", length);
    if (ring_enter(&self->memory) < 0)
        return NULL;
    room.size = ring_record_size(&frame, 1);
    ring_fill_header(&self->core, &room, names_of(self)->raw, 1, length);
    noted = publish(self, room.position + room.size);
    ring_leave(&self->memory);
    return noted < 0 ? NULL : Py_NewRef(Py_None);
}

/* ---- room and waiting for it ------------------------------------------------------------- */

/* What a look at the readers found, as Python has it. */
static PyObject *answer(Writer *self, enum ring_answer found)
{
    return found == RING_BROKEN ? bad_cursor(self) : PyBool_FromLong(found == RING_YES);
}

static PyObject *writer_cursors(Writer *self, PyObject *nothing)
{
    PyObject *cursors = PyDict_New();
    enum ring_answer found;
    uint64_t slowest;

    (void)nothing;
    if (!cursors || ring_enter(&self->memory) < 0)
        goto failed;
    found = ring_look_at_cursors(&self->core, &slowest);
    ring_leave(&self->memory);
    if (found == RING_BROKEN) {
        bad_cursor(self);
        goto failed;
    }
    for (uint64_t i = 0; i < self->core.n_live; i++) {
        PyObject *slot = PyLong_FromUnsignedLongLong(self->core.live[i].slot);
        PyObject *read = PyLong_FromUnsignedLongLong(self->core.live[i].read);
        int set = slot && read ? PyDict_SetItem(cursors, slot, read) : -1;

        Py_XDECREF(slot);
        Py_XDECREF(read);
        if (set < 0)
            goto failed;
    }
    return cursors;
failed:
    Py_XDECREF(cursors);
    return NULL;
}

static PyObject *writer_arm(Writer *self, PyObject *nothing)
{
    enum ring_answer found;

    (void)nothing;
    if (ring_enter(&self->memory) < 0)
        return NULL;
    found = ring_arm_writer(&self->core);
    ring_leave(&self->memory);
    return answer(self, found);
}

static PyObject *writer_disarm(Writer *self, PyObject *nothing)
{
    (void)nothing;
    if (ring_enter(&self->memory) < 0)
        return NULL;
    ring_disarm_writer(&self->core);
    ring_leave(&self->memory);
    Py_RETURN_NONE;
}

static PyObject *writer_overdue(Writer *self, PyObject *nothing)
{
    enum ring_answer found;

    (void)nothing;
    if (ring_enter(&self->memory) < 0)
        return NULL;
    found = ring_writer_overdue(&self->core);
    ring_leave(&self->memory);
    return answer(self, found);
}

static PyObject *writer_is_read(Writer *self, PyObject *position)
{
    unsigned long long wanted = PyLong_AsUnsignedLongLong(position);
    enum ring_answer found;
    uint64_t slowest;

    if (PyErr_Occurred() || ring_enter(&self->memory) < 0)
        return NULL;
    found = ring_look_at_cursors(&self->core, &slowest);
    ring_leave(&self->memory);
    if (found == RING_YES && self->core.n_live && wanted >= slowest)
        found = RING_NO;
    return answer(self, found);
}

/* ---- readers come and go ----------------------------------------------------------------- */

/* Enter the ring with a slot that there is. */
static int enter_slot(Writer *self, PyObject *argument, uint64_t *slot)
{
    *slot = PyLong_AsUnsignedLongLong(argument);
    if (PyErr_Occurred())
        return -1;
    if (*slot >= self->core.map.slots) {
        PyErr_Format(PyExc_IndexError, "slot %S where there are %llu", argument,
                     (unsigned long long)self->core.map.slots);
        return -1;
    }
    return ring_enter(&self->memory);
}

static PyObject *writer_admit(Writer *self, PyObject *argument)
{
    uint64_t slot;

    if (enter_slot(self, argument, &slot) < 0)
        return NULL;
    ring_admit(&self->core, slot);
    ring_leave(&self->memory);
    return PyLong_FromUnsignedLongLong(self->core.position);
}

static PyObject *writer_forget(Writer *self, PyObject *argument)
{
    uint64_t slot;

    if (enter_slot(self, argument, &slot) < 0)
        return NULL;
    ring_forget(&self->core, slot);
    ring_leave(&self->memory);
    Py_RETURN_NONE;
}

static PyObject *writer_evict(Writer *self, PyObject *argument)
{
    uint64_t slot;
    int noted = 0;

    if (enter_slot(self, argument, &slot) < 0)
        return NULL;
    if (ring_evict(&self->core, slot)) {
        noted = PyList_Append(self->owed, argument);
        if (noted == 0)
            ring_store_flag(ring_parked_flag(&self->core.map, slot), 0);
    }
    ring_leave(&self->memory);
    return noted < 0 ? NULL : Py_NewRef(Py_None);
}

static PyObject *writer_close(Writer *self, PyObject *nothing)
{
    int noted = 0;

    (void)nothing;
    if (ring_enter(&self->memory) < 0)
        return NULL;
    if (ring_close(&self->core))
        noted = note_parked(self);
    ring_leave(&self->memory);
    return noted < 0 ? NULL : Py_NewRef(Py_None);
}

/* ---- the type ---------------------------------------------------------------------------- */

#define METHOD(name, flags, doc) {#name, (PyCFunction)(void (*)(void))writer_##name, flags, doc}

static PyMethodDef methods[] = {
    METHOD(try_write, METH_O, "Write one message if there is room, and note who is to be woken."),
    METHOD(claim, METH_O, "Find room for one frame; returns where to put it, or None."),
    METHOD(commit, METH_O, "Publish the first bytes of what claim gave."),
    METHOD(cursors, METH_NOARGS, "Look at all live readers: slot to cursor."),
    METHOD(arm, METH_NOARGS, "Ask for a bell when there is room for the message last tried."),
    METHOD(disarm, METH_NOARGS, "Ask for no bell any more."),
    METHOD(overdue, METH_NOARGS, "Tell whether every reader passed the armed position."),
    METHOD(admit, METH_O, "Count a fresh slot among the readers; returns where it starts."),
    METHOD(forget, METH_O, "Wait no longer for a reader that is gone."),
    METHOD(evict, METH_O, "Go on without a reader that may still be there."),
    METHOD(close, METH_NOARGS, "Say that nothing more will be written, and note who waits for it."),
    METHOD(is_read, METH_O, "Tell whether every live reader is done with a position."),
    {"_let_go", (PyCFunction)(void (*)(void))writer_let_go, METH_NOARGS, "Give the memory back."},
    {NULL, NULL, 0, NULL},
};

static PyMemberDef members[] = {
    {"position", T_ULONGLONG, offsetof(Writer, core.position), READONLY, "Where it writes next."},
    {"number", T_ULONGLONG, offsetof(Writer, core.number), READONLY, "Messages written."},
    {"owed", T_OBJECT_EX, offsetof(Writer, owed), READONLY, "Slots whose bell is to be rung."},
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot type_slots[] = {
    {Py_tp_doc, "The writing side, over the two segments of a queue."},
    {Py_tp_new, writer_new},
    {Py_tp_dealloc, writer_dealloc},
    {Py_tp_methods, methods},
    {Py_tp_members, members},
    {0, NULL},
};

PyType_Spec ring_writer_spec = {
    .name = "aioshm.shm._ring.RingWriter",
    .basicsize = sizeof(Writer),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = type_slots,
};
