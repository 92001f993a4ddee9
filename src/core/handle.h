/* Handle: one scheduled callback, what call_soon() returns. */
#ifndef FL_CORE_HANDLE_H
#define FL_CORE_HANDLE_H

#include "core/loop.h"

#define FL_HANDLE_INLINE 3    /* arguments stored without a tuple */
#define FL_HANDLE_TUPLE  0xff /* nargs: args[0] is a tuple of all of them */

typedef struct FLHandle {
    PyObject_HEAD
    FLLoop *loop;       /* owned */
    PyObject *callback; /* owned; NULL once cancelled */
    PyObject *context;  /* owned */
    PyObject *weakrefs;
    PyObject *source_tb;  /* owned; NULL outside debug mode */
    PyMethodDef *native;  /* C: callback is the object of this method */
    PyObject *vectorcall; /* scratch: the slot that the callee may use */
    PyObject *args[FL_HANDLE_INLINE]; /* owned; args[0] is the repr if kept */
    uint8_t nargs;                    /* or FL_HANDLE_TUPLE */
    bool cancelled;
    bool has_repr;    /* cancelled in debug mode: args[0] tells what it was */
    bool describing;  /* repr() is at work */
    uint16_t running; /* how many runs are under way: fields must stay */
} FLHandle;

/* A handle for callback(*args) in context (NULL: a copy of the current one). */
FLHandle *fl_handle_new(FLLoop *loop, PyObject *callback,
                        PyObject *const *args, Py_ssize_t nargs,
                        PyObject *context);

/* A handle for a C method of owner (METH_NOARGS), which needs no context. */
FLHandle *fl_handle_new_native(FLLoop *loop, PyMethodDef *method,
                               PyObject *owner);
void fl_handle_setup_native(FLHandle *handle, FLLoop *loop,
                            PyMethodDef *method, PyObject *owner);

/* Fill in a fresh handle of either kind; on failure it is still valid to
   release it. */
int fl_handle_setup(FLHandle *handle, FLLoop *loop, PyObject *callback,
                    PyObject *const *args, Py_ssize_t nargs,
                    PyObject *context);

/* Run the callback unless cancelled.  An exception goes to the loop's handler;
   -1 only for a fatal one, which is raised. */
int fl_handle_run(FLHandle *handle);

int fl_handle_cancel(FLHandle *handle);

/* Shared with TimerHandle. */
int fl_handle_traverse(FLHandle *handle, visitproc visit, void *arg);
int fl_handle_clear(FLHandle *handle);
PyObject *fl_handle_args(FLHandle *handle);

int fl_handle_init_types(PyObject *module);

#endif
