/* How a TLS connection begins, and how it is closed. */
#include "io/tls_states.h"

#include "base/errors.h"

/* --- handshake ------------------------------------------------------------------- */

static int
call_ssl(FLTLS *t, const char *method)
{
    t->in_ssl = true;
    PyObject *result = PyObject_CallMethod(t->sslobj, method, NULL);
    t->in_ssl = false;
    return fl_tls_done(result);
}

/* The exception that is set is why. */
FL_COLD int
fl_tls_handshake_failed(FLTLS *t)
{
    fl_tls_stop_timer(t);
    t->state = FL_TLS_UNWRAPPED;
    const char *message =
        PyErr_ExceptionMatches(t->loop->st->sup.ssl_certificate_error)
            ? "SSL handshake failed on verifying the certificate"
            : "SSL handshake failed";
    PyObject *exc = fl_err_take();
    fl_err_give(Py_NewRef(exc));
    int status = fl_tls_fatal_error(t, message);
    if (status == 0) {
        fl_tls_wake_waiter(t, exc);
    }
    Py_DECREF(exc);
    return status;
}

static int
handshake_done(FLTLS *t)
{
    fl_tls_stop_timer(t);
    t->state = FL_TLS_WRAPPED;
    t->secure = true;
    t->engine->settled(t);
    if (FL_UNLIKELY(t->loop->debug)) {
        fl_tls_log_debug(t, "handshake");
    }
    if (t->told == FL_TLS_TOLD_NOTHING) {
        t->told = FL_TLS_TOLD_MADE;
        if (fl_tls_done(fl_tls_call(t, t->loop->st->str.connection_made,
                                    (PyObject *)t))
            < 0) {
            return -1;
        }
    }
    fl_tls_wake_waiter(t, NULL);
    return fl_tls_read(t);
}

int
fl_tls_do_handshake(FLTLS *t)
{
    if (t->in_ssl) {
        return 0;
    }
    fl_state *st = t->loop->st;
    int status = call_ssl(t, "do_handshake");
    if (t->state != FL_TLS_HANDSHAKE) {
        PyErr_Clear(); /* a callback of the user's has ended it */
        return 0;
    }
    if (status == 0) {
        return handshake_done(t);
    }
    if (PyErr_ExceptionMatches(st->sup.ssl_again_errors)) {
        PyErr_Clear();
        return fl_tls_send(t);
    }
    return PyErr_ExceptionMatches(st->sup.ssl_error)
               ? fl_tls_handshake_failed(t)
               : -1;
}

int
fl_tls_made(struct fl_filter *filter)
{
    FLTLS *t = fl_tls_of(filter);
    if (t->closed || t->state != FL_TLS_UNWRAPPED || t->below == NULL) {
        return 0; /* given up before it began */
    }
    if (FL_UNLIKELY(t->loop->debug)) {
        fl_tls_log_debug(t, "start");
        t->handshake_began = fl_seconds(fl_clock_ns());
    }
    t->state = FL_TLS_HANDSHAKE;
    if (fl_tls_start_timer(t, t->handshake_timeout, "_check_handshake_timeout")
        < 0) {
        return -1;
    }
    return fl_tls_do_handshake(t);
}

/* --- shutdown ---------------------------------------------------------------------- */

int
fl_tls_run_close(struct fl_job *job)
{
    FLTLS *t = FL_CONTAINER_OF(job, FLTLS, close_job);
    t->close_queued = false;
    return fl_tls_done(fl_tls_call_below(t, "close", NULL)) < 0
               ? fl_tls_report_job(t, t->below, "close", NULL)
               : 0;
}

static int
shutdown_done(FLTLS *t)
{
    fl_tls_stop_timer(t);
    if (t->close_queued || t->below == NULL) {
        return 0;
    }
    t->close_queued = true;
    return fl_loop_push_job(t->loop, &t->close_job);
}

int
fl_tls_call_eof_received(FLTLS *t)
{
    if (t->told != FL_TLS_TOLD_MADE) {
        return 0;
    }
    t->told = FL_TLS_TOLD_EOF;
    int keep_open = -1;
    if (t->above != NULL) {
        keep_open = t->above->ops->eof(t->above);
    }
    else {
        PyObject *result = fl_tls_call(t, t->loop->st->str.eof_received, NULL);
        keep_open = result == NULL ? -1 : PyObject_IsTrue(result);
        Py_XDECREF(result);
    }
    if (keep_open > 0) {
        return fl_tls_done(
            PyObject_CallNoArgs(t->loop->st->sup.warn_eof_ignored));
    }
    if (keep_open < 0) {
        PyObject *exc = fl_err_take();
        if (fl_exception_is_fatal(exc)) {
            fl_err_give(exc);
            return -1;
        }
        fl_tls_abort_and_report(t, exc, "Error calling eof_received()");
    }
    return 0;
}

int
fl_tls_do_shutdown(FLTLS *t)
{
    if (t->in_ssl) {
        return 0;
    }
    fl_state *st = t->loop->st;
    if (!t->eof && call_ssl(t, "unwrap") < 0) {
        if (PyErr_ExceptionMatches(st->sup.ssl_again_errors)) {
            PyErr_Clear();
            return fl_tls_send(t);
        }
        if (!PyErr_ExceptionMatches(st->sup.ssl_error)) {
            return -1;
        }
        fl_tls_stop_timer(t);
        return fl_tls_fatal_error(t, "Fatal error on transport");
    }
    if (fl_tls_send(t) < 0 || fl_tls_call_eof_received(t) < 0) {
        return -1;
    }
    return shutdown_done(t);
}

int
fl_tls_do_flush(FLTLS *t)
{
    if (fl_tls_read(t) < 0) {
        return -1;
    }
    if (t->state != FL_TLS_FLUSHING || t->in_ssl) {
        return 0;
    }
    if (fl_tls_encrypt(t) < 0
        && fl_tls_fatal_error(t, "Fatal error on SSL protocol") < 0) {
        return -1;
    }
    if (t->state != FL_TLS_FLUSHING) {
        return 0;
    }
    t->state = FL_TLS_SHUTDOWN;
    return fl_tls_do_shutdown(t);
}

int
fl_tls_start_shutdown(FLTLS *t)
{
    if (t->state != FL_TLS_WRAPPED && t->state != FL_TLS_HANDSHAKE) {
        return 0;
    }
    t->closed = true;
    if (t->state == FL_TLS_HANDSHAKE) {
        fl_tls_abort(t, NULL);
        return 0;
    }
    t->state = FL_TLS_FLUSHING;
    if (fl_tls_start_timer(t, t->shutdown_timeout, "_check_shutdown_timeout")
        < 0) {
        return -1;
    }
    return t->in_ssl ? fl_tls_queue_resume(t) : fl_tls_do_flush(t);
}

int
fl_tls_close(FLTLS *t)
{
    if (t->closed) {
        t->closed_twice = true;
        return 0;
    }
    t->closed = true;
    if (t->state == FL_TLS_UNWRAPPED) {
        /* asyncio lets a handshake begin that nobody waits for */
        fl_tls_abort(t, NULL);
        return 0;
    }
    return fl_tls_start_shutdown(t);
}

void
fl_tls_abort(FLTLS *t, PyObject *exc)
{
    t->closed = true;
    if (exc == NULL && t->state == FL_TLS_WRAPPED && !t->in_ssl) {
        fl_tls_flush(t); /* asyncio's write() would have sent it */
    }
    t->state = FL_TLS_UNWRAPPED;
    fl_tls_forget(
        t, fl_tls_call_below(t, "_force_close", exc == NULL ? Py_None : exc));
}
