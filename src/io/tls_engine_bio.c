/* The engine that needs nothing but Python's ssl module: SSLObject and MemoryBIO.

   Reading is tried only where something can come of it, since an SSLWantReadError
   costs more than the decryption of a small record. */
#include "io/tls.h"

int
fl_tls_open_bio(FLTLS *t, PyObject *in, PyObject *out)
{
    PyObject *pending = PyObject_GetAttrString(t->sslobj, "pending");
    if (pending == NULL) {
        return -1;
    }
    t->data.bio.in = Py_NewRef(in);
    t->data.bio.out = Py_NewRef(out);
    t->data.bio.pending = pending;
    t->data.bio.unread = 0;
    t->engine = &fl_tls_engine_bio;
    return 0;
}

static void
bio_close(FLTLS *t)
{
    Py_CLEAR(t->data.bio.in);
    Py_CLEAR(t->data.bio.out);
    Py_CLEAR(t->data.bio.pending);
}

static Py_ssize_t
size_attribute(PyObject *bio)
{
    PyObject *pending = PyObject_GetAttrString(bio, "pending");
    Py_ssize_t size = pending == NULL ? -1 : PyLong_AsSsize_t(pending);
    Py_XDECREF(pending);
    return size;
}

/* How much is left in the incoming BIO. */
static int
count_unread(FLTLS *t)
{
    Py_ssize_t size =
        t->data.bio.in == NULL ? 0 : size_attribute(t->data.bio.in);
    if (size < 0) {
        return -1;
    }
    t->data.bio.unread = (size_t)size;
    return 0;
}

/* A view of our memory must not outlive the call, whoever has kept it. */
static void
drop_view(PyObject *view)
{
    if (view == NULL) {
        return;
    }
    if (Py_REFCNT(view) > 1) {
        PyObject *exc = fl_err_take();
        Py_XDECREF(PyObject_CallMethod(view, "release", NULL));
        fl_err_give(exc);
    }
    Py_DECREF(view);
}

static int
bio_feed(FLTLS *t, const char *data, size_t size)
{
    if (t->data.bio.in == NULL) {
        return 0;
    }
    PyObject *view =
        PyMemoryView_FromMemory((char *)data, (Py_ssize_t)size, PyBUF_READ);
    PyObject *written =
        view == NULL ? NULL
                     : PyObject_CallMethod(t->data.bio.in, "write", "O", view);
    drop_view(view);
    Py_XDECREF(written);
    return written == NULL ? -1 : count_unread(t);
}

static int
bio_keep(FLTLS *t)
{
    return count_unread(t); /* handshake and shutdown take from it, too */
}

static size_t
bio_unread(const FLTLS *t)
{
    return t->data.bio.unread;
}

static bool
bio_readable(FLTLS *t)
{
    if (t->data.bio.in == NULL) {
        return false;
    }
    if (count_unread(t) < 0) {
        PyErr_Clear();
    }
    if (t->data.bio.unread > 0) {
        return true;
    }
    PyObject *pending = PyObject_CallNoArgs(t->data.bio.pending);
    bool some = pending != NULL && PyObject_IsTrue(pending) > 0;
    Py_XDECREF(pending);
    PyErr_Clear();
    return some;
}

/* What the exception that is set means; the wish for more data is no error. */
static enum fl_tls_status
judge(FLTLS *t)
{
    if (!PyErr_ExceptionMatches(t->loop->st->sup.ssl_again_errors)) {
        return FL_TLS_ERROR;
    }
    PyErr_Clear();
    return FL_TLS_AGAIN;
}

static enum fl_tls_status
bio_read(FLTLS *t, char *data, size_t size, size_t *got)
{
    *got = 0;
    PyObject *view =
        PyMemoryView_FromMemory(data, (Py_ssize_t)size, PyBUF_WRITE);
    PyObject *length = PyLong_FromSize_t(size);
    PyObject *count = NULL;
    if (view != NULL && length != NULL) {
        PyObject *args[] = {t->sslobj, length, view};
        t->in_ssl = true;
        count =
            PyObject_VectorcallMethod(t->loop->st->str.read, args, 3, NULL);
        t->in_ssl = false;
    }
    drop_view(view);
    Py_XDECREF(length);
    if (count == NULL) {
        return judge(t);
    }
    Py_ssize_t n = PyLong_AsSsize_t(count);
    Py_DECREF(count);
    if (n < 0 || (size_t)n > size) {
        if (!PyErr_Occurred()) {
            PyErr_SetString(PyExc_ValueError,
                            "SSLObject.read() returned nonsense");
        }
        return FL_TLS_ERROR;
    }
    *got = (size_t)n;
    return n == 0 ? FL_TLS_END : FL_TLS_OK;
}

static enum fl_tls_status
bio_write(FLTLS *t, const char *data, size_t size, size_t *taken)
{
    *taken = 0;
    PyObject *view =
        PyMemoryView_FromMemory((char *)data, (Py_ssize_t)size, PyBUF_READ);
    PyObject *count = NULL;
    if (view != NULL) {
        PyObject *args[] = {t->sslobj, view};
        t->in_ssl = true;
        count =
            PyObject_VectorcallMethod(t->loop->st->str.write, args, 2, NULL);
        t->in_ssl = false;
    }
    drop_view(view);
    if (count == NULL) {
        return judge(t);
    }
    Py_ssize_t n = PyLong_AsSsize_t(count);
    Py_DECREF(count);
    if (n < 0 || (size_t)n > size) {
        if (!PyErr_Occurred()) {
            PyErr_SetString(PyExc_ValueError,
                            "SSLObject.write() returned nonsense");
        }
        return FL_TLS_ERROR;
    }
    *taken = (size_t)n;
    return FL_TLS_OK;
}

static int
bio_collect(FLTLS *t)
{
    if (t->data.bio.out == NULL) {
        return 0;
    }
    PyObject *data = PyObject_CallMethod(t->data.bio.out, "read", NULL);
    if (data == NULL) {
        return -1;
    }
    char *bytes;
    Py_ssize_t size;
    int status = PyBytes_AsStringAndSize(data, &bytes, &size);
    if (status == 0 && size > 0
        && fl_tls_buffer_append(t->loop, &t->outgoing, bytes, (size_t)size)
               < 0) {
        PyErr_NoMemory();
        status = -1;
    }
    Py_DECREF(data);
    return status;
}

static void
bio_settled(FLTLS *Py_UNUSED(t))
{
}

const struct fl_tls_engine fl_tls_engine_bio = {
    "bio",        bio_close, bio_feed,  bio_keep,    bio_unread,
    bio_readable, bio_read,  bio_write, bio_settled, bio_collect,
};
