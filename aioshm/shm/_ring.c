/* The ring in C: the same two classes over the same bytes as ring_writer.py and ring_reader.py.
 *
 *   _ring_core.h, _ring_core_writer.h, _ring_core_reader.h   the ring itself, without Python
 *   _ring_binding.h, _ring.c                                 the module; memory, guard, fence
 *   _ring_reader.c                                           the type of the reading side
 *   _ring_writer.c, _ring_writer_readers.c, _ring_message.h  the type of the writing side
 *
 * Numbers of the layout are not repeated here: the module takes them from layout.py when it is
 * imported, and compares the few that C needs to know beforehand.
 */
#include "_ring_binding.h"

/* ---- memory ------------------------------------------------------------------------------ */

uint64_t ring_number_of(PyObject *object, const char *name)
{
    PyObject *value = PyObject_GetAttrString(object, name);
    uint64_t number = UINT64_MAX;

    if (value) {
        number = PyLong_AsUnsignedLongLong(value);
        Py_DECREF(value);
    }
    return number;
}

/* The first index of a slice that is an attribute. */
static uint64_t start_of(PyObject *object, const char *name)
{
    PyObject *slice = PyObject_GetAttrString(object, name);
    uint64_t start = UINT64_MAX;

    if (slice) {
        start = ring_number_of(slice, "start");
        Py_DECREF(slice);
    }
    return start;
}

/* Offset of a slot's cursor in the control segment. */
static uint64_t cursor_of(PyObject *layout, int slot)
{
    PyObject *index = PyObject_CallMethod(layout, "read", "i", slot);
    uint64_t word = UINT64_MAX;

    if (index) {
        word = PyLong_AsUnsignedLongLong(index);
        Py_DECREF(index);
    }
    return word * sizeof(ring_word);
}

static int get_buffer(PyObject *segment, Py_buffer *view, int flags)
{
    PyObject *raw = PyObject_GetAttrString(segment, "raw");
    int got = raw ? PyObject_GetBuffer(raw, view, flags) : -1;

    Py_XDECREF(raw);
    return got;
}

int ring_map_segments(const struct ring_names *names, struct ring_memory *memory,
                      struct ring_map *map, PyObject *data, PyObject *control, PyObject *layout,
                      bool writes)
{
    map->written = names->written;
    map->claim = names->claim;
    map->wake_at = names->wake_at;
    map->closed = names->closed;
    map->padding = names->padding;
    map->kinds = names->kinds;
    map->marker = names->overflow;
    map->marker_bytes = names->marker_bytes;
    map->evicted = start_of(layout, "evicted");
    map->parked = start_of(layout, "parked");
    map->records = ring_number_of(layout, "records");
    map->payload = ring_number_of(layout, "payload");
    map->slot = ring_number_of(layout, "slot");
    map->capacity = ring_number_of(layout, "capacity");
    map->slots = ring_number_of(layout, "slots");
    map->cursors = cursor_of(layout, 0);
    map->stride = cursor_of(layout, 1) - map->cursors;
    if (PyErr_Occurred())
        return -1;
    if (get_buffer(data, &memory->data, writes ? PyBUF_WRITABLE : PyBUF_SIMPLE) < 0)
        return -1;
    if (get_buffer(control, &memory->control, PyBUF_WRITABLE) < 0) {
        PyBuffer_Release(&memory->data);
        return -1;
    }
    memory->mapped = true;
    map->data = memory->data.buf;
    map->control = memory->control.buf;
    map->data_bytes = (uint64_t)memory->data.len;
    map->control_bytes = (uint64_t)memory->control.len;
    if (ring_map_fits(map))
        return 0;
    PyErr_Format(names->segment_error,
                 "a ring of %llu bytes in slots of %llu for %llu readers does not fit segments of "
                 "%zd and %zd bytes: the two ends do not mean the same memory",
                 (unsigned long long)map->capacity, (unsigned long long)map->slot,
                 (unsigned long long)map->slots, memory->data.len, memory->control.len);
    return -1;
}

int ring_listen(PyObject *self, PyObject *data, PyObject *control)
{
    PyObject *segments[] = {data, control};
    PyObject *let_go = PyObject_GetAttrString(self, "_let_go");

    if (!let_go)
        return -1;
    for (int i = 0; i < 2; i++) {
        PyObject *done = PyObject_CallMethod(segments[i], "on_close", "O", let_go);

        if (!done) {
            Py_DECREF(let_go);
            return -1;
        }
        Py_DECREF(done);
    }
    Py_DECREF(let_go);
    return 0;
}

void ring_let_go(struct ring_memory *memory)
{
    memory->let_go = memory->busy;
    if (memory->busy || !memory->mapped)
        return;
    memory->mapped = false;
    PyBuffer_Release(&memory->data);
    PyBuffer_Release(&memory->control);
}

int ring_refuse_call(const struct ring_memory *memory)
{
    if (memory->busy)
        PyErr_SetString(PyExc_RuntimeError,
                        "another thread is in the middle of a call on this ring: a queue belongs "
                        "to the one thread that runs its loop");
    else
        PyErr_SetString(PyExc_ValueError,
                        "the ring's memory was given back: its queue is closed");
    return -1;
}

/* ---- the module -------------------------------------------------------------------------- */

static PyObject *fence(PyObject *module, PyObject *nothing)
{
    (void)module;
    (void)nothing;
    ring_fence();
    Py_RETURN_NONE;
}

static PyMethodDef functions[] = {
    {"fence", fence, METH_NOARGS,
     PyDoc_STR("Let nothing on one side of the call pass to the other: a full memory barrier.")},
    {NULL, NULL, 0, NULL},
};

struct ring_names *ring_names_of(PyTypeObject *type)
{
    return PyType_GetModuleState(type);
}

static bool has_format(PyObject *layout, const char *name, const char *expected)
{
    PyObject *packer = PyObject_GetAttrString(layout, name);
    PyObject *format = packer ? PyObject_GetAttrString(packer, "format") : NULL;
    bool same = format && PyUnicode_CompareWithASCIIString(format, expected) == 0;

    Py_XDECREF(packer);
    Py_XDECREF(format);
    return same;
}

/* Compare with layout.py what is compiled in; an extension left over from another version must
 * not touch this one's memory. */
static int same_layout(PyObject *layout)
{
    bool same = has_format(layout, "HEADER", "=QIIQQ") && has_format(layout, "MARKER", "=QQ") &&
                ring_number_of(layout, "ALIGN") == RING_ALIGN;

    if (!same && !PyErr_Occurred())
        PyErr_SetString(PyExc_ImportError,
                        "aioshm's C ring was built for another layout: build it again");
    return same ? 0 : -1;
}

static int take_layout(struct ring_names *names, PyObject *layout)
{
    PyObject *kinds = PyObject_GetAttrString(layout, "KINDS");

    if (!kinds)
        return -1;
    names->written = ring_number_of(layout, "WRITTEN") * sizeof(ring_word);
    names->claim = ring_number_of(layout, "CLAIM") * sizeof(ring_word);
    names->wake_at = ring_number_of(layout, "WAKE_AT") * sizeof(ring_word);
    names->closed = ring_number_of(layout, "CLOSED") * sizeof(ring_word);
    names->marker_bytes = 2 * sizeof(uint64_t);
    names->padding = (uint32_t)ring_number_of(layout, "PADDING") & 15;
    names->object = (uint32_t)ring_number_of(layout, "OBJECT") & 15;
    names->raw = (uint32_t)ring_number_of(layout, "RAW") & 15;
    names->overflow = (uint32_t)ring_number_of(layout, "OVERFLOW") & 15;
    for (Py_ssize_t i = 0; i < PyTuple_Size(kinds); i++)
        names->kinds |= 1u << (PyLong_AsUnsignedLong(PyTuple_GetItem(kinds, i)) & 15);
    Py_DECREF(kinds);
    return PyErr_Occurred() ? -1 : 0;
}

static int take_errors(struct ring_names *names, PyObject *errors)
{
    names->segment_error = PyObject_GetAttrString(errors, "SegmentError");
    names->evicted = PyObject_GetAttrString(errors, "Evicted");
    names->message_too_large = PyObject_GetAttrString(errors, "MessageTooLarge");
    return names->segment_error && names->evicted && names->message_too_large ? 0 : -1;
}

static int add_type(PyObject *module, PyType_Spec *spec)
{
    PyObject *type = PyType_FromModuleAndSpec(module, spec, NULL);
    int added = type ? PyModule_AddType(module, (PyTypeObject *)type) : -1;

    Py_XDECREF(type);
    return added;
}

static int execute(PyObject *module)
{
    struct ring_names *names = PyModule_GetState(module);
    PyObject *layout = PyImport_ImportModule("aioshm.shm.layout");
    PyObject *errors = PyImport_ImportModule("aioshm.errors");
    bool done = layout && errors && same_layout(layout) == 0 && take_layout(names, layout) == 0 &&
                take_errors(names, errors) == 0 && add_type(module, &ring_writer_spec) == 0 &&
                add_type(module, &ring_reader_spec) == 0;

    Py_XDECREF(layout);
    Py_XDECREF(errors);
    return done ? 0 : -1;
}

static int traverse(PyObject *module, visitproc visit, void *arg)
{
    struct ring_names *names = PyModule_GetState(module);

    Py_VISIT(names->segment_error);
    Py_VISIT(names->evicted);
    Py_VISIT(names->message_too_large);
    return 0;
}

static int clear(PyObject *module)
{
    struct ring_names *names = PyModule_GetState(module);

    Py_CLEAR(names->segment_error);
    Py_CLEAR(names->evicted);
    Py_CLEAR(names->message_too_large);
    return 0;
}

static PyModuleDef_Slot slots[] = {{Py_mod_exec, execute}, {0, NULL}};

static PyModuleDef module_def = {
    PyModuleDef_HEAD_INIT,
    .m_name = "aioshm.shm._ring",
    .m_doc = PyDoc_STR("The ring in C; ring.py has the theory, and chooses."),
    .m_size = sizeof(struct ring_names),
    .m_methods = functions,
    .m_slots = slots,
    .m_traverse = traverse,
    .m_clear = clear,
};

PyMODINIT_FUNC PyInit__ring(void)
{
    return PyModuleDef_Init(&module_def);
}
