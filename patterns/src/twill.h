/* twill.h - all patterns of twill in one file. SPDX-License-Identifier: MIT OR Unlicense

   The same as including each twill_<pattern>.h; every manual stands before its declarations. */
#include "parallel_map.h"
#include "producer_consumer.h"
#include "pipeline.h"
#include "fan_out_fan_in.h"
#include "progress_tracker.h"
#include "rate_limiter.h"
#include "retry_backoff.h"
#include "batch_processing.h"
#include "graceful_shutdown.h"
#include "resource_pool.h"
#include "timeout_fallback.h"
#include "worker_pool.h"
