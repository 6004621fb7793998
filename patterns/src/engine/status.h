/* status.h: names and texts of the status table. */
#ifndef TWILL__ENGINE_STATUS_H
#define TWILL__ENGINE_STATUS_H

#include "platform/system.h"

TWILL__WEAK const char *twill_status_name(twill_status status)
{
    switch (status) {
#define TWILL__STATUS_NAME(NAME, VALUE, TEXT) \
    case NAME:                                \
        return #NAME;
        TWILL_STATUS_TABLE(TWILL__STATUS_NAME)
#undef TWILL__STATUS_NAME
    }
    return "unknown status";
}

TWILL__WEAK const char *twill_status_text(twill_status status)
{
    switch (status) {
#define TWILL__STATUS_TEXT(NAME, VALUE, TEXT) \
    case NAME:                                \
        return TEXT;
        TWILL_STATUS_TABLE(TWILL__STATUS_TEXT)
#undef TWILL__STATUS_TEXT
    }
    return "unknown status";
}

#endif
