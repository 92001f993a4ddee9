#ifndef FL_CORE_COROUTINE_KIND_H
#define FL_CORE_COROUTINE_KIND_H

#include "base/state.h"

int fl_coroutine_kind_init_types(PyObject *module);

#endif
