/* TimerHandle: a handle with a deadline, in the loop's heap until then. */
#ifndef FL_CORE_TIMER_H
#define FL_CORE_TIMER_H

#include "core/handle.h"

typedef struct {
    FLHandle base;
    struct fl_heap_node
        node;    /* in loop->timers, which then owns a reference */
    double when; /* seconds on the loop's clock */
} FLTimer;

/* A timer for callback(*args) at when, scheduled. */
FLTimer *fl_timer_new(FLLoop *loop, double when, PyObject *callback,
                      PyObject *const *args, Py_ssize_t nargs,
                      PyObject *context);

/* The same for a C method of owner (METH_NOARGS); now is the loop's time. */
FLTimer *fl_timer_new_native(FLLoop *loop, double now, double when,
                             PyMethodDef *method, PyObject *owner);

/* Take the timer from the heap and cancel its callback.  0 or -1. */
int fl_timer_cancel(FLTimer *timer);

/* Move all timers that are due at now (seconds) to the ready ring. */
int fl_timers_fire(FLLoop *loop, double now);

static inline FLTimer *
fl_timer_of_node(struct fl_heap_node *node)
{
    return FL_CONTAINER_OF(node, FLTimer, node);
}

int fl_timer_init_types(PyObject *module);

#endif
