/* corpus: the files to crunch. Walks a directory tree without following links, or writes a tree
   of its own. */
#ifndef CRUNCH_CORPUS_H
#define CRUNCH_CORPUS_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct corpus_file {
    char *path;
    uint64_t size; /* when the walk saw it */
};

struct corpus_problem { /* a directory or file that could not be looked at */
    char *path;
    int error; /* an errno value */
};

struct corpus {
    char *root;
    struct corpus_file *files; /* sorted by path, bytewise: the same list on every run */
    size_t count, capacity;
    uint64_t bytes;
    size_t directories, links, others,
        loops; /* links and others (sockets, devices, pipes) are left out */
    struct corpus_problem *problems;
    size_t problem_count, problem_capacity;
};

/* Told of each file when it is found, in the order of `files`. 0, or an errno value: the walk ends
   with it. `path` stays until corpus_free or corpus_drop. */
typedef int corpus_found(void *context, size_t index, const struct corpus_file *file);

/* Regular files below `root`, which may itself be a link. 0, or an errno value when nothing at
   all could be done (root missing or unreadable, no memory); smaller trouble is in `problems`.
   Free it in either case. found: NULL, or called meanwhile, in the same thread. */
int corpus_walk(struct corpus *corpus, const char *root, corpus_found *found, void *context);
void corpus_free(struct corpus *corpus);

/* Takes out the files with leave[i] set. */
void corpus_drop(struct corpus *corpus, const bool *leave);

/* Writes a tree of C-like files into `directory`, always the same. 0 or an errno value. */
int corpus_generate(const char *directory);

#endif
