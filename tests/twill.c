/* The code of all headers, once: the checks link it to examples that have their own taken out. */
#define TWILL_IMPLEMENTATION
#include "twill.h"
