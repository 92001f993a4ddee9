/* The primitives: their types, and the functions of the module. */
#include "prims/prims.h"

#include "prims/as_completed.h"
#include "prims/coro.h"
#include "prims/semaphore.h"
#include "prims/queue.h"
#include "prims/lock.h"
#include "prims/event.h"
#include "prims/done.h"
#include "prims/condition.h"
#include "prims/barrier.h"
#include "prims/ensure.h"
#include "prims/gather.h"
#include "prims/shield.h"
#include "prims/reader.h"
#include "prims/sleep.h"
#include "prims/stream_protocol.h"
#include "prims/taskgroup.h"
#include "prims/timeout.h"
#include "prims/wait.h"
#include "prims/wait_for.h"
#include "prims/writer.h"

static PyMethodDef prims_methods[] = {
    {"as_completed", FL_METHOD(fl_as_completed), METH_FASTCALL | METH_KEYWORDS,
     fl_as_completed_doc},
    {"create_task", FL_METHOD(fl_create_task), METH_FASTCALL | METH_KEYWORDS,
     fl_create_task_doc},
    {"ensure_future", FL_METHOD(fl_ensure_future),
     METH_FASTCALL | METH_KEYWORDS, fl_ensure_future_doc},
    {"gather", FL_METHOD(fl_gather), METH_FASTCALL | METH_KEYWORDS,
     fl_gather_doc},
    {"shield", FL_METHOD(fl_shield), METH_FASTCALL | METH_KEYWORDS,
     fl_shield_doc},
    {"sleep", FL_METHOD(fl_sleep), METH_FASTCALL | METH_KEYWORDS,
     fl_sleep_doc},
    {"timeout", FL_METHOD(fl_timeout), METH_FASTCALL | METH_KEYWORDS,
     fl_timeout_doc},
    {"timeout_at", FL_METHOD(fl_timeout_at), METH_FASTCALL | METH_KEYWORDS,
     fl_timeout_at_doc},
    {"wait", FL_METHOD(fl_wait), METH_FASTCALL | METH_KEYWORDS, fl_wait_doc},
    {"wait_for", FL_METHOD(fl_wait_for), METH_FASTCALL | METH_KEYWORDS,
     fl_wait_for_doc},
    {NULL, NULL, 0, NULL},
};

int
fl_prims_init(PyObject *module)
{
    if (fl_coro_init_types(module) < 0 || fl_gather_init_types(module) < 0
        || fl_timeout_init_types(module) < 0
        || fl_taskgroup_init_types(module) < 0
        || fl_shield_init_types(module) < 0 || fl_wait_init_types(module) < 0
        || fl_as_completed_init_types(module) < 0
        || fl_done_init_types(module) < 0 || fl_lock_init_types(module) < 0
        || fl_event_init_types(module) < 0
        || fl_condition_init_types(module) < 0
        || fl_semaphore_init_types(module) < 0
        || fl_barrier_init_types(module) < 0 || fl_queue_init_types(module) < 0
        || fl_reader_init_types(module) < 0
        || fl_stream_protocol_init_types(module) < 0
        || fl_writer_init_types(module) < 0) {
        return -1;
    }
    return PyModule_AddFunctions(module, prims_methods);
}
