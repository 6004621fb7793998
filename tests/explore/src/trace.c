/* trace.c: what happened in a run, in words, and the report of a failure. No address of the machine
   is printed, so that a run gives the same text every time. */
#include "explorer.h"

#include <elf.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <unwind.h>

enum { STEPS = 1 << 14, NAMES = 64, AT_ONCE = 60, SCREEN = 40, COLUMNS = 160, LEAST = 8 };

typedef struct step {
    const char *operation;
    const void *address, *pc;
    visit visit; /* that it is part of */
    uint64_t old, value;
    uint32_t number;
    int8_t thread, order;
    bool stale;
} step;

static visit visit_around(const void *pc);

static step steps[STEPS];
static uint32_t step_count;
static struct {
    const void *address;
    const char *name;
} names[NAMES];
static int name_count;

void trace_reset(void)
{
    step_count = 0;
    name_count = 0;
}

/* A plain access, which is told only when another one races with it: what the trace was like
   then. */
uint32_t trace_place(void)
{
    return step_count;
}

/* Puts it there after all. */
void trace_earlier(uint32_t place, uint32_t number, int who, const char *operation,
                   const void *address, const void *pc)
{
    if (step_count - place >= STEPS - 1)
        return; /* forgotten */
    for (uint32_t i = step_count++; i > place; i--)
        steps[i % STEPS] = steps[(i - 1) % STEPS];
    steps[place % STEPS] = (step){.operation = operation,
                                  .address = address,
                                  .pc = pc,
                                  .number = number,
                                  .thread = (int8_t)who,
                                  .order = NO_ORDER};
}

/* The line that a report names for the current thread. */
void stands_at(const void *pc)
{
    self()->pc = pc;
    self()->visit = x.callers ? visit_around(pc) : (visit){NULL, NULL};
}

void trace(const char *operation, const void *address, uint64_t old, uint64_t value, int order,
           bool stale, const void *pc)
{
    visit inside = {NULL, NULL};

    if (x.current != CLOCK && pc) {
        stands_at(pc);
        inside = self()->visit;
    }
    steps[step_count++ % STEPS] =
        (step){operation,         address,       pc,   inside, old, value, x.steps,
               (int8_t)x.current, (int8_t)order, stale};
}

/* ---- names ---- */

static const char *symbols_of_program(size_t *count, const char **text)
{
    static const Elf64_Sym *table;
    static size_t entries;
    static const char *strings;

    if (!strings) {
        int fd = open("/proc/self/exe", O_RDONLY);
        struct stat info;
        const char *file;
        const Elf64_Ehdr *head;
        const Elf64_Shdr *sections;
        strings = "";
        if (fd == -1 || fstat(fd, &info) != 0)
            return NULL;
        file = mmap(NULL, (size_t)info.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
        close(fd);
        if (file == MAP_FAILED)
            return NULL;
        head = (const Elf64_Ehdr *)(const void *)file;
        sections = (const Elf64_Shdr *)(const void *)(file + head->e_shoff);
        for (int i = 0; i < head->e_shnum; i++)
            if (sections[i].sh_type == SHT_SYMTAB) {
                table = (const Elf64_Sym *)(const void *)(file + sections[i].sh_offset);
                entries = sections[i].sh_size / sizeof *table;
                strings = file + sections[sections[i].sh_link].sh_offset;
            }
    }
    *count = entries;
    *text = strings;
    return (const char *)table;
}

void each_object(const char *prefix, void (*use)(char *address, size_t size))
{
    size_t count = 0;
    const char *strings = "";
    const Elf64_Sym *table = (const Elf64_Sym *)(const void *)symbols_of_program(&count, &strings);

    for (size_t i = 0; table && i < count; i++)
        if (ELF64_ST_TYPE(table[i].st_info) == STT_OBJECT &&
            strncmp(strings + table[i].st_name, prefix, strlen(prefix)) == 0)
            use((char *)(uintptr_t)table[i].st_value, table[i].st_size);
}

/* ---- the library's own steps: a report has one line for all that a call of it does ---- */

typedef struct function {
    uintptr_t begin, end;
    const char *name;
} function;

static function *functions; /* of the program, by address */
static size_t function_count;

static int by_address(const void *a, const void *b)
{
    uintptr_t left = ((const function *)a)->begin, right = ((const function *)b)->begin;

    return (left > right) - (left < right);
}

static void list_functions(void)
{
    size_t count = 0;
    const char *strings = "";
    const Elf64_Sym *table = (const Elf64_Sym *)(const void *)symbols_of_program(&count, &strings);

    if (functions)
        return;
    functions = calloc(count + 1, sizeof *functions);
    for (size_t i = 0; table && functions && i < count; i++)
        if (ELF64_ST_TYPE(table[i].st_info) == STT_FUNC && table[i].st_size)
            functions[function_count++] =
                (function){table[i].st_value, table[i].st_value + table[i].st_size,
                           strings + table[i].st_name};
    qsort(functions, function_count, sizeof *functions, by_address);
}

/* The name of the function that calls from there; NULL: none of the program's. */
static const char *function_at(const void *pc)
{
    uintptr_t at = (uintptr_t)pc - 1; /* inside the call */
    size_t low = 0, high = function_count;

    while (low < high) {
        size_t middle = (low + high) / 2;
        if (functions[middle].begin <= at)
            low = middle + 1;
        else
            high = middle;
    }
    return low && at < functions[low - 1].end ? functions[low - 1].name : NULL;
}

static bool in_library(const char *name)
{
    return name && strncmp(name, "twill_", 6) == 0;
}

static _Unwind_Reason_Code look_at_frame(struct _Unwind_Context *context, void *found)
{
    const void *pc = (const void *)(uintptr_t)_Unwind_GetIP(context);
    const char *name = function_at(pc);
    visit *inside = found;

    if (in_library(name))
        inside->function = name;
    else if (inside->function && name)
        inside->from = pc;
    return inside->from ? _URC_NORMAL_STOP : _URC_NO_REASON;
}

/* What the step at `pc` is part of. No function: it is the program's own; no `from`: a thread of
   the library's is at its own work. Slow. */
static visit visit_around(const void *pc)
{
    visit inside = {NULL, NULL};

    list_functions();
    if (in_library(function_at(pc)))
        _Unwind_Backtrace(look_at_frame, &inside);
    return inside;
}

static _Unwind_Reason_Code look_for_program(struct _Unwind_Context *context, void *found)
{
    const void *pc = (const void *)(uintptr_t)_Unwind_GetIP(context);

    if (!function_at(pc))
        return _URC_NO_REASON;
    *(const void **)found = pc;
    return _URC_NORMAL_STOP;
}

/* Where the current thread is in the program, also when it has not come to a step. Slow. */
static void stands_here(void)
{
    const void *pc = NULL;

    if (!x.active || x.current == CLOCK)
        return;
    list_functions();
    _Unwind_Backtrace(look_for_program, &pc);
    if (pc)
        stands_at(pc);
}

/* An object or a function of the program. */
static bool symbol_name(const void *address, char *text, size_t size)
{
    size_t count = 0;
    const char *strings = "";
    const Elf64_Sym *table = (const Elf64_Sym *)(const void *)symbols_of_program(&count, &strings);

    for (size_t i = 0; table && i < count; i++) {
        uintptr_t offset = (uintptr_t)address - table[i].st_value;
        const char *name = strings + table[i].st_name;
        int type = ELF64_ST_TYPE(table[i].st_info);
        if ((type != STT_OBJECT && type != STT_FUNC) || offset >= table[i].st_size)
            continue;
        snprintf(text, size, "%.*s", (int)strcspn(name, "."), name);
        if (offset)
            snprintf(text + strlen(text), size - strlen(text), "+%lu", (unsigned long)offset);
        return true;
    }
    return false;
}

void trace_name(const void *address, const char *name)
{
    if (name_count < NAMES) {
        names[name_count].address = address;
        names[name_count++].name = name;
    }
}

void name_of(const void *address, char *text, size_t size)
{
    const char *p = address;

    for (int i = 0; i < name_count; i++)
        if (names[i].address == address) {
            snprintf(text, size, "%s", names[i].name);
            return;
        }
    for (int i = 0; i < x.thread_count; i++) {
        const thread *t = &x.threads[i];
        if (address == t) {
            snprintf(text, size, "T%d", i);
            return;
        }
        if (p >= t->stack && p < t->stack + STACK_SIZE) {
            snprintf(text, size, "T%d.stack-%ld", i, (long)(t->stack + STACK_SIZE - p));
            return;
        }
    }
    if (!heap_name(address, text, size) && !page_name(address, text, size) &&
        !symbol_name(address, text, size))
        snprintf(text, size, "%s", address ? "memory of no object" : "NULL");
}

/* ---- source lines, from addr2line ---- */

static void source_lines(const void *const *pcs, int count, char (*lines)[80])
{
    char command[4200], self_path[512];
    ssize_t length = readlink("/proc/self/exe", self_path, sizeof self_path - 1);
    size_t used;
    FILE *pipe;

    for (int i = 0; i < count; i++)
        strcpy(lines[i], "?");
    if (length <= 0 || x.quiet)
        return;
    self_path[length] = '\0';
    used = (size_t)snprintf(command, sizeof command, "addr2line -s -e '%s'", self_path);
    for (int i = 0; i < count && used < sizeof command - 40; i++) /* -1: inside the call */
        used += (size_t)snprintf(command + used, sizeof command - used, " %lx",
                                 (unsigned long)(uintptr_t)pcs[i] - (pcs[i] != NULL));
    snprintf(command + used, sizeof command - used, " 2>/dev/null");
    pipe = popen(command, "r");
    if (!pipe)
        return;
    for (int i = 0; i < count && fgets(lines[i], 80, pipe); i++) {
        lines[i][strcspn(lines[i], " \n")] = '\0';
        if (lines[i][0] == '?')
            strcpy(lines[i], "");
    }
    pclose(pipe);
}

void source_of(const void *pc, char *text, size_t size)
{
    char line[1][80];

    source_lines(&pc, 1, line);
    snprintf(text, size, "%s", line[0][0] ? line[0] : "?");
}

/* ---- the text of one step ---- */

/* A number, which is -3 rather than 4294967293; or, if it is the address of something, that thing's
   name. */
static void name_value(uint64_t value, char *text, size_t size)
{
    char name[80];

    if (value > UINT32_MAX - 100 && value <= UINT32_MAX)
        value -= UINT64_C(1) << 32;
    if (value > UINT64_MAX - 100)
        snprintf(text, size, "-%d", (int)-value);
    else
        snprintf(text, size, "%llu", (unsigned long long)value);
    if (value < 4096 || value > UINT64_MAX - 100)
        return;
    name_of((const void *)(uintptr_t)value, name, sizeof name);
    if (strcmp(name, "memory of no object") != 0)
        snprintf(text, size, "&%s", name);
}

static void describe_span(uint64_t ns, char *text, size_t size)
{
    static const char *const units[] = {"ns", "us", "ms", "s"};
    int unit = 0;

    for (; unit < 3 && ns && ns % 1000 == 0; unit++)
        ns /= 1000;
    snprintf(text, size, "%llu %s", (unsigned long long)ns, units[unit]);
}

static void describe(const step *s, char *text, size_t size)
{
    static const char *const orders[] = {"relaxed", "consume", "acquire",
                                         "release", "acq_rel", "seq_cst"};
    char name[80] = "", order[40] = "", old[90], value[90];
    bool only_reads = strcmp(s->operation, "load") == 0 || strcmp(s->operation, "cas-fails") == 0;

    if (s->thread == CLOCK) {
        if (strcmp(s->operation, "time") == 0)
            snprintf(text, size, "time is now %llu.%09llu s",
                     (unsigned long long)(s->value / 1000000000),
                     (unsigned long long)(s->value % 1000000000));
        else
            snprintf(text, size, "somebody %s", s->operation);
        return;
    }
    name_value(s->old, old, sizeof old);
    name_value(s->value, value, sizeof value);
    if (strcmp(s->operation, "sleep") == 0)
        describe_span(s->value, value, sizeof value);
    if (s->address)
        name_of(s->address, name, sizeof name);
    if (s->order < NO_ORDER)
        snprintf(order, sizeof order, " (%s%s)", orders[(int)s->order],
                 !s->stale    ? ""
                 : only_reads ? ", STALE"
                              : ", OVERTAKEN");
    if (strcmp(s->operation, "calls") == 0 || strcmp(s->operation, "returns") == 0)
        snprintf(text, size, s->operation[0] == 'c' ? "calls %s(%lld)" : "%s returns %lld",
                 (const char *)(uintptr_t)s->old, (long long)s->value);
    else if (s->order == NO_ORDER && s->value)
        snprintf(text, size, "%s%s%s %s", s->operation, name[0] ? " " : "", name, value);
    else if (strcmp(s->operation, "signal") == 0 || strcmp(s->operation, "broadcast") == 0)
        snprintf(text, size, "%s %s (nobody waits)", s->operation, name);
    else if (s->order == NO_ORDER || !s->address)
        snprintf(text, size, "%s%s%s%s", s->operation, name[0] ? " " : "", name, order);
    else if (strcmp(s->operation, "load") == 0)
        snprintf(text, size, "load %s: %s%s", name, value, order);
    else if (strcmp(s->operation, "store") == 0)
        snprintf(text, size, "store %s = %s%s", name, value, order);
    else if (strcmp(s->operation, "cas-fails") == 0)
        snprintf(text, size, "cas %s fails: is %s, not %s%s", name, value, old, order);
    else
        snprintf(text, size, "%s %s: %s -> %s%s", s->operation, name, old, value, order);
}

/* So many steps of one. */
static void describe_visit(const step *s, uint32_t count, char *text, size_t size)
{
    const char *plural = count == 1 ? "" : "s";

    if (s->visit.from)
        snprintf(text, size, "%.*s: %u step%s", (int)strcspn(s->visit.function, "."),
                 s->visit.function, count, plural);
    else
        snprintf(text, size, "%u step%s of twill's own", count, plural);
}

/* A lane for each thread; what is too long runs on to the right. */
static void print_step(const shown_step *s)
{
    int width = x.thread_count > 6 ? 6 : 36 / x.thread_count;

    if (s->left_out)
        printf("        ... %u more like the next ones\n", s->left_out);
    if (s->thread == CLOCK) {
        printf("%6u  ---- %s ----\n", s->number, s->text);
        return;
    }
    printf("%6u  ", s->number);
    for (int i = 0; i < s->thread; i++)
        printf("|%*s", width - 1, "");
    if (s->source[0])
        printf("T%d %-*s  %s\n", s->thread, 66 - s->thread * width, s->text, s->source);
    else
        printf("T%d %s\n", s->thread, s->text);
}

static bool alike(const step *a, const step *b)
{
    return a->pc && a->pc == b->pc && a->operation == b->operation && a->thread == b->thread;
}

/* How many steps from `at` on repeat the `period` steps before: a loop over many things. */
static uint32_t repeated(uint32_t at, uint32_t period)
{
    uint32_t length = 0;

    while (at + period + length < step_count &&
           alike(&steps[(at + length) % STEPS], &steps[(at + period + length) % STEPS]))
        length++;
    return length - length % period;
}

static bool is_inside(uint32_t at)
{
    return !x.verbose && !x.inside && steps[at % STEPS].visit.function && at + 1 < step_count;
}

/* Whether two steps in a row are told in one line. */
static bool one_visit(uint32_t at)
{
    const step *s = &steps[at % STEPS], *next = &steps[(at + 1) % STEPS];

    return is_inside(at) && is_inside(at + 1) && s->thread == next->thread &&
           s->visit.from == next->visit.from;
}

/* A loop is shown by its last round; *left_out: so many steps before that. A visit to the library
   by one line. */
static uint32_t next_shown(uint32_t at, uint32_t *left_out)
{
    *left_out = 0;
    if (is_inside(at)) {
        while (one_visit(at))
            at++;
        return at + 1;
    }
    for (uint32_t period = 1; period <= 4 && !x.verbose && !*left_out; period++) {
        uint32_t length = repeated(at, period);
        *left_out = length > 2 * period ? length : 0;
    }
    return at + 1 + *left_out;
}

/* ---- which of them are shown ---- */

/* A line of a report: some steps in a row. */
typedef struct row {
    uint32_t first, end, left_out; /* left_out: of them, before the one that stands for a loop */
    int weight;
    bool shown;
} row;

static row rows[STEPS];
static uint32_t row_count;

static const step *step_of(const row *r)
{
    return &steps[(is_inside(r->first) ? r->first : r->end - 1) % STEPS];
}

static void list_rows(void)
{
    uint32_t at = step_count > STEPS ? step_count - STEPS : 0;

    for (row_count = 0; at < step_count; row_count++) {
        row *r = &rows[row_count];
        *r = (row){.first = at, .shown = true};
        r->end = at = next_shown(at, &r->left_out);
    }
}

/* What a reader looks for: how each thread ends, old values, what is done to the objects that they
   end with, who goes on after whom; and what is late rather than what is early. */
static void weigh_rows(void)
{
    const step *last[MAX_THREADS] = {NULL};

    for (uint32_t i = row_count; i-- > 0;) {
        row *r = &rows[i];
        const step *s = step_of(r);
        bool switched = i == 0 || step_of(r - 1)->thread != s->thread;
        r->weight = (int)(300 * (uint64_t)i / row_count);
        if (switched || i + 1 == row_count || step_of(r + 1)->thread != s->thread)
            r->weight += 150;
        if (s->stale)
            r->weight += 400;
        if (s->thread == CLOCK)
            continue;
        for (int t = 0; t < x.thread_count && s->address; t++)
            if ((last[t] && last[t]->address == s->address) ||
                x.threads[t].waits_on == s->address) {
                r->weight += 200;
                break;
            }
        if (!last[s->thread]) {
            last[s->thread] = s;
            r->weight += 1000;
        }
    }
}

static int by_weight(const void *a, const void *b)
{
    const row *left = *(row *const *)a, *right = *(row *const *)b;

    if (left->weight != right->weight)
        return left->weight < right->weight ? 1 : -1;
    return left < right ? 1 : -1; /* the later one */
}

/* As many as there is room for. Returns how many steps are then in none. */
static uint32_t choose_rows(uint32_t room)
{
    static row *order[STEPS];
    uint32_t needed = 0, left_out = 0;

    for (uint32_t i = 0; i < row_count; i++)
        needed += rows[i].left_out ? 2 : 1;
    if (needed > room) {
        weigh_rows();
        for (uint32_t i = 0; i < row_count; i++)
            order[i] = &rows[i];
        qsort(order, row_count, sizeof order[0], by_weight);
        room--; /* for the line that counts them */
        for (uint32_t i = 0; i < row_count; i++) {
            uint32_t lines = order[i]->left_out ? 2 : 1;
            order[i]->shown = lines <= room;
            room -= order[i]->shown ? lines : 0;
        }
    }
    for (uint32_t i = 0; i < row_count; i++)
        left_out += rows[i].shown ? 0 : rows[i].end - rows[i].first;
    return left_out;
}

uint32_t shown_steps(void)
{
    list_rows();
    return row_count;
}

static void each_row(void (*show)(const shown_step *step))
{
    uint32_t at = 0;

    while (at < row_count) {
        const void *pcs[AT_ONCE];
        const row *list[AT_ONCE];
        char lines[AT_ONCE][80], text[240];
        int count = 0;
        for (; count < AT_ONCE && at < row_count; at++)
            if (rows[at].shown) {
                list[count] = &rows[at];
                pcs[count++] = is_inside(rows[at].first) ? step_of(&rows[at])->visit.from
                                                         : step_of(&rows[at])->pc;
            }
        source_lines(pcs, count, lines);
        for (int i = 0; i < count; i++) {
            const step *s = step_of(list[i]);
            if (is_inside(list[i]->first))
                describe_visit(s, list[i]->end - list[i]->first, text, sizeof text);
            else
                describe(s, text, sizeof text);
            show(&(shown_step){s->number, list[i]->left_out, s->thread, text, lines[i], s->stale});
        }
    }
}

void each_shown_step(void (*show)(const shown_step *step))
{
    list_rows();
    each_row(show);
}

static void print_steps(uint32_t room)
{
    uint32_t left_out;

    list_rows();
    if (step_count > STEPS)
        printf("        ... the first %u steps are forgotten\n", step_count - STEPS);
    left_out = choose_rows(x.verbose ? UINT32_MAX : room);
    if (left_out)
        printf("        ... %u steps more, --verbose shows them\n", left_out);
    each_row(print_step);
}

void name_of_thread(int index, char *text, size_t size)
{
    const thread *t = &x.threads[index];
    char name[80] = "main";

    if (index)
        name_of(t->c11_main ? (const void *)(uintptr_t)t->c11_main
                            : (const void *)(uintptr_t)t->pthread_main,
                name, sizeof name);
    if (in_library(name))
        strcpy(name, "a thread of twill's");
    snprintf(text, size, "T%d %s", index, name);
}

/* Returns how many lines that are, if `print` is false. */
static uint32_t print_threads(bool print)
{
    uint32_t lines = 0, ended = 0, more = 0;
    bool few = x.verbose || x.thread_count <= 8;

    for (int i = 0; i < x.thread_count; i++) {
        const thread *t = &x.threads[i];
        char text[160] = "ended", source[80] = "", name[100];
        if (t->state == ENDED && !few) {
            ended++;
            continue;
        }
        if (lines == 12 && !few) {
            more++;
            continue;
        }
        lines++;
        if (!print)
            continue;
        if (t->state == BLOCKED)
            describe_wait(t, text, sizeof text);
        else if (t->state == RUNNABLE)
            strcpy(text, "can run");
        if (t->state != ENDED && t->pc)
            source_of(t->pc, source, sizeof source);
        name_of_thread(i, name, sizeof name);
        printf("  %s: %s%s%s", name, text, source[0] ? " " : "", source);
        if (t->state != ENDED && t->visit.from) {
            source_of(t->visit.from, source, sizeof source);
            printf(", in %s %s", t->visit.function, source);
        }
        printf("\n");
    }
    if (more && print)
        printf("  ... %u threads more, --verbose shows them\n", more);
    if (ended && print)
        printf("  %u threads have ended\n", ended);
    return lines + (more > 0) + (ended > 0);
}

/* Where the block was made that the message names. */
static void print_origin(void)
{
    const char *name = strstr(x.message, "block");
    char text[120];

    if (name && heap_origin(atoi(name + 5), text, sizeof text))
        printf("  %s\n", text);
}

/* ---- failures ---- */

void fail(const char *format, ...)
{
    va_list list;

    va_start(list, format);
    vsnprintf(x.message, sizeof x.message, format, list);
    va_end(list);
    x.failed = true;
    if (!x.active) {
        fprintf(stderr, "explorer: %s\n", x.message);
        exit(3);
    }
    if (!x.quiet)
        stands_here();
    finish();
}

/* Lines that a text takes on the screen. */
static uint32_t lines_of(const char *text, size_t columns)
{
    uint32_t lines = 0;

    for (size_t length; *text; text += length + (text[length] == '\n'), lines++)
        if ((length = strcspn(text, "\n")) > columns)
            length = columns;
    return lines;
}

/* How many lines of a screen are left for the steps: of a terminal's, or 40. */
static uint32_t room_for_steps(const char *place)
{
    struct winsize terminal;
    uint32_t rows_of_screen = SCREEN, columns = COLUMNS;
    uint32_t used = 7; /* empty ones, the totals, where a block comes from, the next prompt */
    uint32_t least = x.details[0] ? 1 : LEAST; /* a history says more than steps */

    if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &terminal) == 0 && terminal.ws_row) {
        rows_of_screen = terminal.ws_row;
        columns = terminal.ws_col < 40 ? 40 : terminal.ws_col;
    }
    used += lines_of(x.message, columns - 8) + lines_of(place, columns) +
            lines_of(x.details, columns) + print_threads(false) + labels_to_reach() +
            (step_count > STEPS);
    return rows_of_screen > used + least ? rows_of_screen - used : least;
}

void report_failure(void)
{
    char id[6000], place[6200];

    replay_id(id, sizeof id);
    snprintf(place, sizeof place,
             "in schedule %llu, at step %u, in T%d; to repeat it, with the same options: "
             "--replay=%s",
             (unsigned long long)x.runs, x.steps, x.current, id);
    printf("\nFAILED: %s\n%s\n\n", x.message, place);
    fputs(x.details, stdout);
    print_steps(room_for_steps(place));
    printf("\n");
    print_threads(true);
    print_origin();
    printf("\n");
    fflush(stdout);
    if (x.svg)
        picture_of_failure(x.svg);
}

static void stop(const char *what, const void *pc) __attribute__((noreturn));
static void stop(const char *what, const void *pc)
{
    char line[80] = "the start";

    x.quiet = false; /* or there are no lines */
    if (pc)
        source_of(pc, line, sizeof line);
    fprintf(stderr, "explorer: %s (T%d, at %s)\n", what, x.current, line);
    x.active = false;
    exit(3);
}

/* The explorer itself cannot go on: never a "passed". */
void limit(const char *what)
{
    stands_here();
    stop(what, x.active ? self()->pc : NULL);
}

/* In place of each function that is not in harmless.txt: explore-cc. */
EXPORT void explore_does_not_know(const char *name, const void *pc)
{
    char text[400];

    snprintf(text, sizeof text,
             "the explorer does not know %s: does it block, or keep what the next run would find? "
             "If it is harmless, explore-cc --allow=%s",
             name, name);
    stop(text, pc);
}

EXPORT void explore_fail(const char *format, ...)
{
    char text[400];
    va_list list;

    va_start(list, format);
    vsnprintf(text, sizeof text, format, list);
    va_end(list);
    fail("%s", text);
}

EXPORT void explore_name(const void *address, const char *name)
{
    trace_name(address, name);
}
