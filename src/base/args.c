#include "base/args.h"

static PyObject *
name_at(fl_state *st, const struct fl_signature *sig, int i)
{
    return *(PyObject **)(void *)((char *)st + sig->names[i]);
}

/* Index of the parameter called name; -1 with TypeError when there is none. */
static int
find_name(fl_state *st, const struct fl_signature *sig, PyObject *name)
{
    for (int i = sig->by_position; i < sig->count; i++) {
        if (name_at(st, sig, i) == name) {
            return i;
        }
    }
    for (int i = sig->by_position; i < sig->count; i++) {
        if (PyUnicode_Compare(name_at(st, sig, i), name) == 0) {
            return i;
        }
    }
    if (!PyErr_Occurred()) {
        PyErr_Format(PyExc_TypeError,
                     "%s() got an unexpected keyword argument '%U'",
                     sig->function, name);
    }
    return -1;
}

static int
set_named(fl_state *st, const struct fl_signature *sig, PyObject *name,
          PyObject *value, PyObject **values)
{
    int i = find_name(st, sig, name);
    if (i < 0) {
        return -1;
    }
    if (values[i] != NULL) {
        PyErr_Format(PyExc_TypeError,
                     "%s() got multiple values for argument '%U'",
                     sig->function, name);
        return -1;
    }
    values[i] = value;
    return 0;
}

static int
set_positional(const struct fl_signature *sig, PyObject *const *args,
               Py_ssize_t nargs, PyObject **values)
{
    if (nargs > sig->positional) {
        PyErr_Format(PyExc_TypeError,
                     "%s() takes at most %d positional argument%s (%zd given)",
                     sig->function, sig->positional,
                     sig->positional == 1 ? "" : "s", nargs);
        return -1;
    }
    for (int i = 0; i < sig->count; i++) {
        values[i] = i < nargs ? args[i] : NULL;
    }
    return 0;
}

static int
check_required(fl_state *st, const struct fl_signature *sig,
               PyObject *const *values)
{
    for (int i = 0; i < sig->required; i++) {
        if (values[i] == NULL) {
            PyErr_Format(PyExc_TypeError,
                         "%s() missing required argument '%U' (pos %d)",
                         sig->function, name_at(st, sig, i), i + 1);
            return -1;
        }
    }
    return 0;
}

int
fl_args_parse(fl_state *st, const struct fl_signature *sig,
              PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames,
              PyObject **values)
{
    if (set_positional(sig, args, nargs, values) < 0) {
        return -1;
    }
    Py_ssize_t nkw = kwnames == NULL ? 0 : PyTuple_GET_SIZE(kwnames);
    for (Py_ssize_t i = 0; i < nkw; i++) {
        if (set_named(st, sig, PyTuple_GET_ITEM(kwnames, i), args[nargs + i],
                      values)
            < 0) {
            return -1;
        }
    }
    return check_required(st, sig, values);
}

int
fl_args_parse_tuple(fl_state *st, const struct fl_signature *sig,
                    PyObject *args, PyObject *kwargs, PyObject **values)
{
    PyObject *const *items = &PyTuple_GET_ITEM(args, 0);
    if (set_positional(sig, items, PyTuple_GET_SIZE(args), values) < 0) {
        return -1;
    }
    PyObject *name, *value;
    Py_ssize_t position = 0;
    while (kwargs != NULL && PyDict_Next(kwargs, &position, &name, &value)) {
        if (set_named(st, sig, name, value, values) < 0) {
            return -1;
        }
    }
    return check_required(st, sig, values);
}
