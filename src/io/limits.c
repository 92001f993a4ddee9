#include "io/limits.h"

int
fl_parse_limits(PyObject *high, PyObject *low, Py_ssize_t high_default,
                size_t *high_mark, size_t *low_mark)
{
    bool no_high = high == NULL || high == Py_None;
    bool no_low = low == NULL || low == Py_None;
    Py_ssize_t h,
        l = no_low ? 0 : PyNumber_AsSsize_t(low, PyExc_OverflowError);
    if (PyErr_Occurred()) {
        return -1;
    }
    if (!no_high) {
        h = PyNumber_AsSsize_t(high, PyExc_OverflowError);
        if (PyErr_Occurred()) {
            return -1;
        }
    }
    else if (no_low) {
        h = high_default;
    }
    else {
        h = l > PY_SSIZE_T_MAX / 4 ? PY_SSIZE_T_MAX : 4 * l;
    }
    if (no_low) {
        l = h >= 0 ? h / 4 : -1; /* negative, and refused */
    }
    if (h < l || l < 0) {
        PyErr_Format(PyExc_ValueError,
                     "high (%zd) must be >= low (%zd) must be >= 0", h, l);
        return -1;
    }
    *high_mark = (size_t)h;
    *low_mark = (size_t)l;
    return 0;
}
