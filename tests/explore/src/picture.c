/* picture.c: the report of a failure as a picture (--svg=FILE): a lane for each thread, time goes
   down. */
#include "explorer.h"

#include <stdio.h>
#include <string.h>

enum { LANE = 250, STEP = 22, TOP = 74, CHARACTER = 7 };

static FILE *file;
static int y;
static int last_y[MAX_THREADS];

/* Text of SVG has no <, & and so on as they are. */
static void put(const char *text, size_t most)
{
    for (size_t i = 0; text[i] && i < most; i++)
        switch (text[i]) {
        case '<':
            fputs("&lt;", file);
            break;
        case '>':
            fputs("&gt;", file);
            break;
        case '&':
            fputs("&amp;", file);
            break;
        default:
            fputc(text[i], file);
        }
    if (strlen(text) > most)
        fputs("...", file);
}

static int lane_of(int index)
{
    return 60 + index * LANE;
}

static void put_text(int at, int line, const char *style, const char *text, size_t most)
{
    fprintf(file, "<text x=\"%d\" y=\"%d\" class=\"%s\">", at, line, style);
    put(text, most);
    fputs("</text>\n", file);
}

static void draw_step(const shown_step *s)
{
    char line[200];
    int at;

    if (s->left_out) {
        snprintf(line, sizeof line, "... %u more like the next ones", s->left_out);
        put_text(60, y += STEP, "quiet", line, 100);
    }
    y += STEP;
    snprintf(line, sizeof line, "%u", s->number);
    put_text(8, y, "quiet", line, 10);
    if (s->thread == CLOCK) { /* across all lanes */
        fprintf(file, "<line x1=\"40\" y1=\"%d\" x2=\"%d\" y2=\"%d\" class=\"time\"/>\n", y - 4,
                lane_of(x.thread_count), y - 4);
        put_text(44, y - 7, "time", s->text, 80);
        return;
    }
    at = lane_of(s->thread);
    if (last_y[s->thread])
        fprintf(file, "<line x1=\"%d\" y1=\"%d\" x2=\"%d\" y2=\"%d\" class=\"runs\"/>\n", at,
                last_y[s->thread], at, y - 4);
    last_y[s->thread] = y - 4;
    fprintf(file, "<circle cx=\"%d\" cy=\"%d\" r=\"4\" class=\"%s\"/>\n", at, y - 4,
            s->stale ? "stale" : "step");
    snprintf(line, sizeof line, "%s  %s", s->text, s->source);
    fprintf(file, "<title>");
    put(line, sizeof line);
    fputs("</title>\n", file);
    put_text(at + 9, y, s->stale ? "stale" : "step", s->text, (LANE - 14) / CHARACTER);
}

void picture_of_failure(const char *path)
{
    char line[400];
    int width = lane_of(x.thread_count) + 20;

    file = fopen(path, "w");
    if (!file) {
        perror(path);
        return;
    }
    memset(last_y, 0, sizeof last_y);
    y = TOP;
    fprintf(file,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %d %u\" width=\"%d\" "
            "font-family=\"monospace\" font-size=\"11\">\n"
            "<style>text{fill:#222}.title{font-size:14px;font-weight:bold}.quiet{fill:#999}"
            ".time{stroke:none;fill:#27c}line.time{stroke:#27c;stroke-dasharray:4}"
            "line.runs{stroke:#bbb;stroke-width:3}.lane{stroke:#ddd}circle.step{fill:#222}"
            ".stale{fill:#c22}.waits{fill:#c22}</style>\n"
            "<rect width=\"100%%\" height=\"100%%\" fill=\"#fff\"/>\n",
            width, TOP + STEP * (2 * shown_steps() + 4), width);
    put_text(8, 20, "title", x.message, (size_t)(width - 30) / 9);
    snprintf(line, sizeof line, "schedule %llu, step %u", (unsigned long long)x.runs, x.steps);
    put_text(8, 38, "quiet", line, 60);
    for (int i = 0; i < x.thread_count; i++) {
        name_of_thread(i, line, sizeof line);
        put_text(lane_of(i) - 6, 60, "title", line, LANE / 10);
    }
    each_shown_step(draw_step);
    y += STEP;
    for (int i = 0; i < x.thread_count; i++)
        if (x.threads[i].state == BLOCKED) {
            describe_wait(&x.threads[i], line, sizeof line);
            put_text(lane_of(i) - 6, y, "waits", line, LANE / CHARACTER);
        }
    fputs("</svg>\n", file);
    if (fclose(file) != 0)
        perror(path);
}
