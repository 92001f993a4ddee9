/* Arguments of METH_FASTCALL | METH_KEYWORDS functions.

   A signature is a constant table; parsing compares keyword names by pointer
   first, so a call site with literal keywords never compares strings.  Values
   are borrowed from the caller's array and stay NULL when not given. */
#ifndef FL_BASE_ARGS_H
#define FL_BASE_ARGS_H

#include "base/state.h"

#define FL_ARGS_MAX 6

struct fl_signature {
    const char *function; /* for messages: "call_at" */
    uint8_t required;     /* how many of the first parameters must be given */
    uint8_t positional;   /* how many may be given by position */
    uint8_t by_position;  /* how many of those only by position */
    uint8_t count;        /* length of names */
    uint16_t names[FL_ARGS_MAX]; /* offsets of interned names in fl_state */
};

#define FL_NAME(n) ((uint16_t)offsetof(fl_state, str.n))

/* Fill values[signature->count].  0, or -1 with TypeError set as CPython would
   word it. */
int fl_args_parse(fl_state *st, const struct fl_signature *signature,
                  PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames,
                  PyObject **values);

/* The same for tp_init's tuple and dict. */
int fl_args_parse_tuple(fl_state *st, const struct fl_signature *signature,
                        PyObject *args, PyObject *kwargs, PyObject **values);

#endif
