/* RingWriter's calls that deal with its readers: where they are, who comes and goes, who waits. */
#include "_ring_writer.h"

PyObject *ring_bad_cursor(Writer *self)
{
    const struct ring_writer *core = &self->core;
    PyObject *slot = PyLong_FromUnsignedLongLong(core->broken.slot);
    PyObject *who = slot ? PyDict_GetItemWithError(self->names, slot) : NULL;

    if (who)
        PyErr_Format(ring_writer_names(self)->segment_error,
                     "the cursor of %U is %llu where %llu to %llu is possible: its process, or "
                     "another reader's, scribbled over the control segment; evict it",
                     who, (unsigned long long)core->broken_read,
                     (unsigned long long)core->broken.read, (unsigned long long)core->position);
    Py_XDECREF(slot);
    return NULL;
}

/* Owed before the flag is cleared, and cleared before the bell rings: the other way round would
 * wipe out the flag of a reader that woke, found nothing and parked again. */
int ring_note_parked(Writer *self)
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

/* ---- where they are, and waiting for them ------------------------------------------------ */

/* What a look at the readers found, as Python has it. */
static PyObject *answer(Writer *self, enum ring_answer found)
{
    return found == RING_BROKEN ? ring_bad_cursor(self) : PyBool_FromLong(found == RING_YES);
}

/* Make a dict, slot to cursor, of the live readers whose cursor is below a limit. */
static PyObject *cursors_below(Writer *self, bool all, uint64_t limit)
{
    PyObject *cursors = PyDict_New();

    for (uint64_t i = 0; cursors && i < self->core.n_live; i++) {
        const struct ring_live *each = &self->core.live[i];
        PyObject *slot, *read;

        if (!all && each->read >= limit)
            continue;
        slot = PyLong_FromUnsignedLongLong(each->slot);
        read = PyLong_FromUnsignedLongLong(each->read);
        if (!slot || !read || PyDict_SetItem(cursors, slot, read) < 0)
            Py_CLEAR(cursors);
        Py_XDECREF(slot);
        Py_XDECREF(read);
    }
    return cursors;
}

/* Look at all live readers. */
static enum ring_answer look(Writer *self, uint64_t *slowest)
{
    enum ring_answer found;

    if (ring_enter(&self->memory) < 0)
        return RING_BROKEN;
    found = ring_look_at_cursors(&self->core, slowest);
    ring_leave(&self->memory);
    if (found == RING_BROKEN)
        ring_bad_cursor(self);
    return found;
}

PyObject *writer_cursors(Writer *self, PyObject *nothing)
{
    uint64_t slowest;

    (void)nothing;
    return look(self, &slowest) == RING_YES ? cursors_below(self, true, 0) : NULL;
}

PyObject *writer_holding_back(Writer *self, PyObject *nothing)
{
    uint64_t end = self->core.wanted_end, capacity = self->core.map.capacity, slowest;

    (void)nothing;
    if (look(self, &slowest) != RING_YES)
        return NULL;
    return cursors_below(self, false, end > capacity ? end - capacity : 0);
}

PyObject *writer_is_read(Writer *self, PyObject *position)
{
    unsigned long long wanted = PyLong_AsUnsignedLongLong(position);
    uint64_t slowest;

    if (PyErr_Occurred() || look(self, &slowest) != RING_YES)
        return NULL;
    return PyBool_FromLong(self->core.n_live == 0 || wanted < slowest);
}

PyObject *writer_arm(Writer *self, PyObject *nothing)
{
    enum ring_answer found;

    (void)nothing;
    if (ring_enter(&self->memory) < 0)
        return NULL;
    found = ring_arm_writer(&self->core);
    ring_leave(&self->memory);
    return answer(self, found);
}

PyObject *writer_disarm(Writer *self, PyObject *nothing)
{
    (void)nothing;
    if (ring_enter(&self->memory) < 0)
        return NULL;
    ring_disarm_writer(&self->core);
    ring_leave(&self->memory);
    Py_RETURN_NONE;
}

PyObject *writer_overdue(Writer *self, PyObject *nothing)
{
    enum ring_answer found;

    (void)nothing;
    if (ring_enter(&self->memory) < 0)
        return NULL;
    found = ring_writer_overdue(&self->core);
    ring_leave(&self->memory);
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

PyObject *writer_admit(Writer *self, PyObject *const *arguments, Py_ssize_t count)
{
    PyObject *who = NULL;
    uint64_t slot;
    int named;

    if (count < 1 || count > 2 || (count == 2 && !PyUnicode_Check(arguments[1]))) {
        PyErr_SetString(PyExc_TypeError, "admit takes a slot, and a name if there is one");
        return NULL;
    }
    if (enter_slot(self, arguments[0], &slot) < 0)
        return NULL;
    who = count == 2 && PyUnicode_GetLength(arguments[1])
              ? Py_NewRef(arguments[1])
              : PyUnicode_FromFormat("slot %llu", (unsigned long long)slot);
    named = who ? PyDict_SetItem(self->names, arguments[0], who) : -1;
    if (named == 0)
        ring_admit(&self->core, slot);
    ring_leave(&self->memory);
    Py_XDECREF(who);
    return named < 0 ? NULL : PyLong_FromUnsignedLongLong(self->core.position);
}

PyObject *writer_forget(Writer *self, PyObject *argument)
{
    uint64_t slot;

    if (enter_slot(self, argument, &slot) < 0)
        return NULL;
    ring_forget(&self->core, slot);
    ring_leave(&self->memory);
    Py_RETURN_NONE;
}

PyObject *writer_evict(Writer *self, PyObject *argument)
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

PyObject *writer_close(Writer *self, PyObject *nothing)
{
    int noted = 0;

    (void)nothing;
    if (ring_enter(&self->memory) < 0)
        return NULL;
    if (ring_close(&self->core))
        noted = ring_note_parked(self);
    ring_leave(&self->memory);
    return noted < 0 ? NULL : Py_NewRef(Py_None);
}
