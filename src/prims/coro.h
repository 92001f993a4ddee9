/* Coroutines whose body is C.

   `await lock.acquire()` or `await sleep(1)` awaits one of these where asyncio has
   an `async def`.  They are accepted where coroutines are, start lazily, warn when
   dropped unawaited, may be awaited once, and can be sent to, thrown into and
   closed.  What has nothing to wait for makes no future.

   A kind is a name and a function, the body, called once at the start and again
   whenever what it awaits is done:

       static PySendResult
       run(FLCoro *self, PyObject *value, PyObject **result)
       {
           switch (self->step) {
               case 0:                      // the start: value is None
                   self->step = 1;
                   return fl_coro_wait(self, future, result);
               default:
                   if (value == NULL) {
                       return PYGEN_ERROR;  // an exception is raised: pass it on
                   }
                   *result = Py_NewRef(value);
                   return PYGEN_RETURN;
           }
       }

   value is what the awaited gave (borrowed), or NULL with an exception raised: its
   own, CancelledError, or GeneratorExit when the coroutine is closed.  The body
   returns PYGEN_RETURN with a new reference in *result, PYGEN_ERROR with an
   exception raised, or what one of the fl_coro_ functions below returned.  It runs
   with a reference to self held, and is not entered again while it runs.

   Cancellation needs nothing special: a task that is cancelled cancels the future
   that the coroutine waits for, and the body is then called with CancelledError. */
#ifndef FL_PRIMS_CORO_H
#define FL_PRIMS_CORO_H

#include "core/future.h"

#define FL_CORO_SLOTS 6

typedef struct FLCoro FLCoro;

/* Without a body: it yields once, is then over and gives None. */
struct fl_coro_kind {
    const char *name;     /* __name__ */
    const char *qualname; /* __qualname__, as in asyncio: "Lock.acquire" */
    PySendResult (*run)(FLCoro *self, PyObject *value, PyObject **result);
    /* NULL, or called first, and runs no code of the user's.  A result: over without
       waiting, all slots but the first are empty; NULL: nothing was done. */
    PyObject *(*at_once)(FLCoro *self);
};

enum fl_coro_phase {
    FL_CORO_CREATED = 0,
    FL_CORO_RUNNING,
    FL_CORO_SUSPENDED,
    FL_CORO_CLOSED,
};

struct FLCoro {
    PyObject_HEAD
    fl_state *st; /* borrowed: our type holds the module */
    const struct fl_coro_kind *kind;
    PyObject *weakrefs;
    PyObject *awaiting;             /* owned; a native future or an iterator */
    PyObject *slots[FL_CORO_SLOTS]; /* owned; the kind's, NULL at first */
    struct fl_list node;            /* in a list of those that wait */
    double number;                  /* the kind's */
    int32_t count;                  /* the kind's */
    uint8_t step;                   /* the kind's; 0 at first */
    uint8_t option;                 /* the kind's */
    uint8_t phase;                  /* enum fl_coro_phase */
    bool finalized;
};

/* Slots of a coroutine that waits in a list: whose list, the future, of which the list
   has a reference, too. */
#define FL_WAIT_OWNER  0
#define FL_WAIT_FUTURE 1

void fl_coro_unlink(FLCoro *self);

/* A coroutine that has not started.  When it ends, slots are emptied and node is
   unlinked, if the body has not done so. */
FLCoro *fl_coro_new(fl_state *st, const struct fl_coro_kind *kind);

/* To be returned by a body, which is called again when future is done.  Borrows
   future, which is any future, also one that is done already. */
PySendResult fl_coro_wait(FLCoro *self, PyObject *future, PyObject **result);

/* The same for anything that can be awaited.  TypeError is raised as `await`
   would, into the body. */
PySendResult fl_coro_await(FLCoro *self, PyObject *awaitable,
                           PyObject **result);

/* The same for a bare yield: to be continued in the next turn. */
static inline PySendResult
fl_coro_yield(PyObject **result)
{
    *result = Py_NewRef(Py_None);
    return PYGEN_NEXT;
}

/* Give None as the result. */
static inline PySendResult
fl_coro_return_none(PyObject **result)
{
    *result = Py_NewRef(Py_None);
    return PYGEN_RETURN;
}

/* collections.abc.Coroutine.register(type).  0 or -1. */
int fl_coro_register(PyTypeObject *type);

int fl_coro_init_types(PyObject *module);

#endif
