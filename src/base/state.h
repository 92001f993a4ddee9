/* The module's state: types, interned names, what was imported from asyncio,
   freelists.  One per interpreter; nothing of it is ever in a C global.

   Adding an object means adding a line to one of the X lists; initialising,
   traversing and clearing follow from the list. */
#ifndef FL_BASE_STATE_H
#define FL_BASE_STATE_H

#include "base/compat.h"
#include "base/freelist.h"
#include "base/list.h"
#include "base/state_locks.h"
#include "base/state_streams.h"

/* Our types; each layer's init function fills in its own. */
#define FL_STATE_TYPES(X)                                                     \
    X(DatagramTransportType)                                                  \
    FL_STATE_LOCK_TYPES(X)                                                    \
    FL_STATE_STREAM_TYPES(X)                                                  \
    X(AsCompletedType)                                                        \
    X(CoroType)                                                               \
    X(CoroutineKindType)                                                      \
    X(FutureIterType)                                                         \
    X(FutureType)                                                             \
    X(GatheringFutureType)                                                    \
    X(HandleType)                                                             \
    X(ListenerType)                                                           \
    X(LoopType)                                                               \
    X(ReadPipeTransportType)                                                  \
    X(ServerType)                                                             \
    X(ShieldType)                                                             \
    X(StopIterationType)                                                      \
    X(SockOpType)                                                             \
    X(TCPTransportType)                                                       \
    X(TLSTransportType)                                                       \
    X(TaskType)                                                               \
    X(TimerHandleType)                                                        \
    X(WritePipeTransportType)                                                 \
    X(TaskGroupType)                                                          \
    X(TimeoutType)                                                            \
    X(WaitCounterType)

/* Names used on attribute access and in calls. */
#define FL_STATE_STRINGS(X)                                                   \
    FL_STATE_LOCK_STRINGS(X)                                                  \
    FL_STATE_STREAM_STRINGS(X)                                                \
    X(default_)                                                               \
    X(ALL_COMPLETED)                                                          \
    X(FIRST_COMPLETED)                                                        \
    X(FIRST_EXCEPTION)                                                        \
    X(_asyncio_future_blocking)                                               \
    X(_loop)                                                                  \
    X(accept)                                                                 \
    X(add_done_callback)                                                      \
    X(addr)                                                                   \
    X(address)                                                                \
    X(arg)                                                                    \
    X(args)                                                                   \
    X(buf)                                                                    \
    X(buffer_updated)                                                         \
    X(bufsize)                                                                \
    X(call_at)                                                                \
    X(call_exception_handler)                                                 \
    X(call_later)                                                             \
    X(call_soon)                                                              \
    X(cancel)                                                                 \
    X(close)                                                                  \
    X(cancelled)                                                              \
    X(cancelling)                                                             \
    X(connection_lost)                                                        \
    X(connection_made)                                                        \
    X(context)                                                                \
    X(coro)                                                                   \
    X(data)                                                                   \
    X(data_received)                                                          \
    X(datagram_received)                                                      \
    X(eager_start)                                                            \
    X(eof_received)                                                           \
    X(error_received)                                                         \
    X(fileno)                                                                 \
    X(coro_or_future)                                                         \
    X(cr_await)                                                               \
    X(create_future)                                                          \
    X(create_task)                                                            \
    X(delay)                                                                  \
    X(done)                                                                   \
    X(exception)                                                              \
    X(fs)                                                                     \
    X(fut)                                                                    \
    X(get_buffer)                                                             \
    X(get_debug)                                                              \
    X(get_loop)                                                               \
    X(get_extra_info)                                                         \
    X(gettimeout)                                                             \
    X(high)                                                                   \
    X(is_closing)                                                             \
    X(is_running)                                                             \
    X(loop)                                                                   \
    X(low)                                                                    \
    X(msg)                                                                    \
    X(name)                                                                   \
    X(nbytes)                                                                 \
    X(pause_writing)                                                          \
    X(read)                                                                   \
    X(recv)                                                                   \
    X(recv_into)                                                              \
    X(recvfrom)                                                               \
    X(recvfrom_into)                                                          \
    X(remove_done_callback)                                                   \
    X(result)                                                                 \
    X(resume_reading)                                                         \
    X(resume_writing)                                                         \
    X(send)                                                                   \
    X(sendto)                                                                 \
    X(set_name)                                                               \
    X(throw)                                                                  \
    X(write)                                                                  \
    X(setblocking)                                                            \
    X(sock)                                                                   \
    X(return_exceptions)                                                      \
    X(return_when)                                                            \
    X(set_exception)                                                          \
    X(set_result)                                                             \
    X(time)                                                                   \
    X(timeout)                                                                \
    X(uncancel)                                                               \
    X(when)

/* Types and exceptions of asyncio (their Python names, from where). */
#if FL_PY314
#  define FL_STATE_IMPORTS_314(X)                                             \
      X(log_on_exception, "asyncio.tasks", "_log_on_exception")               \
      X(add_to_awaited_by, "asyncio.futures", "future_add_to_awaited_by")     \
      X(discard_from_awaited_by, "asyncio.futures",                           \
        "future_discard_from_awaited_by")
#else
#  define FL_STATE_IMPORTS_314(X)
#endif

#define FL_STATE_IMPORTS(X)                                                   \
    FL_STATE_LOCK_IMPORTS(X)                                                  \
    FL_STATE_STREAM_IMPORTS(X)                                                \
    FL_STATE_IMPORTS_314(X)                                                   \
    X(ExceptionGroup, "builtins", "ExceptionGroup")                           \
    X(CancelledError, "asyncio.exceptions", "CancelledError")                 \
    X(InvalidStateError, "asyncio.exceptions", "InvalidStateError")           \
    X(abc_Coroutine, "collections.abc", "Coroutine")                          \
    X(asyncio_Future, "asyncio.futures", "Future")                            \
    X(asyncio_Task, "asyncio.tasks", "Task")                                  \
    X(asyncio_Handle, "asyncio.events", "Handle")                             \
    X(asyncio_TimerHandle, "asyncio.events", "TimerHandle")                   \
    X(asyncio_ReadTransport, "asyncio.transports", "ReadTransport")           \
    X(asyncio_Transport, "asyncio.transports", "Transport")                   \
    X(asyncio_DatagramTransport, "asyncio.transports", "DatagramTransport")   \
    X(BufferedProtocol, "asyncio.protocols", "BufferedProtocol")              \
    X(current_task, "asyncio.tasks", "current_task")                          \
    X(asyncio_GatheringFuture, "asyncio.tasks", "_GatheringFuture")           \
    X(isawaitable, "inspect", "isawaitable")                                  \
    X(isfuture, "asyncio.futures", "isfuture")                                \
    X(get_event_loop, "asyncio.events", "get_event_loop")                     \
    X(get_running_loop, "asyncio.events", "_get_running_loop")                \
    X(enter_task, "asyncio.tasks", "_enter_task")                             \
    X(leave_task, "asyncio.tasks", "_leave_task")                             \
    X(set_running_loop, "asyncio.events", "_set_running_loop")

/* Functions of fastloop/_support.py: cold work that C calls by position. */
#define FL_STATE_SUPPORT(X)                                                   \
    FL_STATE_STREAM_SUPPORT(X)                                                \
    X(QueueShutDown)                                                          \
    X(accept_failed)                                                          \
    X(accepted_socket)                                                        \
    X(address_families)                                                       \
    X(callback_failed)                                                        \
    X(check_callback)                                                         \
    X(check_socket)                                                           \
    X(class_for_isinstance)                                                   \
    X(coroutine_origin)                                                       \
    X(create_task_by_factory)                                                 \
    X(data_kinds)                                                             \
    X(datagram_extra)                                                         \
    X(detach_socket)                                                          \
    X(extract_stack)                                                          \
    X(finish_waiter)                                                          \
    X(future_repr)                                                            \
    X(handle_repr)                                                            \
    X(hold_socket)                                                            \
    X(iscoroutine)                                                            \
    X(log_slow)                                                               \
    X(make_socket)                                                            \
    X(pipe_fatal_error)                                                       \
    X(pipe_repr)                                                              \
    X(release_socket)                                                         \
    X(sendfile_fallback)                                                      \
    X(sendfile_mode)                                                          \
    X(send_to_nobody)                                                         \
    X(set_result_unless_done)                                                 \
    X(socket_family)                                                          \
    X(socket_kinds)                                                           \
    X(ssl_again_errors)                                                       \
    X(ssl_certificate_error)                                                  \
    X(ssl_error)                                                              \
    X(socket_type)                                                            \
    X(swap_current_task)                                                      \
    X(task_get_stack)                                                         \
    X(task_print_stack)                                                       \
    X(task_repr)                                                              \
    X(tls_debug)                                                              \
    X(tls_fatal_error)                                                        \
    X(tls_shutdown_timed_out)                                                 \
    X(tls_handshake_timed_out)                                                \
    X(tls_repr)                                                               \
    X(transport_fatal_error)                                                  \
    X(transport_repr)                                                         \
    X(warn_eof_ignored)                                                       \
    X(warn_pipe_write_failed)                                                 \
    X(unhold_socket)                                                          \
    X(warn_send_failed)                                                       \
    X(warn_tls_closed)                                                        \
    X(warn_unawaited)                                                         \
    X(warn_unclosed)                                                          \
    X(wrap_awaitable)

typedef struct fl_state {
#define X(name) PyTypeObject *name;
    FL_STATE_TYPES(X)
#undef X
    struct {
#define X(name) PyObject *name;
        FL_STATE_STRINGS(X)
#undef X
    } str;
    struct {
#define X(name, module, attribute) PyObject *name;
        FL_STATE_IMPORTS(X)
#undef X
    } imp;
    struct {
#define X(name) PyObject *name;
        FL_STATE_SUPPORT(X)
#undef X
    } sup;

    PyObject *done_coro;       /* see prims/done.h */
    PyObject *context_kwnames; /* ("context",) for vectorcalls */
    PyObject *msg_kwnames;     /* ("msg",) */
    PyObject *current_tasks;   /* asyncio's {loop: task}; NULL from 3.14 */
    PyObject *coroutine_types; /* set: types that iscoroutine() accepted */
    PyObject *loop_class; /* the first subclass of LoopType that was seen */

    Py_ssize_t running_task_offset; /* in the thread state; 0: not known */
    Py_ssize_t running_loop_offset; /* the same for the running loop */
    uint64_t task_names;            /* how many Task-N were handed out */
    uint64_t fork_generation;       /* how many forks led to this process */

    int64_t trimmed_at;           /* by fl_state_trim(), ns */
    struct fl_list loops;         /* FLLoop.node of every initialised loop */
    struct fl_list foreign_tasks; /* FLTask.node of tasks on other loops */

    struct fl_methods methods[FL_STATE_METHODS];
    struct fl_stream_link stream_links[FL_STREAM_TRANSPORTS];
    struct fl_stream_feed_link stream_feeds[FL_STREAM_PROTOCOLS];
    struct fl_stream_stock stream_stock;

    struct fl_freelist futures;
    struct fl_freelist tasks;
    struct fl_freelist handles;
    struct fl_freelist timers;
    struct fl_freelist future_iters;
    struct fl_freelist stop_iterations;
    struct fl_freelist sock_ops;
    struct fl_freelist coros;
    PyObject *young_coro; /* borrowed; see prims/coro.c */
    PyObject *young_stop; /* borrowed; see core/stop_iteration.c */
    struct fl_freelist timeouts;
} fl_state;

extern struct PyModuleDef fl_module_def;

/* The state belonging to one of our types or a subclass of one; never NULL
   while an instance lives. */
FL_BORROWED fl_state *fl_state_of_type(PyTypeObject *type);

static inline fl_state *
fl_state_of_module(PyObject *module)
{
    return (fl_state *)PyModule_GetState(module);
}

int fl_state_init(PyObject *module);
int fl_state_traverse(PyObject *module, visitproc visit, void *arg);
int fl_state_clear(PyObject *module);

void fl_state_trim(fl_state *st, int64_t now); /* when the loop is to sleep */

/* Create a heap type of the module and store it in *slot; -1 on error. */
int fl_state_add_type(PyObject *module, PyTypeObject **slot, PyType_Spec *spec,
                      PyObject *base);

#endif
