/* The parts of TLSTransport's type, which are in tls_life.c and tls_info.c. */
#ifndef FL_IO_TLS_METHODS_H
#define FL_IO_TLS_METHODS_H

#include "io/tls.h"

/* For objects made by __new__ of a base class. */
#define INERT_RETURNS_NONE(self)                                              \
    do {                                                                      \
        if (FL_UNLIKELY((self)->loop == NULL)) {                              \
            Py_RETURN_NONE;                                                   \
        }                                                                     \
    } while (0)

#define FL_TLS_WRITE_HIGH (512 * 1024)
#define FL_TLS_READ_HIGH  (256 * 1024)

/* tls_life.c */
int fl_tls_traverse(FLTLS *self, visitproc visit, void *arg);
int fl_tls_clear(FLTLS *self);
void fl_tls_finalize(FLTLS *self);
void fl_tls_dealloc(FLTLS *self);

/* tls_info.c */
extern PyGetSetDef fl_tls_getset[];
extern const char fl_tls_get_extra_info_doc[];
extern const char fl_tls_begin_doc[];
extern const char fl_tls_feed_doc[];
extern const char fl_tls_check_handshake_doc[];
extern const char fl_tls_check_shutdown_doc[];
extern const char fl_tls_pause_writing_doc[];
extern const char fl_tls_resume_writing_doc[];

PyObject *fl_tls_get_extra_info(FLTLS *self, PyObject *const *args,
                                Py_ssize_t nargs, PyObject *kwnames);
PyObject *fl_tls_repr(FLTLS *self);
PyObject *fl_tls_begin(FLTLS *self, PyObject *ignored);
PyObject *fl_tls_feed(FLTLS *self, PyObject *data);
PyObject *fl_tls_check_handshake(FLTLS *self, PyObject *ignored);
PyObject *fl_tls_check_shutdown(FLTLS *self, PyObject *ignored);
PyObject *fl_tls_pause_writing(FLTLS *self, PyObject *ignored);
PyObject *fl_tls_resume_writing(FLTLS *self, PyObject *ignored);

#endif
