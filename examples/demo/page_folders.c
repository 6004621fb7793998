#include "page_folders.h"

#include <string.h>

#include "text.h"

enum { SHOWN = 8 };

struct folder { /* right below the root; length 0: the files of the root itself */
    const char *name;
    size_t length, files;
    uint64_t bytes;
};

/* Of a path below the root. */
static struct folder folder_of(const char *root, const char *path)
{
    size_t head = strlen(root);
    while (head > 0 && root[head - 1] == '/')
        head--;
    const char *name = path + head;
    name += *name == '/';
    const char *slash = strchr(name, '/');
    return (struct folder){name, slash == NULL ? 0 : (size_t)(slash - name), 0, 0};
}

static bool is_same(const struct folder *a, const struct folder *b)
{
    return a->length == b->length && memcmp(a->name, b->name, a->length) == 0;
}

static void keep_largest(struct folder *largest, size_t *held, const struct folder *folder)
{
    if (folder->files == 0 || (*held == SHOWN && folder->bytes <= largest[SHOWN - 1].bytes))
        return;
    size_t at = *held < SHOWN ? (*held)++ : SHOWN - 1;
    for (; at > 0 && folder->bytes > largest[at - 1].bytes; at--)
        largest[at] = largest[at - 1];
    largest[at] = *folder;
}

/* Files come in the order of their paths: those of one folder stand together. */
static size_t find_largest(const struct measurement *m, struct folder *largest)
{
    struct folder root = {"", 0, 0, 0}, last = root;
    size_t held = 0;
    for (size_t i = 0; i < m->corpus->count; i++) {
        struct folder folder = folder_of(m->corpus->root, m->corpus->files[i].path);
        struct folder *sum = folder.length == 0 ? &root : &last;
        if (folder.length > 0 && !is_same(&last, &folder)) {
            if (last.length > 0)
                keep_largest(largest, &held, &last);
            last = folder;
        }
        sum->files++;
        sum->bytes += m->reference[i].bytes;
    }
    if (last.length > 0)
        keep_largest(largest, &held, &last);
    keep_largest(largest, &held, &root);
    return held;
}

void page_folders_write(FILE *out, const struct measurement *m)
{
    struct folder largest[SHOWN];
    char bytes[16], files[32];
    size_t held = find_largest(m, largest);
    fputs("<h2 class=\"second\">The largest folders</h2>\n<ol class=\"names\">\n", out);
    for (size_t k = 0; k < held; k++) {
        const struct folder *f = &largest[k];
        fprintf(out, "<li data-tip=\"%s|%s file%s\"><code>", text_bytes(f->bytes, bytes),
                text_grouped(f->files, files), text_plural(f->files));
        text_html(out, f->length == 0 ? "." : f->name, f->length == 0 ? 1 : f->length);
        fprintf(
            out, "/</code><i class=\"k-read\" style=\"width:%.1f%%\"></i><span>%s</span></li>\n",
            largest[0].bytes == 0 ? 0.0 : 100 * (double)f->bytes / (double)largest[0].bytes, bytes);
    }
    fputs("</ol>\n", out);
}
