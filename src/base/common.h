/* What every file of the extension includes: Python, libuv, and the few macros
   that the whole code shares.  Nothing here knows of loops. */
#ifndef FL_BASE_COMMON_H
#define FL_BASE_COMMON_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <assert.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <uv.h>

#if UV_VERSION_HEX < 0x012c00
#  error "fastloop needs libuv 1.44 or newer"
#endif

#define FL_LIKELY(x)   __builtin_expect(!!(x), 1)
#define FL_UNLIKELY(x) __builtin_expect(!!(x), 0)
#define FL_COLD        __attribute__((cold, noinline))

#define FL_CONTAINER_OF(ptr, type, field)                                     \
    ((type *)(void *)((char *)(ptr) - offsetof(type, field)))

#ifdef FL_DEBUG
#  define FL_ASSERT(x)     assert(x)
#  define FL_UNREACHABLE() assert(!"unreachable")
#else
#  define FL_ASSERT(x)     ((void)0)
#  define FL_UNREACHABLE() __builtin_unreachable()
#endif

/* Ownership, for the reader and for grep: a prototype without these borrows its
   arguments and returns a new reference.  A comment beside FL_STEALS says
   whether the reference is taken on failure too. */
#define FL_BORROWED
#define FL_STEALS(n)

/* METH_FASTCALL functions go into PyMethodDef through a cast that no compiler
   warns about. */
#define FL_METHOD(f) ((PyCFunction)(void (*)(void))(f))

#endif
