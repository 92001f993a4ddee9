/* What the parts of a TLS connection's life call of each other. */
#ifndef FL_IO_TLS_STATES_H
#define FL_IO_TLS_STATES_H

#include "io/tls.h"

static inline FLTLS *
fl_tls_of(struct fl_filter *filter)
{
    return FL_CONTAINER_OF(filter, FLTLS, filter);
}

/* The status of a call whose result does not matter. */
static inline int
fl_tls_done(PyObject *result)
{
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

/* tls_transport.c */

/* For calls whose failure concerns nobody; a fatal exception leaves the loop. */
void fl_tls_forget(FLTLS *t, PyObject *result);
/* Finish the future of the handshake; exc may be NULL. */
void fl_tls_wake_waiter(FLTLS *t, PyObject *exc);
/* Call a method of t after so many seconds.  0, or -1 with an exception. */
int fl_tls_start_timer(FLTLS *t, PyObject *seconds, const char *method);
void fl_tls_stop_timer(FLTLS *t);
/* In debug mode: "start", "handshake" or "eof" has happened. */
void fl_tls_log_debug(FLTLS *t, const char *what);
/* End the connection because of exc. */
void fl_tls_abort_and_report(FLTLS *t, FL_STEALS(2) PyObject *exc,
                             const char *message);
/* The exception that is set came out of what asyncio would have called as
   object.method(arg) by call_soon().  As fl_report_callback(). */
int fl_tls_report_job(FLTLS *t, PyObject *object, const char *method,
                      PyObject *arg);

/* tls_handshake.c: 0, or -1 with an exception */
int fl_tls_made(struct fl_filter *filter);
int fl_tls_do_handshake(FLTLS *t);
/* The exception that is set is why. */
int fl_tls_handshake_failed(FLTLS *t);
/* Deliver and send what there is, then shut down. */
int fl_tls_do_flush(FLTLS *t);
int fl_tls_do_shutdown(FLTLS *t);
int fl_tls_run_close(struct fl_job *job);

#endif
