/* The port's settings, with the module time. */
#include "mpconfigport.h"
#undef MICROPY_PY_TIME
#define MICROPY_PY_TIME (1)
