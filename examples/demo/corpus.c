#define _XOPEN_SOURCE     700
#define _FILE_OFFSET_BITS 64
#include "corpus.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- growing lists ---- */

static void *room_for_one(void *list, size_t size, size_t count, size_t *capacity)
{
    if (count < *capacity)
        return list;
    size_t wider = *capacity == 0 ? 64 : *capacity * 2;
    if (wider > SIZE_MAX / size)
        return NULL;
    void *moved = realloc(list, wider * size);
    if (moved != NULL)
        *capacity = wider;
    return moved;
}

static bool add_file(struct corpus *corpus, char *path, uint64_t size)
{
    struct corpus_file *files =
        room_for_one(corpus->files, sizeof *files, corpus->count, &corpus->capacity);
    if (files == NULL)
        return false;
    corpus->files = files;
    corpus->files[corpus->count++] = (struct corpus_file){path, size};
    corpus->bytes += size;
    return true;
}

static bool add_problem(struct corpus *corpus, char *path, int error)
{
    struct corpus_problem *problems = room_for_one(
        corpus->problems, sizeof *problems, corpus->problem_count, &corpus->problem_capacity);
    if (problems == NULL)
        return false;
    corpus->problems = problems;
    corpus->problems[corpus->problem_count++] = (struct corpus_problem){path, error};
    return true;
}

/* ---- the walk ---- */

struct place {
    dev_t device;
    ino_t inode;
};

struct entry {  /* a file that was seen, or a directory yet to be read */
    char *path; /* of a directory: with a slash at its end, by which it is sorted */
    uint64_t size;
    bool is_directory;
};

struct walk {
    struct corpus *corpus;
    corpus_found *found;
    void *context;
    /* a stack, the next one on top: not recursion, so depth costs no stack of the machine's */
    struct entry *pending;
    size_t pending_count, pending_capacity;
    struct place
        *seen; /* hash set of directories; a mount inside itself is a loop without a link */
    bool *taken;
    size_t seen_count, seen_capacity;
};

static size_t place_slot(const struct place *seen, const bool *taken, size_t capacity,
                         struct place place)
{
    uint64_t mixed = ((uint64_t)place.inode * 0x9e3779b97f4a7c15u) ^ (uint64_t)place.device;
    size_t at = (size_t)(mixed >> 32) & (capacity - 1);
    while (taken[at] && (seen[at].device != place.device || seen[at].inode != place.inode))
        at = (at + 1) & (capacity - 1);
    return at;
}

static bool grow_seen(struct walk *walk)
{
    size_t capacity = walk->seen_capacity == 0 ? 256 : walk->seen_capacity * 2;
    struct place *seen = calloc(capacity, sizeof *seen);
    bool *taken = calloc(capacity, sizeof *taken);
    if (seen == NULL || taken == NULL) {
        free(seen);
        free(taken);
        return false;
    }
    for (size_t i = 0; i < walk->seen_capacity; i++) {
        if (!walk->taken[i])
            continue;
        size_t at = place_slot(seen, taken, capacity, walk->seen[i]);
        seen[at] = walk->seen[i];
        taken[at] = true;
    }
    free(walk->seen);
    free(walk->taken);
    walk->seen = seen;
    walk->taken = taken;
    walk->seen_capacity = capacity;
    return true;
}

/* 1: first visit, 0: been there, -1: no memory. */
static int visit(struct walk *walk, struct place place)
{
    if (walk->seen_count >= walk->seen_capacity / 2 && !grow_seen(walk))
        return -1;
    size_t at = place_slot(walk->seen, walk->taken, walk->seen_capacity, place);
    if (walk->taken[at])
        return 0;
    walk->seen[at] = place;
    walk->taken[at] = true;
    walk->seen_count++;
    return 1;
}

/* directory/name, and a slash if it is a directory itself. */
static char *join(const char *directory, const char *name, bool is_directory)
{
    size_t head = strlen(directory), tail = strlen(name);
    while (head > 1 && directory[head - 1] == '/')
        head--;
    bool slash = directory[head - 1] != '/';
    char *path = malloc(head + slash + tail + is_directory + 1);
    if (path == NULL)
        return NULL;
    memcpy(path, directory, head);
    if (slash)
        path[head] = '/';
    memcpy(path + head + slash, name, tail);
    memcpy(path + head + slash + tail, is_directory ? "/" : "", 1 + is_directory);
    return path;
}

/* Without the slash. */
static void trim(char *path)
{
    size_t length = strlen(path);
    if (length > 1 && path[length - 1] == '/')
        path[length - 1] = '\0';
}

/* Puts one directory entry where it belongs. 0 or ENOMEM. */
static int take_entry(struct walk *walk, int directory, const char *above, const char *name)
{
    struct corpus *corpus = walk->corpus;
    struct stat info;
    int error = fstatat(directory, name, &info, AT_SYMLINK_NOFOLLOW) != 0 ? errno : 0;
    bool is_directory = error == 0 && S_ISDIR(info.st_mode);
    if (error == 0 && !is_directory && !S_ISREG(info.st_mode)) {
        corpus->links += S_ISLNK(info.st_mode);
        corpus->others += !S_ISLNK(info.st_mode);
        return 0;
    }
    char *path = join(above, name, is_directory);
    if (path == NULL)
        return ENOMEM;
    if (error != 0) {
        if (add_problem(corpus, path, error))
            return 0;
    } else {
        struct entry *pending = room_for_one(walk->pending, sizeof *pending, walk->pending_count,
                                             &walk->pending_capacity);
        if (pending != NULL) {
            walk->pending = pending;
            walk->pending[walk->pending_count++] =
                (struct entry){path, info.st_size > 0 ? (uint64_t)info.st_size : 0, is_directory};
            return 0;
        }
    }
    free(path);
    return ENOMEM;
}

/* The first comes last, that is on top of the stack. With a slash behind directories the whole walk
   gives files in the order of their paths. */
static int against_path(const void *a, const void *b)
{
    return strcmp(((const struct entry *)b)->path, ((const struct entry *)a)->path);
}

/* 0, ENOMEM, or *trouble set to why this directory was not read to its end. */
static int read_directory(struct walk *walk, const char *path, bool is_root, int *trouble)
{
    int descriptor = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC | (is_root ? 0 : O_NOFOLLOW));
    DIR *directory = descriptor < 0 ? NULL : fdopendir(descriptor);
    struct stat info;
    if (directory == NULL || fstat(descriptor, &info) != 0) {
        *trouble = errno;
        if (directory != NULL)
            closedir(directory);
        else if (descriptor >= 0)
            close(descriptor);
        return 0;
    }
    int first = visit(walk, (struct place){info.st_dev, info.st_ino});
    int error = first < 0 ? ENOMEM : 0;
    size_t below = walk->pending_count;
    walk->corpus->loops += first == 0;
    walk->corpus->directories += first == 1;
    while (first == 1 && error == 0) {
        errno = 0;
        const struct dirent *entry = readdir(directory);
        if (entry == NULL) {
            *trouble = errno;
            break;
        }
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            error = take_entry(walk, descriptor, path, entry->d_name);
    }
    closedir(directory);
    if (walk->pending_count - below > 1)
        qsort(walk->pending + below, walk->pending_count - below, sizeof *walk->pending,
              against_path);
    return error;
}

static int problem_by_path(const void *a, const void *b)
{
    return strcmp(((const struct corpus_problem *)a)->path,
                  ((const struct corpus_problem *)b)->path);
}

/* Takes over its path. 0, or what ends the walk. */
static int take_file(struct walk *walk, const struct entry *entry)
{
    struct corpus *corpus = walk->corpus;
    if (!add_file(corpus, entry->path, entry->size)) {
        free(entry->path);
        return ENOMEM;
    }
    return walk->found == NULL
               ? 0
               : walk->found(walk->context, corpus->count - 1, &corpus->files[corpus->count - 1]);
}

static int take_directory(struct walk *walk, char *path)
{
    int trouble = 0;
    trim(path);
    int error = read_directory(walk, path, false, &trouble);
    if (trouble != 0 && add_problem(walk->corpus, path, trouble))
        return error;
    free(path);
    return trouble != 0 ? ENOMEM : error;
}

static int walk_all(struct walk *walk)
{
    int trouble = 0;
    int error = read_directory(walk, walk->corpus->root, true, &trouble);
    if (error != 0 || trouble != 0)
        return error != 0 ? error : trouble;
    while (error == 0 && walk->pending_count > 0) {
        struct entry entry = walk->pending[--walk->pending_count];
        error = entry.is_directory ? take_directory(walk, entry.path) : take_file(walk, &entry);
    }
    return error;
}

int corpus_walk(struct corpus *corpus, const char *root, corpus_found *found, void *context)
{
    struct walk walk = {.corpus = corpus, .found = found, .context = context};
    memset(corpus, 0, sizeof *corpus);
    if (root[0] == '\0')
        return ENOENT;
    corpus->root = malloc(strlen(root) + 1);
    if (corpus->root == NULL)
        return ENOMEM;
    strcpy(corpus->root, root);
    int error = walk_all(&walk);
    if (corpus->problem_count > 1)
        qsort(corpus->problems, corpus->problem_count, sizeof *corpus->problems, problem_by_path);
    while (walk.pending_count > 0)
        free(walk.pending[--walk.pending_count].path);
    free(walk.pending);
    free(walk.seen);
    free(walk.taken);
    return error;
}

void corpus_free(struct corpus *corpus)
{
    for (size_t i = 0; i < corpus->count; i++)
        free(corpus->files[i].path);
    for (size_t i = 0; i < corpus->problem_count; i++)
        free(corpus->problems[i].path);
    free(corpus->files);
    free(corpus->problems);
    free(corpus->root);
    memset(corpus, 0, sizeof *corpus);
}

void corpus_drop(struct corpus *corpus, const bool *leave)
{
    size_t kept = 0;
    for (size_t i = 0; i < corpus->count; i++) {
        if (leave[i]) {
            corpus->bytes -= corpus->files[i].size;
            free(corpus->files[i].path);
        } else {
            corpus->files[kept++] = corpus->files[i];
        }
    }
    corpus->count = kept;
}
