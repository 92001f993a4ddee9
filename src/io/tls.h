/* TLSTransport: what a protocol gets for a connection that is encrypted.

   It is two things in one object: a filter on the transport below, which it is the
   protocol of, and the transport of the protocol above.  The SSL object is one of
   Python's, made by the user's context; handshake and shutdown go through its
   Python methods, data through an engine.

   The states, and what the protocol has been told, go their way as in asyncio's
   sslproto, whose behaviour is the reference.  Beware: every call into the protocol
   may close or abort us, or change the protocol. */
#ifndef FL_IO_TLS_H
#define FL_IO_TLS_H

#include "core/timer.h"
#include "io/filter.h"
#include "io/tls_buffer.h"
#include "io/tls_engine.h"

enum fl_tls_state {
    FL_TLS_UNWRAPPED = 0, /* before the handshake, and after the end */
    FL_TLS_HANDSHAKE,
    FL_TLS_WRAPPED,
    FL_TLS_FLUSHING, /* closing: what has been read is still delivered */
    FL_TLS_SHUTDOWN, /* close-notify is due, or sent */
};

enum fl_tls_told {
    FL_TLS_TOLD_NOTHING = 0,
    FL_TLS_TOLD_MADE,
    FL_TLS_TOLD_EOF,
    FL_TLS_TOLD_LOST,
};

typedef struct FLTLS {
    PyObject_HEAD
    PyObject *base_slots[4]; /* asyncio.Transport's */
    PyObject *dict;
    PyObject *weakrefs;
    struct fl_filter filter; /* as the transport below sees us */
    struct fl_filter *above; /* borrowed: protocol, if that is a filter */
    void (*send_below)(PyObject *below, const char *data, size_t size);
    PyObject *below;      /* owned; NULL before attach and after the end */
    FLLoop *loop;         /* owned */
    PyObject *context;    /* owned; of the transport below */
    PyObject *protocol;   /* owned; NULL after connection_lost */
    PyObject *waiter;     /* owned; future of the handshake, or NULL */
    PyObject *sslcontext; /* owned */
    PyObject *sslobj;     /* owned; ssl.SSLObject */
    PyObject *extra;      /* owned dict; what get_extra_info() has told */
    PyObject *lost_with;  /* owned; for the queued connection_lost */
    FLTimer *timer;       /* owned; of the handshake or the shutdown */
    PyObject *handshake_timeout; /* owned; a number of seconds */
    PyObject *shutdown_timeout;  /* owned */
    double handshake_began;      /* loop time; debug mode only */

    const struct fl_tls_engine *engine;
    union fl_tls_engine_data data;
    struct fl_tls_buffer incoming; /* ciphertext not consumed */
    struct fl_tls_buffer outgoing; /* ciphertext not given below */
    struct fl_tls_buffer plain;    /* written, not encrypted */

    struct fl_job close_job;  /* close what is below */
    struct fl_job resume_job; /* go on after resume_reading() */
    struct fl_job lost_job;
    struct fl_flush flush;
    size_t write_high, write_low; /* marks of flow control, bytes */
    size_t read_high, read_low;
    uint32_t writes_after_loss;
    uint8_t state;   /* enum fl_tls_state */
    uint8_t told;    /* enum fl_tls_told */
    bool closed : 1; /* close() or abort() was called, or the end came */
    bool closed_twice : 1;
    bool buffered : 1; /* the protocol is a BufferedProtocol */
    bool secure : 1;   /* the handshake has succeeded */
    bool eof : 1;      /* the transport below has seen the end */
    bool in_ssl : 1;   /* inside OpenSSL, which is not to be entered again */
    bool paused : 1;   /* pause_reading() was called */
    bool below_paused : 1;    /* we have paused reading below */
    bool writing_paused : 1;  /* below asked us to pause writing */
    bool protocol_paused : 1; /* and we asked the protocol */
    bool close_queued : 1;
    bool resume_queued : 1;
} FLTLS;

/* tls_transport.c: life --------------------------------------------------------- */

/* protocol.name(arg) in the connection's context; arg may be NULL. */
PyObject *fl_tls_call(FLTLS *t, PyObject *name, PyObject *arg);
int fl_tls_set_protocol(FLTLS *t, PyObject *protocol);
void fl_tls_init_life(FLTLS *t);
/* Nothing is below us any more: let go of the engine and all buffers. */
void fl_tls_release(FLTLS *t);
int fl_tls_close(FLTLS *t);
void fl_tls_abort(FLTLS *t, PyObject *exc);
int fl_tls_start_shutdown(FLTLS *t);
/* Go on where the state says; 0, or -1 with an exception. */
int fl_tls_advance(FLTLS *t);
int fl_tls_queue_resume(FLTLS *t);
/* The exception that is set ends the connection: abort and report it.  0; -1 if
   it is none that asyncio would catch here, and still set. */
int fl_tls_fatal_error(FLTLS *t, const char *message);
/* Call a method of what is below, if there is one: cold paths. */
PyObject *fl_tls_call_below(FLTLS *t, const char *name, PyObject *arg);
int fl_tls_call_eof_received(FLTLS *t);

/* tls_read.c: 0, or -1 with an exception */
int fl_tls_received(struct fl_filter *filter, const char *data, size_t size);
int fl_tls_read(FLTLS *t);
int fl_tls_control_reading(FLTLS *t);

/* tls_write.c */
int fl_tls_write(FLTLS *t, PyObject *data);
/* Encrypt what is written and give it below. */
int fl_tls_encrypt(FLTLS *t);
void fl_tls_flush(FLTLS *t);
/* Give ciphertext below. */
int fl_tls_send(FLTLS *t);
void fl_tls_write_now(FLTLS *t, const char *data, size_t size);
size_t fl_tls_unsent(const FLTLS *t);
void fl_tls_control_writing(FLTLS *t);
void fl_tls_run_flush(struct fl_flush *flush);

extern const char fl_tls_make_doc[];
PyObject *fl_tls_make(FLLoop *loop, PyObject *const *args, Py_ssize_t nargs);
int fl_tls_init_types(PyObject *module);

#endif
