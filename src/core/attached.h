/* What lives on a loop and has to be closed with it: transports, listeners. */
#ifndef FL_CORE_ATTACHED_H
#define FL_CORE_ATTACHED_H

#include "base/common.h"
#include "base/list.h"

struct fl_attached;

struct fl_attached_ops {
    int (*traverse)(struct fl_attached *a, visitproc visit, void *arg);
    void (*close)(struct fl_attached *a);  /* the loop closes */
    void (*forked)(struct fl_attached *a); /* in a forked child; may be NULL */
};

struct fl_attached {
    struct fl_list node; /* linked in loop->attached */
    const struct fl_attached_ops *ops;
};

#endif
