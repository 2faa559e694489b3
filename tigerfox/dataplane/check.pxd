# Assertions of the debug build (TF_DEBUG=1); the release build compiles them away.

cdef extern from *:
    """
    #include <stdio.h>
    #include <stdlib.h>
    #ifdef TF_DEBUG
    #define TF_ASSERT(held) tf_assert((held) != 0, __FILE__, __LINE__, #held)
    static inline void tf_assert(int held, const char *file, int line, const char *what) {
        if (!held) { fprintf(stderr, "%s:%d: assertion failed: %s\\n", file, line, what); abort(); }
    }
    #else
    #define TF_ASSERT(held) ((void)0)
    #endif
    """
    void TF_ASSERT(bint held) noexcept nogil
