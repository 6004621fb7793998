/* platform.h: all that knows a system. */
#include "platform/system.h"
#include "platform/clock.h"
#include "platform/process.h"
#include "platform/park.h"
#include "platform/fence.h"
#include "platform/threads.h"
#include "platform/cpus.h"
#include "platform/ticks.h"
