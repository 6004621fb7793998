/* duty.h: what a thread has to do when the callback that it is in has returned: a wait for that,
   from the callback, would never end. */
#ifndef TWILL__ENGINE_DUTY_H
#define TWILL__ENGINE_DUTY_H

#include "platform/process.h"

/* Kept with the thread, not on its stack: when a task ends the thread, what is noted of frames that
   are gone is at worst one duty too many. */

/* `what`: more is more, for that object; 0: nothing but the end of the record (or NULL). */
static inline void twill__duty_begin(const void *object, const void *record, unsigned what)
{
    twill__self *self = twill__thread();
    unsigned i = self->duties++;
    if (i >= TWILL__DUTIES)
        return;
    self->duty[i].object = object;
    self->duty[i].record = record;
    self->duty[i].what = what;
}

static inline void twill__duty_over(void)
{
    twill__thread()->duties--;
}

/* The most of it; 0: none. */
static inline unsigned twill__duty_to(const void *object)
{
    const twill__self *self = twill__thread();
    unsigned most = 0;
    for (unsigned i = 0; i < self->duties && i < TWILL__DUTIES; i++)
        if (self->duty[i].object == object && self->duty[i].what > most)
            most = self->duty[i].what;
    return most;
}

/* Whether it is this thread that will end that record. */
static inline bool twill__duty_ends(const void *record)
{
    const twill__self *self = twill__thread();
    for (unsigned i = 0; i < self->duties && i < TWILL__DUTIES; i++)
        if (self->duty[i].record == record)
            return true;
    return false;
}

#endif
