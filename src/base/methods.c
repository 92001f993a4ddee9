#include "base/methods.h"

static int
own_method(PyTypeObject *type, PyObject *name, PyObject *inherited)
{
    PyObject *found = PyObject_GetAttr((PyObject *)type, name);
    if (found == NULL) {
        return -1;
    }
    bool overridden = found != inherited;
    Py_DECREF(found);
    if (overridden) {
        return 0;
    }
    PyObject *own =
        PyDescr_NewMethod(type, ((PyMethodDescrObject *)inherited)->d_method);
    /* its attributes cannot be set if it is immutable */
    int status = own == NULL ? -1 : PyDict_SetItem(type->tp_dict, name, own);
    Py_XDECREF(own);
    return status;
}

static int
own_methods_of(PyTypeObject *type, const PyTypeObject *base)
{
    /* a metaclass may run code that changes the base */
    PyObject *attributes = PyDict_Copy(base->tp_dict);
    if (attributes == NULL) {
        return -1;
    }
    PyObject *name, *attribute;
    Py_ssize_t i = 0;
    int status = 0;
    while (status == 0 && PyDict_Next(attributes, &i, &name, &attribute)) {
        if (Py_IS_TYPE(attribute, &PyMethodDescr_Type)) {
            status = own_method(type, name, attribute);
        }
    }
    Py_DECREF(attributes);
    return status;
}

int
fl_own_methods(PyTypeObject *type)
{
    /* a metaclass may set __bases__ */
    PyObject *mro = Py_NewRef(type->tp_mro);
    int status = 0;
    for (Py_ssize_t i = 1; status == 0 && i < PyTuple_GET_SIZE(mro); i++) {
        const PyTypeObject *base = (PyTypeObject *)PyTuple_GET_ITEM(mro, i);
        if (base->tp_flags & Py_TPFLAGS_HEAPTYPE) {
            status = own_methods_of(type, base);
        }
    }
    Py_DECREF(mro);
    PyType_Modified(type); /* also where only some were taken over */
    return status;
}
