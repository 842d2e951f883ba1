/* A message on its way in: its frames, held as buffers, and whether they fit a slot at all. */
#ifndef AIOSHM_RING_MESSAGE_H
#define AIOSHM_RING_MESSAGE_H

#include "_ring_binding.h"
#include "_ring_core_writer.h"

/* Frames for which there is room on the stack; nearly every message has one or two. */
#define RING_FEW 4

/* A message's frames, held as buffers. */
struct message {
    Py_ssize_t count, held;
    Py_buffer *views;
    struct ring_frame *frames;
    Py_buffer few_views[RING_FEW];
    struct ring_frame few_frames[RING_FEW];
};

static inline void drop(struct message *message)
{
    while (message->held)
        PyBuffer_Release(&message->views[--message->held]);
    if (message->views != message->few_views) {
        PyMem_Free(message->views);
        PyMem_Free(message->frames);
    }
}

/* Hold the buffers of all frames. Runs before the ring is entered, since a frame may be of a type
 * whose buffer is made by Python code. */
static inline int hold(struct message *message, PyObject *frames)
{
    bool list = PyList_Check(frames);
    PyObject *sequence =
        list || PyTuple_Check(frames) ? Py_NewRef(frames) : PySequence_Tuple(frames);

    message->views = message->few_views;
    message->frames = message->few_frames;
    message->held = 0;
    if (!sequence)
        return -1;
    message->count = list ? PyList_Size(sequence) : PyTuple_Size(sequence);
    if (message->count == 0) {
        PyErr_SetString(PyExc_IndexError, "a message has one frame at least");
        goto failed;
    }
    if (message->count > RING_FEW) {
        message->views = PyMem_Calloc((size_t)message->count, sizeof *message->views);
        message->frames = PyMem_Calloc((size_t)message->count, sizeof *message->frames);
        if (!message->views || !message->frames) {
            PyErr_NoMemory();
            goto failed;
        }
    }
    while (message->held < message->count) {
        /* Looked up each time: making the buffer of the one before may have changed the list. */
        PyObject *frame = list ? PyList_GetItem(sequence, message->held)
                               : PyTuple_GetItem(sequence, message->held);
        Py_buffer *view = &message->views[message->held];

        if (!frame || PyObject_GetBuffer(frame, view, PyBUF_SIMPLE) < 0)
            goto failed;
        message->frames[message->held].start = view->buf;
        message->frames[message->held].nbytes = (uint64_t)view->len;
        message->held++;
    }
    Py_DECREF(sequence);
    return 0;
failed:
    Py_DECREF(sequence);
    drop(message);
    return -1;
}

/* Raise MessageTooLarge; `text` has a %S for the size and a %llu for the limit. */
static inline void refuse(PyObject *kind, const char *text, PyObject *size, uint64_t most)
{
    unsigned long long limit = most;
    PyObject *args = Py_BuildValue("(N)", PyUnicode_FromFormat(text, size, limit));
    PyObject *kwargs = Py_BuildValue("{s:O,s:K}", "size", size, "limit", limit);
    PyObject *error = args && kwargs ? PyObject_Call(kind, args, kwargs) : NULL;

    if (error)
        PyErr_SetObject(kind, error);
    Py_XDECREF(args);
    Py_XDECREF(kwargs);
    Py_XDECREF(error);
}

static inline void refuse_total(PyObject *kind, const struct ring_map *map, PyObject *total)
{
    refuse(kind,
           "the message has %S bytes where max_chunk_bytes is %llu; give MessageQueue.create a "
           "larger max_chunk_bytes",
           total, map->payload);
}

/* Find how large a record is; 0 and MessageTooLarge if no ring of this size could take it. */
static inline uint64_t size_within_limits(PyObject *kind, const struct ring_map *map,
                                          const struct ring_frame *frames, uint64_t count)
{
    uint64_t total = ring_total(frames, count);
    uint64_t size = total <= map->payload ? ring_record_size(frames, count) : 0;
    PyObject *number;

    if (size && size <= map->slot)
        return size;
    number = PyLong_FromUnsignedLongLong(size ? size : total);
    if (!number)
        return 0;
    if (!size)
        refuse_total(kind, map, number);
    else
        refuse(kind,
               "the message's frames take %S bytes with their table and alignment where a slot "
               "has %llu; give MessageQueue.create a larger max_chunk_bytes",
               number, map->slot);
    Py_DECREF(number);
    return 0;
}

#endif
