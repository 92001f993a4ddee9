/* What of the module's state belongs to locks and queues; see state.h. */
#ifndef FL_BASE_STATE_LOCKS_H
#define FL_BASE_STATE_LOCKS_H

#include <stdint.h>

/* Their types, names and what they import. */
#define FL_STATE_LOCK_TYPES(X)                                                \
    X(BarrierType)                                                            \
    X(BoundedSemaphoreType)                                                   \
    X(ConditionType)                                                          \
    X(DoneCoroType)                                                           \
    X(EventType)                                                              \
    X(LifoQueueType)                                                          \
    X(LockType)                                                               \
    X(PriorityQueueType)                                                      \
    X(QueueType)                                                              \
    X(SemaphoreType)

#define FL_STATE_LOCK_STRINGS(X)                                              \
    X(_format)                                                                \
    X(_get)                                                                   \
    X(_get_loop)                                                              \
    X(_init)                                                                  \
    X(_notify)                                                                \
    X(_put)                                                                   \
    X(_wake_up_first)                                                         \
    X(_wake_up_next)                                                          \
    X(_wakeup_next)                                                           \
    X(acquire)                                                                \
    X(append)                                                                 \
    X(clear)                                                                  \
    X(empty)                                                                  \
    X(full)                                                                   \
    X(get_nowait)                                                             \
    X(immediate)                                                              \
    X(item)                                                                   \
    X(lock)                                                                   \
    X(locked)                                                                 \
    X(maxsize)                                                                \
    X(n)                                                                      \
    X(notify)                                                                 \
    X(notify_all)                                                             \
    X(parties)                                                                \
    X(pop)                                                                    \
    X(popleft)                                                                \
    X(predicate)                                                              \
    X(put_nowait)                                                             \
    X(qsize)                                                                  \
    X(release)                                                                \
    X(remove)                                                                 \
    X(set)                                                                    \
    X(value)                                                                  \
    X(wait)

#define FL_STATE_LOCK_IMPORTS(X)                                              \
    X(BarrierState, "asyncio.locks", "_BarrierState")                         \
    X(BrokenBarrierError, "asyncio.exceptions", "BrokenBarrierError")         \
    X(QueueEmpty, "asyncio.queues", "QueueEmpty")                             \
    X(QueueFull, "asyncio.queues", "QueueFull")                               \
    X(deque, "collections", "deque")                                          \
    X(heappop, "heapq", "heappop")                                            \
    X(heappush, "heapq", "heappush")

/* Which methods of one kind of primitive are overridden: prims/bound.h. */
#define FL_STATE_METHODS 12
struct fl_methods {
    unsigned int plain; /* version tag of our type while nobody patched it */
    unsigned int
        checked;         /* of the type looked at last, if it overrides some */
    uint32_t overridden; /* which ones that does */
};

#endif
