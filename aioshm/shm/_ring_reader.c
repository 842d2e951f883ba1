/* RingReader: the reading side for Python; ring_reader.py is its reference and documents it. */
#include "_ring_binding.h"
#include "_ring_core_reader.h"

typedef struct {
    PyObject_HEAD
    struct ring_memory memory;
    struct ring_reader core;
    struct ring_record borrowed; /* size 0: nothing is */
    PyObject *who;               /* whom errors speak of */
} Reader;

static struct ring_names *names_of(Reader *self)
{
    return ring_names_of(Py_TYPE((PyObject *)self));
}

/* ---- making one -------------------------------------------------------------------------- */

static PyObject *reader_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *keywords[] = {"data", "control", "layout", "slot", "position", "who", NULL};
    PyObject *data, *control, *layout, *who = NULL;
    unsigned long long slot, position;
    Reader *self;

    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OOOKK|U:RingReader", keywords, &data, &control,
                                     &layout, &slot, &position, &who))
        return NULL;
    self = (Reader *)PyType_GenericAlloc(type, 0);
    if (!self)
        return NULL;
    if (ring_map_segments(names_of(self), &self->memory, &self->core.map, data, control, layout,
                          false) < 0)
        goto failed;
    self->who = who ? Py_NewRef(who) : PyUnicode_FromString("this reader");
    if (!self->who)
        goto failed;
    if (slot >= self->core.map.slots || position % RING_ALIGN) {
        PyErr_Format(names_of(self)->segment_error,
                     "the writer gave slot %llu of %llu and position %llu, which cannot be", slot,
                     (unsigned long long)self->core.map.slots, position);
        goto failed;
    }
    if (ring_listen((PyObject *)self, data, control) < 0)
        goto failed;
    ring_reader_begin(&self->core, slot, position);
    return (PyObject *)self;
failed:
    Py_DECREF(self);
    return NULL;
}

static void reader_dealloc(Reader *self)
{
    PyTypeObject *type = Py_TYPE((PyObject *)self);
    freefunc release = PyType_GetSlot(type, Py_tp_free);

    ring_let_go(&self->memory);
    Py_CLEAR(self->who);
    release(self);
    Py_DECREF(type);
}

static PyObject *reader_let_go(Reader *self, PyObject *nothing)
{
    (void)nothing;
    ring_let_go(&self->memory);
    Py_RETURN_NONE;
}

/* Raise what the core found instead of a record. */
static void *raise(Reader *self, enum ring_read why)
{
    const struct ring_reader *core = &self->core;
    const struct ring_names *names = names_of(self);
    unsigned long long position = core->position, found[4];

    for (int i = 0; i < 4; i++)
        found[i] = core->found[i];
    switch (why) {
    case RING_EVICTED:
        return PyErr_Format(names->evicted,
                            "%U was evicted: the writer went on without it from position %llu on; "
                            "join again to get the next messages",
                            self->who, position);
    case RING_OVERWRITTEN:
        return PyErr_Format(names->segment_error,
                            "%U: the writer wrote over position %llu before it was read; some "
                            "process of this queue scribbled over the control segment; end that "
                            "process, and join again to get the next messages",
                            self->who, position);
    case RING_NO_END:
        return PyErr_Format(names->segment_error,
                            "%U: no record at position %llu: written is %llu; the memory is not "
                            "what the writer wrote; make a new queue",
                            self->who, position, found[0]);
    default:
        return PyErr_Format(names->segment_error,
                            "%U: no record at position %llu: the header says position %llu, %llu "
                            "bytes, %llu frames, kind %llu; the memory is not what the writer "
                            "wrote; make a new queue",
                            self->who, position, found[0], found[1], found[2], found[3]);
    }
}

/* ---- reading ----------------------------------------------------------------------------- */

/* Copy a frame to memory of its own: the first, which a codec reads, to bytes; the others, which
 * may become somebody's arrays, to what can be written. */
static PyObject *copy_frame(const struct ring_frame *frame, bool first)
{
    Py_ssize_t nbytes = (Py_ssize_t)frame->nbytes;
    PyObject *copy = first ? PyBytes_FromStringAndSize(NULL, nbytes)
                           : PyByteArray_FromStringAndSize(NULL, nbytes);
    char *to;

    if (!copy)
        return NULL;
    to = first ? PyBytes_AsString(copy) : PyByteArray_AsString(copy);
    if (frame->nbytes > RING_LARGE_COPY) {
        Py_BEGIN_ALLOW_THREADS
        memcpy(to, frame->start, frame->nbytes);
        Py_END_ALLOW_THREADS
    } else if (nbytes) {
        memcpy(to, frame->start, frame->nbytes);
    }
    return copy;
}

/* Give a frame's place in the segment. */
static PyObject *place_frame(const struct ring_frame *frame, const unsigned char *data)
{
    uint64_t start = (uint64_t)(frame->start - data);
    PyObject *ends[] = {PyLong_FromUnsignedLongLong(start),
                        PyLong_FromUnsignedLongLong(start + frame->nbytes)};
    PyObject *place = ends[0] && ends[1] ? PySlice_New(ends[0], ends[1], NULL) : NULL;

    Py_XDECREF(ends[0]);
    Py_XDECREF(ends[1]);
    return place;
}

/* Make a list of a record's frames: of copies, or of places. */
static PyObject *take_frames(Reader *self, struct ring_record *record, bool copies)
{
    PyObject *frames = NULL;
    struct ring_frame frame;
    enum ring_read next;

    while ((next = ring_next_frame(&self->core, record, &frame)) == RING_THERE) {
        PyObject *item = copies ? copy_frame(&frame, record->next == 1)
                                : place_frame(&frame, self->core.map.data);

        if (!item)
            goto failed;
        if (!frames) {
            /* Not before the first item is there, and never with a hole: the collector and other
             * threads can find a list as soon as it is made. */
            frames = PyList_New(1);
            if (!frames) {
                Py_DECREF(item);
                goto failed;
            }
            PyList_SetItem(frames, 0, item);
        } else {
            int added = PyList_Append(frames, item);

            Py_DECREF(item);
            if (added < 0)
                goto failed;
        }
    }
    if (next == RING_EMPTY)
        return frames;
    raise(self, next);
failed:
    Py_XDECREF(frames);
    return NULL;
}

/* Make (kind, [frames]) of a record. */
static PyObject *take(Reader *self, struct ring_record *record, bool copies)
{
    PyObject *kind, *frames = take_frames(self, record, copies), *taken;

    if (!frames)
        return NULL;
    kind = PyLong_FromUnsignedLong(record->kind);
    taken = kind ? PyTuple_Pack(2, kind, frames) : NULL;
    Py_XDECREF(kind);
    Py_DECREF(frames);
    return taken;
}

static PyObject *read_message(Reader *self)
{
    struct ring_record record;
    enum ring_read found = ring_find(&self->core, &record);
    PyObject *taken;

    if (found == RING_EMPTY)
        Py_RETURN_NONE;
    if (found != RING_THERE)
        return raise(self, found);
    taken = take(self, &record, true);
    if (!taken)
        return NULL;
    if (record.kind == self->core.map.marker) {
        /* A marker stays until `release`: it is consumed only together with its body. */
        self->borrowed = record;
        found = ring_still_ours(&self->core);
        if (found == RING_THERE)
            return taken;
        Py_DECREF(taken);
        return raise(self, found);
    }
    /* All that can fail has been done: a message that is freed is one that is returned. */
    found = ring_free(&self->core, record.end, record.number);
    if (found != RING_THERE) {
        Py_DECREF(taken);
        return raise(self, found);
    }
    return taken;
}

static PyObject *reader_try_read(Reader *self, PyObject *nothing)
{
    PyObject *taken;

    (void)nothing;
    if (ring_enter(&self->memory) < 0)
        return NULL;
    self->borrowed.size = 0;
    taken = read_message(self);
    ring_leave(&self->memory);
    return taken;
}

static PyObject *reader_borrow(Reader *self, PyObject *nothing)
{
    PyObject *taken = NULL;
    enum ring_read found;

    (void)nothing;
    if (ring_enter(&self->memory) < 0)
        return NULL;
    found = ring_find(&self->core, &self->borrowed);
    if (found == RING_THERE)
        taken = take(self, &self->borrowed, false);
    else if (found == RING_EMPTY)
        taken = Py_NewRef(Py_None);
    else
        raise(self, found);
    if (found != RING_THERE || !taken)
        self->borrowed.size = 0;
    ring_leave(&self->memory);
    return taken;
}

static PyObject *reader_release(Reader *self, PyObject *nothing)
{
    enum ring_read freed;

    (void)nothing;
    if (!self->borrowed.size) {
        PyErr_SetString(PyExc_RuntimeError, "release: no message is borrowed");
        return NULL;
    }
    if (ring_enter(&self->memory) < 0)
        return NULL;
    freed = ring_free(&self->core, self->borrowed.end, self->borrowed.number);
    self->borrowed.size = 0;
    ring_leave(&self->memory);
    return freed == RING_THERE ? Py_NewRef(Py_None) : raise(self, freed);
}

static PyObject *reader_check(Reader *self, PyObject *nothing)
{
    enum ring_read ours;

    (void)nothing;
    if (ring_enter(&self->memory) < 0)
        return NULL;
    ours = ring_still_ours(&self->core);
    ring_leave(&self->memory);
    return ours == RING_THERE ? Py_NewRef(Py_None) : raise(self, ours);
}

/* ---- waiting ----------------------------------------------------------------------------- */

static PyObject *reader_arm(Reader *self, PyObject *nothing)
{
    bool there;

    (void)nothing;
    if (ring_enter(&self->memory) < 0)
        return NULL;
    there = ring_arm_reader(&self->core);
    ring_leave(&self->memory);
    return PyBool_FromLong(there);
}

static PyObject *reader_disarm(Reader *self, PyObject *nothing)
{
    (void)nothing;
    if (ring_enter(&self->memory) < 0)
        return NULL;
    ring_disarm_reader(&self->core);
    ring_leave(&self->memory);
    Py_RETURN_NONE;
}

static PyObject *reader_overdue(Reader *self, PyObject *nothing)
{
    bool due;

    (void)nothing;
    if (ring_enter(&self->memory) < 0)
        return NULL;
    due = ring_reader_overdue(&self->core);
    ring_leave(&self->memory);
    return PyBool_FromLong(due);
}

static PyObject *reader_repeat(Reader *self, PyObject *nothing)
{
    (void)nothing;
    if (ring_enter(&self->memory) < 0)
        return NULL;
    ring_repeat(&self->core);
    ring_leave(&self->memory);
    Py_RETURN_NONE;
}

static PyObject *reader_is_closed(Reader *self, PyObject *nothing)
{
    bool closed;

    (void)nothing;
    if (ring_enter(&self->memory) < 0)
        return NULL;
    closed = ring_is_closed(&self->core);
    ring_leave(&self->memory);
    return PyBool_FromLong(closed);
}

/* ---- the type ---------------------------------------------------------------------------- */

#define METHOD(name, doc) {#name, (PyCFunction)(void (*)(void))reader_##name, METH_NOARGS, doc}

static PyMethodDef methods[] = {
    METHOD(try_read, "Copy the next message out and free its place; None if there is none."),
    METHOD(borrow, "Find the next message's frames and leave them where they are."),
    METHOD(release, "Free the place of the message that borrow found."),
    METHOD(check, "Make sure that what borrow found has stood until now."),
    METHOD(arm, "Ask for a bell at the next message, close or eviction; look again."),
    METHOD(disarm, "Ask for no bell any more."),
    METHOD(overdue, "Tell whether the flag still stands although there is a message."),
    METHOD(repeat, "Store the cursor once more; who waits does so now and then."),
    METHOD(is_closed, "Tell whether the writer closed."),
    {"_let_go", (PyCFunction)(void (*)(void))reader_let_go, METH_NOARGS, "Give the memory back."},
    {NULL, NULL, 0, NULL},
};

static PyMemberDef members[] = {
    {"position", T_ULONGLONG, offsetof(Reader, core.position), READONLY, "Where it reads next."},
    {"number", T_ULONGLONG, offsetof(Reader, core.number), 0, "The next message's number."},
    {"owed", T_BOOL, offsetof(Reader, core.owed), 0, "The writer's bell is to be rung."},
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot type_slots[] = {
    {Py_tp_doc, "The reading side of one slot, over the two segments of a queue."},
    {Py_tp_new, reader_new},
    {Py_tp_dealloc, reader_dealloc},
    {Py_tp_methods, methods},
    {Py_tp_members, members},
    {0, NULL},
};

PyType_Spec ring_reader_spec = {
    .name = "aioshm.shm._ring.RingReader",
    .basicsize = sizeof(Reader),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = type_slots,
};
