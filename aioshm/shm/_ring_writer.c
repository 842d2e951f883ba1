/* RingWriter: the writing side for Python; ring_writer.py is its reference and documents it. */
#include "_ring_message.h"
#include "_ring_writer.h"

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
    if (ring_map_segments(ring_writer_names(self), &self->memory, &self->core.map, data, control,
                          layout, true) < 0 ||
        !(self->owed = PyList_New(0)) || !(self->names = PyDict_New()))
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
    Py_CLEAR(self->names);
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

/* ---- writing ----------------------------------------------------------------------------- */

static int publish(Writer *self, uint64_t end)
{
    self->claimed.size = 0;
    return ring_publish(&self->core, end) ? ring_note_parked(self) : 0;
}

/* Write a record of `size` bytes, which fits a slot. */
static PyObject *write_record(Writer *self, uint32_t kind, const struct ring_frame *frames,
                              uint64_t count, uint64_t size)
{
    struct ring_room room;

    switch (ring_find_room(&self->core, size, &room)) {
    case RING_BROKEN:
        return ring_bad_cursor(self);
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
    uint64_t size;

    if (hold(&message, frames) < 0)
        return NULL;
    size = size_within_limits(ring_writer_names(self)->message_too_large, &self->core.map,
                              message.frames, (uint64_t)message.count);
    if (size && ring_enter(&self->memory) == 0) {
        written = write_record(self, ring_writer_names(self)->object, message.frames,
                               (uint64_t)message.count, size);
        ring_leave(&self->memory);
    }
    drop(&message);
    return written;
}

static PyObject *writer_has_room_for_marker(Writer *self, PyObject *nothing)
{
    struct ring_frame frame = {NULL, self->core.map.marker_bytes};
    struct ring_room room;
    enum ring_answer found;

    (void)nothing;
    if (ring_enter(&self->memory) < 0)
        return NULL;
    found = ring_find_room(&self->core, ring_record_size(&frame, 1), &room);
    ring_leave(&self->memory);
    return found == RING_BROKEN ? ring_bad_cursor(self) : PyBool_FromLong(found == RING_YES);
}

static PyObject *writer_write_marker(Writer *self, PyObject *const *arguments, Py_ssize_t count)
{
    uint64_t body[2]; /* layout.py's MARKER */
    struct ring_frame frame = {(unsigned char *)body, sizeof body};
    PyObject *written;

    if (count != 2) {
        PyErr_SetString(PyExc_TypeError, "write_marker takes a sequence and a number of bytes");
        return NULL;
    }
    for (int i = 0; i < 2; i++) {
        body[i] = PyLong_AsUnsignedLongLong(arguments[i]);
        if (PyErr_Occurred())
            return NULL;
    }
    if (ring_enter(&self->memory) < 0)
        return NULL;
    written = write_record(self, ring_writer_names(self)->overflow, &frame, 1,
                           ring_record_size(&frame, 1));
    ring_leave(&self->memory);
    if (written == Py_False)
        PyErr_SetString(PyExc_AssertionError, "write_marker: there is no room; look before");
    if (written != Py_True)
        Py_CLEAR(written);
    Py_XDECREF(written);
    return written ? Py_NewRef(Py_None) : NULL;
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
        refuse_total(ring_writer_names(self)->message_too_large, &self->core.map, nbytes);
        return NULL;
    }
    if (overflow < 0 || wanted < 0)
        return PyErr_Format(PyExc_ValueError, "claim: %S bytes where 0 or more were expected",
                            nbytes);
    size = size_within_limits(ring_writer_names(self)->message_too_large, &self->core.map, &frame,
                              1);
    if (!size || ring_enter(&self->memory) < 0)
        return NULL;
    found = ring_find_room(&self->core, size, &self->claimed);
    ring_leave(&self->memory);
    if (found != RING_YES) {
        self->claimed.size = 0;
        return found == RING_NO ? Py_NewRef(Py_None) : ring_bad_cursor(self);
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
    ring_fill_header(&self->core, &room, ring_writer_names(self)->raw, 1, length);
    noted = publish(self, room.position + room.size);
    ring_leave(&self->memory);
    return noted < 0 ? NULL : Py_NewRef(Py_None);
}

/* ---- the type ---------------------------------------------------------------------------- */

#define METHOD(name, flags, doc) {#name, (PyCFunction)(void (*)(void))writer_##name, flags, doc}

static PyMethodDef methods[] = {
    METHOD(try_write, METH_O, "Write one message if there is room, and note who is to be woken."),
    METHOD(has_room_for_marker, METH_NOARGS, "Tell whether write_marker can be called now."),
    METHOD(write_marker, METH_FASTCALL, "Write what stands for a message that comes another way."),
    METHOD(claim, METH_O, "Find room for one frame; returns where to put it, or None."),
    METHOD(commit, METH_O, "Publish the first bytes of what claim gave."),
    METHOD(cursors, METH_NOARGS, "Look at all live readers: slot to cursor."),
    METHOD(holding_back, METH_NOARGS, "Look at the readers that leave no room for the last."),
    METHOD(arm, METH_NOARGS, "Ask for a bell when there is room for the message last tried."),
    METHOD(disarm, METH_NOARGS, "Ask for no bell any more."),
    METHOD(overdue, METH_NOARGS, "Tell whether every reader passed the armed position."),
    METHOD(admit, METH_FASTCALL, "Count a fresh slot among the readers; returns where it starts."),
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
