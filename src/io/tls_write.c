/* Encryption: what a turn has written leaves in full records and in one send.

   write() copies small data; large data is encrypted from where it lies.  What is
   written while the transport below does not keep up waits here as it is, and counts
   against the marks of flow control. */
#include "io/tls.h"

#include "base/errors.h"
#include "core/report.h"
#include "io/transport.h"

/* Encrypt this much, then give it below. */
#define STEP              (128 * 1024)
#define WARN_AFTER_WRITES 5

size_t
fl_tls_unsent(const FLTLS *t)
{
    return fl_tls_buffer_used(&t->plain) + fl_tls_buffer_used(&t->outgoing);
}

int
fl_tls_send(FLTLS *t)
{
    if (t->engine->collect(t) < 0) {
        return -1;
    }
    if (fl_tls_buffer_used(&t->outgoing) == 0) {
        return 0;
    }
    struct fl_tls_buffer out = t->outgoing;
    t->outgoing = (struct fl_tls_buffer){NULL, 0, 0, 0};
    if (FL_LIKELY(t->below != NULL)) {
        PyObject *below = Py_NewRef(t->below);
        t->send_below(below, fl_tls_buffer_data(&out),
                      fl_tls_buffer_used(&out));
        Py_DECREF(below);
    }
    fl_tls_buffer_clear(t->loop, &out);
    return 0;
}

/* Encrypt data, which nobody can move meanwhile, and give it below: all of it, even
   if the transport below has enough in between, as with asyncio.  *taken tells how
   far it came; -1 with an exception. */
static int
encrypt_from(FLTLS *t, const char *data, size_t size, size_t *taken)
{
    *taken = 0;
    while (*taken < size && t->below != NULL) {
        size_t n = size - *taken < STEP ? size - *taken : STEP;
        size_t count;
        enum fl_tls_status status =
            t->engine->write(t, data + *taken, n, &count);
        *taken += count;
        if (status == FL_TLS_ERROR || fl_tls_send(t) < 0) {
            return -1;
        }
        if (status != FL_TLS_OK) {
            break;
        }
    }
    return 0;
}

int
fl_tls_encrypt(FLTLS *t)
{
    if (t->in_ssl || t->below == NULL) {
        return 0;
    }
    /* callbacks of OpenSSL may write, and so move what is in t->plain */
    struct fl_tls_buffer plain = t->plain;
    t->plain = (struct fl_tls_buffer){NULL, 0, 0, 0};
    size_t taken;
    int status = encrypt_from(t, plain.data + plain.start,
                              fl_tls_buffer_used(&plain), &taken);
    fl_tls_buffer_consume(t->loop, &plain, taken);
    if (FL_UNLIKELY(plain.data != NULL)) {
        struct fl_tls_buffer later = t->plain;
        if (fl_tls_buffer_used(&later) > 0
            && fl_tls_buffer_append(t->loop, &plain,
                                    fl_tls_buffer_data(&later),
                                    fl_tls_buffer_used(&later))
                   < 0
            && status == 0) {
            PyErr_NoMemory();
            status = -1;
        }
        fl_tls_buffer_clear(t->loop, &later);
        t->plain = plain;
    }
    return status < 0 ? status : fl_tls_send(t);
}

/* An error of writing ends the connection; a fatal exception leaves the loop. */
static void
writing_failed(FLTLS *t)
{
    if (fl_tls_fatal_error(t, "Fatal error on SSL protocol") < 0) {
        fl_loop_set_fatal(t->loop);
    }
}

/* HOT */
void
fl_tls_flush(FLTLS *t)
{
    fl_list_unlink(&t->flush.node);
    if (t->state != FL_TLS_WRAPPED || t->in_ssl) {
        if (t->in_ssl && fl_tls_queue_resume(t) < 0) {
            PyErr_WriteUnraisable((PyObject *)t);
        }
        return;
    }
    Py_INCREF(t);
    if (!t->writing_paused && FL_UNLIKELY(fl_tls_encrypt(t) < 0)) {
        writing_failed(t);
    }
    fl_tls_control_writing(t);
    Py_DECREF(t);
}

void
fl_tls_run_flush(struct fl_flush *flush)
{
    fl_tls_flush(FL_CONTAINER_OF(flush, FLTLS, flush));
}

/* --- flow control ---------------------------------------------------------------- */

static FL_COLD void
flow_failed(FLTLS *t, const char *message)
{
    PyObject *exc = fl_err_take();
    if (fl_exception_is_fatal(exc)) {
        fl_err_give(exc);
        fl_loop_set_fatal(t->loop);
        return;
    }
    PyObject *context =
        Py_BuildValue("{s:s,s:O,s:O,s:O}", "message", message, "exception",
                      exc, "transport", t, "protocol", t);
    Py_DECREF(exc);
    if (context == NULL) {
        PyErr_WriteUnraisable((PyObject *)t);
        return;
    }
    fl_report_to_handler(t->loop->st, (PyObject *)t->loop, context);
    Py_DECREF(context);
}

static FL_COLD void
pause_protocol(FLTLS *t, bool pause)
{
    fl_state *st = t->loop->st;
    t->protocol_paused = pause;
    if (t->above != NULL) {
        if (pause) {
            t->above->ops->pause_writing(t->above);
        }
        else {
            t->above->ops->resume_writing(t->above);
        }
        return;
    }
    PyObject *result = fl_tls_call(
        t, pause ? st->str.pause_writing : st->str.resume_writing, NULL);
    if (result == NULL) {
        flow_failed(t, pause ? "protocol.pause_writing() failed"
                             : "protocol.resume_writing() failed");
    }
    Py_XDECREF(result);
}

void
fl_tls_control_writing(FLTLS *t)
{
    size_t size = fl_tls_unsent(t);
    if (FL_UNLIKELY(size >= t->write_high && !t->protocol_paused)) {
        pause_protocol(t, true);
    }
    else if (FL_UNLIKELY(t->protocol_paused && size <= t->write_low)) {
        pause_protocol(t, false);
    }
}

/* --- write ----------------------------------------------------------------------- */

static size_t
collect_limit(const FLTLS *t)
{
    return t->write_high < FL_WRITE_COLLECT ? t->write_high : FL_WRITE_COLLECT;
}

/* Encrypt what waits, then this; what cannot go yet waits. */
static int
encrypt_now(FLTLS *t, const char *data, size_t size)
{
    size_t taken = 0;
    if (fl_tls_encrypt(t) < 0) {
        return -1;
    }
    if (fl_tls_buffer_used(&t->plain) == 0
        && encrypt_from(t, data, size, &taken) < 0) {
        return -1;
    }
    if (taken < size
        && fl_tls_buffer_append(t->loop, &t->plain, data + taken, size - taken)
               < 0) {
        PyErr_NoMemory();
        return -1;
    }
    return 0;
}

static inline bool
may_encrypt(const FLTLS *t)
{
    return t->state == FL_TLS_WRAPPED && !t->writing_paused && !t->in_ssl;
}

void
fl_tls_write_now(FLTLS *t, const char *data, size_t size)
{
    if (t->state != FL_TLS_WRAPPED || t->below == NULL) {
        return;
    }
    Py_INCREF(t);
    int status = 0;
    if (may_encrypt(t)) {
        status = encrypt_now(t, data, size);
    }
    else if (fl_tls_buffer_append(t->loop, &t->plain, data, size) < 0) {
        PyErr_NoMemory();
        status = -1;
    }
    if (status < 0) {
        writing_failed(t);
    }
    fl_tls_control_writing(t);
    Py_DECREF(t);
}

/* HOT */
static int
write_view(FLTLS *t, const Py_buffer *view)
{
    size_t size = (size_t)view->len;
    size_t unsent = fl_tls_buffer_used(&t->plain);
    if (may_encrypt(t)
        && (size + unsent > collect_limit(t) || !t->loop->running)) {
        fl_tls_write_now(t, view->buf, size);
        return 0;
    }
    if (FL_UNLIKELY(fl_tls_buffer_append(t->loop, &t->plain, view->buf, size)
                    < 0)) {
        PyErr_NoMemory();
        return -1;
    }
    if (FL_LIKELY(may_encrypt(t))) {
        fl_loop_flush_later(t->loop, &t->flush);
    }
    else if (t->state == FL_TLS_WRAPPED) {
        if (t->in_ssl) {
            return fl_tls_queue_resume(t);
        }
        fl_tls_control_writing(t);
    }
    return 0;
}

static FL_COLD int
drop_write(FLTLS *t)
{
    int status = 0;
    if (t->writes_after_loss >= WARN_AFTER_WRITES) {
        PyObject *result =
            PyObject_CallNoArgs(t->loop->st->sup.warn_tls_closed);
        status = result == NULL ? -1 : 0;
        Py_XDECREF(result);
    }
    t->writes_after_loss++;
    return status;
}

int
fl_tls_write(FLTLS *t, PyObject *data)
{
    if (FL_UNLIKELY(!PyBytes_Check(data) && !PyByteArray_Check(data)
                    && !PyMemoryView_Check(data))) {
        PyErr_Format(PyExc_TypeError,
                     "data: expecting a bytes-like instance, got %s",
                     fl_type_name(Py_TYPE(data)));
        return -1;
    }
    Py_buffer view;
    if (PyObject_GetBuffer(data, &view, PyBUF_SIMPLE) < 0) {
        return -1;
    }
    int status = 0;
    if (view.len > 0) {
        status = FL_UNLIKELY(t->state != FL_TLS_WRAPPED
                             && t->state != FL_TLS_HANDSHAKE)
                     ? drop_write(t)
                     : write_view(t, &view);
    }
    PyBuffer_Release(&view);
    return status;
}
