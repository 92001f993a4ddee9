/* The life of a TLS connection: what it calls and who calls it, its end. */
#include "io/tls_states.h"

#include "base/errors.h"
#include "core/report.h"

/* --- calls ------------------------------------------------------------------- */

/* The context may be entered already: close() and write() call the protocol from
   inside its own callbacks. */
PyObject *
fl_tls_call(FLTLS *t, PyObject *name, PyObject *arg)
{
    if (FL_UNLIKELY(t->protocol == NULL)) {
        Py_RETURN_NONE;
    }
    bool entered = t->context != NULL && PyContext_Enter(t->context) == 0;
    if (FL_UNLIKELY(!entered)) {
        PyErr_Clear();
    }
    PyObject *protocol = Py_NewRef(t->protocol);
    PyObject *args[] = {NULL, protocol, arg};
    PyObject *result = PyObject_VectorcallMethod(
        name, args + 1, (arg == NULL ? 1 : 2) | PY_VECTORCALL_ARGUMENTS_OFFSET,
        NULL);
    Py_DECREF(protocol);
    if (FL_LIKELY(entered) && PyContext_Exit(t->context) < 0) {
        Py_CLEAR(result);
    }
    return result;
}

PyObject *
fl_tls_call_below(FLTLS *t, const char *name, PyObject *arg)
{
    if (t->below == NULL) {
        Py_RETURN_NONE;
    }
    PyObject *below = Py_NewRef(t->below);
    PyObject *result = arg == NULL
                           ? PyObject_CallMethod(below, name, NULL)
                           : PyObject_CallMethod(below, name, "O", arg);
    Py_DECREF(below);
    return result;
}

/* For calls whose failure concerns nobody; a fatal exception leaves the loop. */
void
fl_tls_forget(FLTLS *t, PyObject *result)
{
    if (result == NULL) {
        PyObject *exc = fl_err_take();
        bool fatal = fl_exception_is_fatal(exc);
        fl_err_give(exc);
        if (fatal) {
            fl_loop_set_fatal(t->loop);
        }
        else {
            PyErr_WriteUnraisable((PyObject *)t);
        }
    }
    Py_XDECREF(result);
}

/* --- protocols above, transports below --------------------------------------------- */

static void
send_from_above(PyObject *transport, const char *data, size_t size)
{
    fl_tls_write_now((FLTLS *)transport, data, size);
}

int
fl_tls_set_protocol(FLTLS *t, PyObject *protocol)
{
    fl_state *st = t->loop->st;
    struct fl_filter *above = fl_filter_of(st, protocol);
    int buffered = fl_protocol_is_buffered(st, protocol);
    if (buffered < 0) {
        return -1;
    }
    if (above != NULL) {
        struct fl_below us = {send_from_above, (PyObject *)t, t->context};
        if (fl_filter_attach(above, &us) < 0) {
            return -1;
        }
    }
    t->above = above;
    t->buffered = buffered > 0;
    Py_XSETREF(t->protocol, Py_NewRef(protocol));
    return 0;
}

int
fl_filter_attach(struct fl_filter *filter, const struct fl_below *below)
{
    FLTLS *t = fl_tls_of(filter);
    if (t->below == below->transport) {
        return 0;
    }
    if (t->below != NULL || t->closed || below->transport == (PyObject *)t) {
        PyErr_SetString(PyExc_RuntimeError,
                        "the TLS transport is in use already");
        return -1;
    }
    t->send_below = below->send;
    t->below = Py_NewRef(below->transport);
    t->context = Py_XNewRef(below->context);
    return 0;
}

/* --- the waiter and the timer ------------------------------------------------------ */

void
fl_tls_wake_waiter(FLTLS *t, PyObject *exc)
{
    PyObject *waiter = t->waiter;
    if (waiter == NULL) {
        return;
    }
    t->waiter = NULL;
    PyObject *args[] = {waiter, exc == NULL ? Py_None : exc};
    fl_tls_forget(
        t, PyObject_Vectorcall(t->loop->st->sup.finish_waiter, args, 2, NULL));
    Py_DECREF(waiter);
}

void
fl_tls_stop_timer(FLTLS *t)
{
    FLTimer *timer = t->timer;
    t->timer = NULL;
    if (timer != NULL) {
        PyObject *exc = fl_err_take(); /* an error may be what stops it */
        fl_tls_forget(t,
                      PyObject_CallMethod((PyObject *)timer, "cancel", NULL));
        Py_DECREF(timer);
        fl_err_give(exc);
    }
}

int
fl_tls_start_timer(FLTLS *t, PyObject *seconds, const char *method)
{
    double delay = PyFloat_AsDouble(seconds);
    if (delay == -1.0 && PyErr_Occurred()) {
        return -1;
    }
    PyObject *callback = PyObject_GetAttrString((PyObject *)t, method);
    if (callback == NULL) {
        return -1;
    }
    fl_tls_stop_timer(t);
    double when = fl_seconds(fl_clock_ns()) + delay;
    t->timer = fl_timer_new(t->loop, when, callback, NULL, 0, t->context);
    Py_DECREF(callback);
    return t->timer == NULL ? -1 : 0;
}

/* loop.get_debug(): log that something has happened */
FL_COLD void
fl_tls_log_debug(FLTLS *t, const char *what)
{
    fl_tls_forget(t, PyObject_CallFunction(t->loop->st->sup.tls_debug, "Osd",
                                           t, what, t->handshake_began));
}

/* --- failure ----------------------------------------------------------------------- */

FL_COLD void
fl_tls_abort_and_report(FLTLS *t, FL_STEALS(2) PyObject *exc,
                        const char *message)
{
    PyObject *below = Py_NewRef(t->below == NULL ? Py_None : t->below);
    fl_tls_forget(t, fl_tls_call_below(t, "_force_close", exc));
    fl_tls_forget(t, PyObject_CallFunction(t->loop->st->sup.tls_fatal_error,
                                           "OOsO", t, exc, message, below));
    Py_DECREF(below);
    Py_DECREF(exc);
}

FL_COLD int
fl_tls_fatal_error(FLTLS *t, const char *message)
{
    if (!PyErr_ExceptionMatches(PyExc_Exception)) {
        return -1;
    }
    fl_tls_abort_and_report(t, fl_err_take(), message);
    return 0;
}

/* asyncio would have called object.method(arg) by call_soon(): report as it does. */
FL_COLD int
fl_tls_report_job(FLTLS *t, PyObject *object, const char *method,
                  PyObject *arg)
{
    PyObject *exc = fl_err_take();
    PyObject *callback =
        object == NULL ? NULL : PyObject_GetAttrString(object, method);
    if (callback == NULL) {
        PyErr_Clear();
        callback = Py_NewRef(t);
    }
    fl_err_give(exc);
    int status =
        fl_report_callback(t->loop, callback, &arg, arg != NULL, t->context);
    Py_DECREF(callback);
    return status;
}

/* --- going on ------------------------------------------------------------------------ */

int
fl_tls_advance(FLTLS *t)
{
    switch ((enum fl_tls_state)t->state) {
        case FL_TLS_HANDSHAKE:
            return fl_tls_do_handshake(t);
        case FL_TLS_WRAPPED:
            return fl_tls_read(t);
        case FL_TLS_FLUSHING:
            return fl_tls_do_flush(t);
        case FL_TLS_SHUTDOWN:
            return fl_tls_do_shutdown(t);
        case FL_TLS_UNWRAPPED:
            break;
    }
    return 0;
}

static int
resume_job(struct fl_job *job)
{
    FLTLS *t = FL_CONTAINER_OF(job, FLTLS, resume_job);
    t->resume_queued = false;
    if (t->state == FL_TLS_HANDSHAKE || t->below == NULL) {
        return 0;
    }
    return fl_tls_advance(t) < 0
               ? fl_tls_report_job(t, (PyObject *)t, "resume_reading", NULL)
               : 0;
}

int
fl_tls_queue_resume(FLTLS *t)
{
    if (t->resume_queued) {
        return 0;
    }
    t->resume_queued = true;
    return fl_loop_push_job(t->loop, &t->resume_job);
}

/* --- the end ------------------------------------------------------------------------- */

static int
end_of_stream(FLTLS *t)
{
    switch ((enum fl_tls_state)t->state) {
        case FL_TLS_HANDSHAKE:
            PyErr_SetNone(PyExc_ConnectionResetError);
            return fl_tls_handshake_failed(t);
        case FL_TLS_WRAPPED:
            t->state = FL_TLS_FLUSHING;
            if (t->paused) {
                return 1;
            }
            return fl_tls_do_flush(t);
        case FL_TLS_FLUSHING:
            if (fl_tls_encrypt(t) < 0) {
                return -1;
            }
            t->state = FL_TLS_SHUTDOWN;
            return fl_tls_do_shutdown(t);
        case FL_TLS_SHUTDOWN:
            return fl_tls_do_shutdown(t);
        case FL_TLS_UNWRAPPED:
            break;
    }
    return 0;
}

static int
tls_eof(struct fl_filter *filter)
{
    FLTLS *t = fl_tls_of(filter);
    t->eof = true;
    if (FL_UNLIKELY(t->loop->debug)) {
        fl_tls_log_debug(t, "eof");
    }
    int status = end_of_stream(t);
    if (status < 0 && PyErr_ExceptionMatches(PyExc_Exception)) {
        PyObject *exc = fl_err_take();
        fl_tls_forget(t, fl_tls_call_below(t, "close", NULL));
        fl_err_give(exc);
    }
    return status;
}

static int
lost_job(struct fl_job *job)
{
    FLTLS *t = FL_CONTAINER_OF(job, FLTLS, lost_job);
    PyObject *exc = t->lost_with == NULL ? Py_NewRef(Py_None) : t->lost_with;
    t->lost_with = NULL;
    int status;
    if (t->above != NULL) {
        PyObject *protocol = Py_NewRef(t->protocol);
        status = t->above->ops->lost(t->above, exc);
        Py_DECREF(protocol);
    }
    else {
        status =
            fl_tls_done(fl_tls_call(t, t->loop->st->str.connection_lost, exc));
    }
    if (status < 0) {
        status = fl_tls_report_job(t, t->protocol, "connection_lost", exc);
    }
    Py_DECREF(exc);
    t->above = NULL;
    Py_CLEAR(t->protocol);
    return status;
}

/* Nothing is below us any more: let go of all but what can still be asked. */
void
fl_tls_release(FLTLS *t)
{
    fl_list_unlink(&t->flush.node);
    if (t->engine != NULL) {
        t->engine->close(t);
    }
    fl_tls_buffer_clear(t->loop, &t->plain);
    fl_tls_buffer_clear(t->loop, &t->outgoing);
    fl_tls_buffer_clear(t->loop, &t->incoming);
}

static int
tls_lost(struct fl_filter *filter, PyObject *exc)
{
    FLTLS *t = fl_tls_of(filter);
    Py_INCREF(t);
    int status = 0;
    t->writes_after_loss++;
    t->closed = true;
    fl_tls_stop_timer(t);
    if (t->state != FL_TLS_HANDSHAKE
        && (t->told == FL_TLS_TOLD_MADE || t->told == FL_TLS_TOLD_EOF)) {
        t->told = FL_TLS_TOLD_LOST;
        t->lost_with = exc == Py_None ? NULL : Py_XNewRef(exc);
        status = fl_loop_push_job(t->loop, &t->lost_job);
    }
    else {
        t->above = NULL;
        Py_CLEAR(t->protocol);
    }
    t->state = FL_TLS_UNWRAPPED;
    fl_tls_release(t);
    Py_CLEAR(t->below);
    if (t->closed_twice) {
        /* as with asyncio, a protocol that keeps its transport keeps no SSLContext */
        Py_CLEAR(t->sslcontext);
        Py_CLEAR(t->sslobj);
        Py_CLEAR(t->extra);
    }
    fl_tls_wake_waiter(t, exc == Py_None ? NULL : exc);
    Py_DECREF(t);
    return status;
}

/* --- flow control of what is below ----------------------------------------------------- */

static void
tls_pause_writing(struct fl_filter *filter)
{
    fl_tls_of(filter)->writing_paused = true;
}

static void
tls_resume_writing(struct fl_filter *filter)
{
    FLTLS *t = fl_tls_of(filter);
    t->writing_paused = false;
    fl_tls_flush(t);
}

static const struct fl_filter_ops filter_ops = {
    fl_tls_made, fl_tls_received,   tls_eof,
    tls_lost,    tls_pause_writing, tls_resume_writing,
};

struct fl_filter *
fl_filter_of(fl_state *st, PyObject *protocol)
{
    return Py_IS_TYPE(protocol, st->TLSTransportType)
               ? &((FLTLS *)protocol)->filter
               : NULL;
}

void
fl_tls_init_life(FLTLS *t)
{
    t->filter.ops = &filter_ops;
    t->close_job = (struct fl_job){fl_tls_run_close, (PyObject *)t};
    t->resume_job = (struct fl_job){resume_job, (PyObject *)t};
    t->lost_job = (struct fl_job){lost_job, (PyObject *)t};
    fl_list_init(&t->flush.node);
    t->flush.run = fl_tls_run_flush;
}
