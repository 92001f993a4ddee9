/* sleep(): a bare yield for no time, else a timer that sets a future. */
#include "prims/sleep.h"

#include "base/args.h"
#include "prims/common.h"

#include <math.h>

enum { DELAY, RESULT, TIMER };    /* slots */
enum { START, YIELDED, WAITING }; /* steps */

static PySendResult
wait_for_timer(FLCoro *self, PyObject **result)
{
    fl_state *st = self->st;
    PyObject *loop = fl_running_loop(st);
    if (loop == NULL) {
        return PYGEN_ERROR;
    }
    PyObject *fut = fl_loop_create_future(st, loop);
    if (fut != NULL) {
        self->slots[TIMER] =
            fl_loop_release_later(st, loop, self->slots[DELAY], fut);
    }
    PySendResult status = PYGEN_ERROR;
    if (self->slots[TIMER] != NULL) {
        self->step = WAITING;
        status = fl_coro_wait(self, fut, result);
    }
    Py_XDECREF(fut);
    Py_DECREF(loop);
    return status;
}

/* The delay: 1 positive, 0 not, -1 error. */
static int
check_delay(PyObject *delay)
{
    int none = fl_is_no_time(delay);
    if (none != 0) {
        return none < 0 ? -1 : 0;
    }
#if FL_PY313
    double seconds = PyFloat_AsDouble(delay);
    if (seconds == -1.0 && PyErr_Occurred()) {
        return -1;
    }
    if (isnan(seconds)) {
        PyErr_SetString(PyExc_ValueError, "Invalid delay: NaN (not a number)");
        return -1;
    }
#endif
    return 1;
}

static PySendResult
sleep_run(FLCoro *self, PyObject *value, PyObject **result)
{
    int positive;
    switch (self->step) {
        case START:
            positive = check_delay(self->slots[DELAY]);
            if (positive < 0) {
                return PYGEN_ERROR;
            }
            if (positive) {
                return wait_for_timer(self, result);
            }
            self->step = YIELDED;
            return fl_coro_yield(result);
        case YIELDED:
            if (value == NULL) {
                return PYGEN_ERROR;
            }
            *result = Py_NewRef(self->slots[RESULT]);
            return PYGEN_RETURN;
        default:
            break;
    }
    PyObject *raised = fl_err_take();
    int status = fl_cancel_handle(self->st, self->slots[TIMER]);
    if (raised != NULL) {
        if (status < 0) {
            PyErr_Clear();
        }
        fl_err_give(raised);
        return PYGEN_ERROR;
    }
    if (status < 0) {
        return PYGEN_ERROR;
    }
    *result = Py_NewRef(self->slots[RESULT]);
    return PYGEN_RETURN;
}

static const struct fl_coro_kind sleep_kind = {"sleep", "sleep", sleep_run,
                                               NULL};
static const struct fl_coro_kind yield_kind = {"sleep", "sleep", NULL, NULL};

const char fl_sleep_doc[] =
    "sleep(delay, result=None)\n--\n\n"
    "Wait for delay seconds (int or float) and give result.\n\n"
    "With a delay of zero or less, let the loop turn once.  See asyncio.sleep.";

static const struct fl_signature sleep_signature = {
    "sleep", 1, 2, 0, 2, {FL_NAME(delay), FL_NAME(result)}};

/* HOT */
PyObject *
fl_sleep(PyObject *module, PyObject *const *args, Py_ssize_t nargs,
         PyObject *kwnames)
{
    fl_state *st = fl_state_of_module(module);
    if (FL_LIKELY(nargs == 1 && kwnames == NULL && PyLong_CheckExact(args[0])
                  && fl_int_is_not_positive(args[0]))) {
        return (PyObject *)fl_coro_new(st, &yield_kind);
    }
    PyObject *values[2] = {nargs > 0 ? args[0] : NULL, NULL};
    if (FL_UNLIKELY(nargs != 1 || kwnames != NULL)
        && fl_args_parse(st, &sleep_signature, args, nargs, kwnames, values)
               < 0) {
        return NULL;
    }
    FLCoro *self = fl_coro_new(st, &sleep_kind);
    if (self != NULL) {
        self->slots[DELAY] = Py_NewRef(values[0]);
        self->slots[RESULT] =
            Py_NewRef(values[1] == NULL ? Py_None : values[1]);
    }
    return (PyObject *)self;
}
