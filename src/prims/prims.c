/* The primitives: their types, and the functions of the module. */
#include "prims/prims.h"

#include "prims/coro.h"
#include "prims/sleep.h"

static PyMethodDef prims_methods[] = {
    {"sleep", FL_METHOD(fl_sleep), METH_FASTCALL | METH_KEYWORDS,
     fl_sleep_doc},
    {NULL, NULL, 0, NULL},
};

int
fl_prims_init(PyObject *module)
{
    if (fl_coro_init_types(module) < 0) {
        return -1;
    }
    return PyModule_AddFunctions(module, prims_methods);
}
