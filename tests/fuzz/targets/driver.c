/* libFuzzer drives a target of this folder: Python inside, the compiled stages instrumented, every input one call of check().
 *
 * The environment names it: TIGERFOX_FUZZ_TARGET (module), TIGERFOX_FUZZ_PYTHON (the interpreter whose packages are used),
 * TIGERFOX_FUZZ_PATH (folders for sys.path, ':' between). An input lies in memory of exactly its size, so one byte beyond
 * it is found. A target with PYTHON_LINES = True gets coverage of Python lines too: pairs of lines that followed each
 * other in files of tigerfox/ count as libFuzzer's extra counters.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <frameobject.h>
#include <sanitizer/lsan_interface.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define COUNTERS (1 << 16)
#define KNOWN (1 << 12)

__attribute__((section("__libfuzzer_extra_counters"))) static uint8_t counters[COUNTERS];

static PyObject *check, *settle;
static struct { PyCodeObject *code; int ours; uint32_t hash; } known[KNOWN];
static uint32_t last;

static void fail(const char *what)
{
    fflush(stdout);
    if (PyErr_Occurred())
        PyErr_Print();
    fprintf(stderr, "driver: %s\n", what);
    fflush(stderr);
    abort();
}

/* Whether a function's lines count, and its hash: by file, name and first line, the same in every run. */
static int is_ours(PyCodeObject *code, uint32_t *hash)
{
    size_t place = ((uintptr_t)code >> 4) * 2654435761u % KNOWN;
    if (known[place].code != code) {
        const char *file = PyUnicode_AsUTF8(code->co_filename), *at = file ? strstr(file, "/tigerfox/") : NULL;
        uint32_t sum = 2166136261u;
        for (const char *c = at ? at : ""; *c; c++)
            sum = (sum ^ (uint8_t)*c) * 16777619u;
        Py_XDECREF(known[place].code);
        Py_INCREF(code);
        known[place].code = code;
        known[place].ours = at != NULL;
        known[place].hash = (sum ^ (uint32_t)code->co_firstlineno) * 16777619u;
    }
    *hash = known[place].hash;
    return known[place].ours;
}

static int on_line(PyObject *self, PyFrameObject *frame, int what, PyObject *arg)
{
    uint32_t hash, now;
    (void)self, (void)arg;
    if (what != PyTrace_LINE && what != PyTrace_CALL)
        return 0;
    PyCodeObject *code = PyFrame_GetCode(frame);
    if (is_ours(code, &hash)) {
        if (what == PyTrace_LINE) {
            now = (hash ^ (uint32_t)PyFrame_GetLineNumber(frame)) * 2654435761u;
            uint8_t *counter = &counters[(now ^ last >> 1) % COUNTERS];
            *counter += *counter < 255;
            last = now;
        }
    } else if (what == PyTrace_CALL) {
        PyObject_SetAttrString((PyObject *)frame, "f_trace_lines", Py_False);
    }
    Py_DECREF(code);
    return 0;
}

static const char *setting(const char *name)
{
    const char *value = getenv(name);
    if (!value)
        fail(name);
    return value;
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    PyConfig config;
    PyObject *module, *path, *lines;
    (void)argc, (void)argv;
    __lsan_disable();                   /* what Python keeps for itself is no leak of ours */
    PyConfig_InitPythonConfig(&config);
    config.install_signal_handlers = 0;
    config.write_bytecode = 0;
    PyConfig_SetBytesString(&config, &config.program_name, setting("TIGERFOX_FUZZ_PYTHON"));
    if (PyStatus_Exception(Py_InitializeFromConfig(&config)))
        fail("Python does not start");
    path = PySys_GetObject("path");
    char *folders = strdup(setting("TIGERFOX_FUZZ_PATH"));
    for (char *one = strtok(folders, ":"), place = 0; one; one = strtok(NULL, ":"), place++)
        PyList_Insert(path, place, PyUnicode_FromString(one));
    free(folders);
    module = PyImport_ImportModule(setting("TIGERFOX_FUZZ_TARGET"));
    check = module ? PyObject_GetAttrString(module, "check") : NULL;
    if (!check)
        fail("the target cannot be imported");
    settle = PyObject_GetAttrString(module, "settle");
    PyErr_Clear();
    if (getenv("TIGERFOX_FUZZ_SEEDS") && PyRun_SimpleString("import writing; writing.write()"))
        fail("seeds and words cannot be written");
    lines = PyObject_GetAttrString(module, "PYTHON_LINES");
    PyErr_Clear();
    if (lines && PyObject_IsTrue(lines))
        PyEval_SetTrace(on_line, NULL);
    __lsan_enable();
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t *copy = malloc(size ? size : 1);
    if (!copy)
        return 0;
    memcpy(copy, data, size);
    last = 0;
    PyObject *view = PyMemoryView_FromMemory((char *)copy, (Py_ssize_t)size, PyBUF_READ);
    PyObject *answer = view ? PyObject_CallOneArg(check, view) : NULL;
    if (!answer)
        fail("check() raised");
    Py_DECREF(answer);
    PyObject *released = PyObject_CallMethod(view, "release", NULL);
    if (!released)
        fail("something still holds the input");
    Py_DECREF(released);
    Py_DECREF(view);
    free(copy);
    if (settle) {
        answer = PyObject_CallNoArgs(settle);
        if (!answer)
            fail("settle() raised");
        Py_DECREF(answer);
    }
    return 0;
}
