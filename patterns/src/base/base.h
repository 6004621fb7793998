/* base.h: the vocabulary that every header shows. It only declares; platform/ and engine/ implement
   it. */
#include "base/version.h"
#include "base/link.h"
#include "base/status.h"
#include "base/time.h"
#include "base/cancel.h"
#include "base/task.h"
#include "base/run.h"
