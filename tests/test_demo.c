/* test_demo - the demo on trees that the test makes: known counts, and everything that goes wrong
   in real ones. The program is compiled in and run in a child process, so that sanitizers and back
   ends see it as they see a test. */
#define _XOPEN_SOURCE     700
#define _FILE_OFFSET_BITS 64
#include "harness.h"

#define main crunch_main
#include "../examples/demo/crunch.c"
#undef main
#include "../examples/demo/corpus.c"
#include "../examples/demo/count.c"
#include "../examples/demo/flow.c"
#include "../examples/demo/generate.c"
#include "../examples/demo/measure.c"
#include "../examples/demo/merge.c"
#include "../examples/demo/names.c"
#include "../examples/demo/page.c"
#include "../examples/demo/page_assets.c"
#include "../examples/demo/page_flow.c"
#include "../examples/demo/page_folders.c"
#include "../examples/demo/page_lanes.c"
#include "../examples/demo/page_legend.c"
#include "../examples/demo/proof.c"
#include "../examples/demo/reading.c"
#include "../examples/demo/report.c"
#include "../examples/demo/scan.c"
#include "../examples/demo/shares.c"
#include "../examples/demo/stop.c"
#include "../examples/demo/text.c"

#include <ftw.h>
#include <sys/resource.h>

#if defined(__SANITIZE_THREAD__)
#define IS_SLOW true
#elif defined(__has_feature)
#define IS_SLOW __has_feature(thread_sanitizer)
#else
#define IS_SLOW false
#endif

/* ---- a folder for each test, with tree/ and out/ ---- */

static char base[256];

static const char *in_base(const char *name)
{
    static char paths[4][600];
    static int turn;
    char *path = paths[turn++ % 4];
    snprintf(path, sizeof paths[0], "%s/%s", base, name);
    return path;
}

static bool begin_tree(void)
{
    const char *where = getenv("TMPDIR");
    snprintf(base, sizeof base, "%s/twill-demo-XXXXXX",
             where == NULL || strlen(where) > 200 ? "/tmp" : where);
    unsetenv("CORPUS");
    unsetenv("RATE");
    unsetenv("FAULTS");
    return CHECK(mkdtemp(base) != NULL) && CHECK(mkdir(in_base("tree"), 0777) == 0) &&
           CHECK(mkdir(in_base("out"), 0777) == 0);
}

static int remove_one(const char *path, const struct stat *info, int kind, struct FTW *where)
{
    (void)info, (void)kind, (void)where;
    return remove(path);
}

static void end_tree(void)
{
    CHECK(nftw(base, remove_one, 16, FTW_DEPTH | FTW_PHYS) == 0);
}

static void write_bytes(const char *name, const char *bytes, size_t length)
{
    FILE *out = fopen(in_base(name), "w");
    if (!CHECK(out != NULL))
        return;
    CHECK(fwrite(bytes, 1, length, out) == length);
    CHECK(fclose(out) == 0);
}

static void write_text(const char *name, const char *text)
{
    write_bytes(name, text, strlen(text));
}

static char *read_text(const char *name)
{
    FILE *in = fopen(in_base(name), "r");
    char *text = calloc(1, 4 << 20);
    if (in == NULL || text == NULL) {
        free(text);
        if (in != NULL)
            fclose(in);
        return NULL;
    }
    size_t length = fread(text, 1, (4 << 20) - 1, in);
    for (size_t i = 0; i < length; i++) /* so that strstr sees all of it */
        text[i] = text[i] == '\0' ? '\1' : text[i];
    fclose(in);
    return text;
}

static bool file_has(const char *name, const char *wanted)
{
    char *text = read_text(name);
    bool has = text != NULL && strstr(text, wanted) != NULL;
    if (!has)
        harness_say("no \"%s\" in %s:\n%.600s\n", wanted, name, text == NULL ? "(none)" : text);
    free(text);
    return has;
}

/* ---- running the program ---- */

enum { AS_NOBODY = 1, STDOUT_FULL = 2, SMALL_FILES = 4 };

static void become(unsigned how, char *out, char *errors)
{
    if (how & STDOUT_FULL)
        snprintf(out, 600, "/dev/full");
    if (freopen(out, "w", stdout) == NULL || freopen(errors, "w", stderr) == NULL)
        _exit(120);
    if (how & SMALL_FILES) {
        struct rlimit small = {8192, 8192};
        signal(SIGXFSZ, SIG_IGN);
        if (setrlimit(RLIMIT_FSIZE, &small) != 0)
            _exit(121);
    }
    if ((how & AS_NOBODY) && geteuid() == 0 && (setgid(65534) != 0 || setuid(65534) != 0))
        _exit(122);
}

/* Runs crunch with `options`, --out and, unless NULL, the tree; the exit status, or -1. What it
   printed is in the files stdout and stderr. */
static int run_crunch(unsigned how, const char *tree, const char *option)
{
    char out[600], errors[600], where[600], corpus[600];
    snprintf(out, sizeof out, "%s/stdout", base);
    snprintf(errors, sizeof errors, "%s/stderr", base);
    snprintf(where, sizeof where, "%s/out", base);
    snprintf(corpus, sizeof corpus, "%s/%s", base, tree == NULL ? "" : tree);
    char *words[8] = {(char *)"crunch", (char *)"--quick", (char *)"--out", where};
    int count = 4;
    if (option != NULL)
        words[count++] = (char *)(uintptr_t)option;
    if (tree != NULL)
        words[count++] = corpus;
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        become(how, out, errors);
        exit(crunch_main(count, words));
    }
    int status = -1;
    if (!CHECK(child > 0) || !CHECK(waitpid(child, &status, 0) == child))
        return -1;
    if (WIFSIGNALED(status))
        harness_say("crunch died of signal %d\n", WTERMSIG(status));
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static bool page_is_whole(void)
{
    return CHECK(file_has("out/demo.html", "<!doctype html>")) &&
           CHECK(file_has("out/demo.html", "{\"names\":[")) &&
           CHECK(file_has("out/demo.html", "</html>"));
}

/* ---- what it counts ---- */

static const char sample[] =
    "#include <not_counted.h>\n"
    "#  define LIMIT 0x1Fu /* not_this: \"nor this\" */\n"
    "static int alpha(int beta) // no_name here\n"
    "{\n"
    "    char c = '\\'', d = '\"';\n"
    "    return beta + LIMIT * 10e5f + \"alpha \\\" beta\"[0] / alpha(c) + x##d;\n"
    "}\n"
    "#error it's wrong\n"
    "last_name";

TEST(counts_and_checksums_are_those_of_wc_and_crc32)
{
    if (!begin_tree())
        return;
    write_text("tree/sample.c", sample);
    write_text("tree/digits.txt", "123456789");
    write_bytes("tree/binary", "a\0b", 3);
    write_text("tree/empty.h", "");
    write_text("tree/prose.txt", "it's a \"word\" // and more\n\n  two\t2x x2\n");
    CHECK_EQ(run_crunch(0, "tree", "--list"), 0);
    CHECK(file_has("stdout", "\n8 45 248 9d921290 "));
    CHECK(file_has("stdout", "\n0 1 9 cbf43926 ")); /* the check value of CRC-32 */
    CHECK(file_has("stdout", "\n0 0 3 "));
    CHECK(file_has("stdout", "\n0 0 0 00000000 "));
    CHECK(file_has("stdout", "\n3 9 39 b08bdf3a "));
    CHECK(file_has("stdout", "5 files"));
    CHECK(file_has("stdout", "runs gave what the plain loop gave"));
    page_is_whole();
    end_tree();
}

static struct counter *counted(const char *name, const char *text, size_t length, size_t piece)
{
    struct counter *counter = counter_create();
    if (counter == NULL)
        return NULL;
    scan_begin(&counter->scan, &counter->names, name);
    for (size_t at = 0; at < length; at += piece)
        scan_piece(&counter->scan, (const unsigned char *)text + at,
                   length - at < piece ? length - at : piece);
    scan_end(&counter->scan);
    return counter;
}

static uint64_t count_of(struct counter *counter, const char *text)
{
    uint32_t hash = NAMES_HASH_START;
    for (size_t i = 0; text[i] != '\0'; i++)
        hash = names_hash_byte(hash, (unsigned char)text[i]);
    hash = names_hash_end(hash);
    const struct names_shard *shard = &counter->names.shards[shard_of(hash)];
    if (shard->used == 0)
        return 0;
    const struct name *slot = find_slot(shard, text, strlen(text), hash);
    return slot->text == NULL ? 0 : slot->count;
}

TEST(names_are_found_outside_comments_literals_and_includes)
{
    struct counter *counter = counted("x/sample.c", sample, strlen(sample), 4096);
    if (!CHECK(counter != NULL))
        return;
    CHECK_EQ(count_of(counter, "alpha"), 2);
    CHECK_EQ(count_of(counter, "beta"), 2);
    CHECK_EQ(count_of(counter, "LIMIT"), 2);
    CHECK_EQ(count_of(counter, "c"), 2);
    CHECK_EQ(count_of(counter, "d"), 2);
    CHECK_EQ(count_of(counter, "x"), 1);
    CHECK_EQ(count_of(counter, "last_name"), 1);
    CHECK_EQ(count_of(counter, "int"), 2);
    const char *const absent[] = {"not_counted", "h",     "define", "include", "not_this", "nor",
                                  "no_name",     "xFu",   "u",      "e5f",     "it",       "s",
                                  "wrong",       "error", "Fu",     "f",       "here",     "this"};
    for (size_t i = 0; i < sizeof absent / sizeof *absent; i++)
        CHECK_EQ(count_of(counter, absent[i]), 0);
    CHECK_EQ(counter->scan.names, 12); /* `static`, `int`, `char`, `return` are keywords */
    CHECK_EQ(names_distinct(&counter->names), 7);
    counter_destroy(counter);
}

TEST(pieces_of_any_size_give_the_same)
{
    static const char *const bits[] = {"/*",  "*/", "//", "\"", "\\", "'",       "#",  "\n", " ",
                                       "abc", "x1", "9z", "_",  "/",  "include", "if", "*",  "."};
    char text[600];
    for (int round = 0; round < 200; round++) {
        size_t length = 0;
        while (length + 8 < sizeof text) {
            const char *bit = bits[test_random_below(sizeof bits / sizeof *bits)];
            memcpy(text + length, bit, strlen(bit));
            length += strlen(bit);
        }
        const char *name = round % 2 == 0 ? "a.c" : "a.txt";
        struct counter *whole = counted(name, text, length, length);
        struct counter *split = counted(name, text, length, (size_t)(1 + test_random_below(9)));
        if (CHECK(whole != NULL && split != NULL)) {
            CHECK(names_equal(&whole->names, &split->names));
            CHECK_EQ(whole->scan.names, split->scan.names);
            CHECK_EQ(whole->scan.words, split->scan.words);
            CHECK_EQ(whole->scan.lines, split->scan.lines);
        }
        counter_destroy(whole);
        counter_destroy(split);
    }
}

TEST(merged_tables_equal_one_table)
{
    struct counter *all = counter_create(), *half[2] = {counter_create(), counter_create()};
    if (!CHECK(all != NULL && half[0] != NULL && half[1] != NULL))
        return;
    for (int i = 0; i < 20000; i++) {
        char text[300];
        int length = snprintf(text, sizeof text, "name%u", (unsigned)test_random_below(3000));
        if (i % 100 == 0)
            length = snprintf(text, sizeof text, "%0280u", (unsigned)test_random_below(9));
        uint32_t hash = NAMES_HASH_START;
        for (int k = 0; k < length; k++)
            hash = names_hash_byte(hash, (unsigned char)text[k]);
        hash = names_hash_end(hash);
        CHECK(names_add(&all->names, text, (size_t)length, hash) != NULL);
        CHECK(names_add(&half[i % 2]->names, text, (size_t)length, hash) != NULL);
    }
    CHECK(!names_equal(&all->names, &half[0]->names));
    for (size_t s = 0; s < NAMES_SHARDS; s++)
        CHECK(names_merge_shard(&half[0]->names, &half[1]->names, s));
    CHECK(names_equal(&all->names, &half[0]->names));
    CHECK(names_equal(&half[0]->names, &all->names));
    struct name top[TOP_NAMES];
    CHECK_EQ(names_top(&all->names, top, TOP_NAMES), TOP_NAMES);
    for (size_t i = 1; i < TOP_NAMES; i++)
        CHECK(comes_before(&top[i - 1], &top[i]));
    counter_destroy(all);
    counter_destroy(half[0]);
    counter_destroy(half[1]);
}

TEST(a_file_longer_than_the_buffer_is_counted_whole)
{
    if (!begin_tree())
        return;
    size_t times = 3 * CHUNK_BYTES / 7 + 1; /* seven bytes: cut everywhere by the pieces */
    char *text = malloc(times * 7);
    for (size_t i = 0; i < times && text != NULL; i++)
        memcpy(text + i * 7, i % 2 == 0 ? "ab_cd1 " : "/*ef*/\n", 7);
    if (CHECK(text != NULL))
        write_bytes("tree/large.c", text, times * 7);
    free(text);
    char wanted[64], grouped[32];
    snprintf(wanted, sizeof wanted, " %s identifiers, 1 of them",
             text_grouped((times + 1) / 2, grouped));
    CHECK_EQ(run_crunch(0, "tree", NULL), 0);
    CHECK(file_has("stdout", wanted));
    end_tree();
}

TEST(many_files_on_many_threads)
{
    if (!begin_tree())
        return;
    for (unsigned file = 0; file < 300; file++) {
        char name[40], text[4000] = "";
        snprintf(name, sizeof name, "tree/file%03u.c", file);
        for (size_t at = 0; at + 40 < sizeof text; at += strlen(text + at))
            snprintf(text + at, 40, "int name%u; /* %zu */\n", file % 7 + (unsigned)at % 50, at);
        write_text(name, text);
    }
    CHECK_EQ(run_crunch(0, "tree", NULL), 0);
    CHECK(file_has("stdout", "300 files"));
    CHECK(file_has("stdout", " runs gave what the plain loop gave"));
    page_is_whole();
    end_tree();
}

TEST(the_generated_corpus_is_always_the_same)
{
    if (IS_SLOW)
        SKIP("20 MB take a minute under the thread sanitizer");
    if (!begin_tree())
        return;
    CHECK_EQ(run_crunch(0, NULL, "--generate"), 0);
    CHECK(file_has("stdout", "480 files, "));
    char *first = read_text("stdout");
    char *found = first == NULL ? NULL : strstr(first, "found ");
    if (CHECK(found != NULL)) {
        found[strcspn(found, "\n")] = '\0';
        CHECK_EQ(run_crunch(0, NULL, "--generate"), 0);
        CHECK(file_has("stdout", found));
    }
    free(first);
    page_is_whole();
    end_tree();
}

/* ---- what goes wrong in real trees ---- */

TEST(an_unreadable_file_is_named_and_the_rest_is_done)
{
    if (!begin_tree())
        return;
    write_text("tree/good.c", "int good;\n");
    write_text("tree/secret.c", "int secret;\n");
    CHECK(mkdir(in_base("tree/closed"), 0) == 0);
    CHECK(chmod(in_base("tree/secret.c"), 0) == 0);
    CHECK(chmod(base, 0777) == 0 && chmod(in_base("out"), 0777) == 0);
    CHECK_EQ(run_crunch(AS_NOBODY, "tree", NULL), 3);
    CHECK(file_has("stderr", "tree/secret.c: Permission denied"));
    CHECK(file_has("stderr", "tree/closed: Permission denied"));
    CHECK(file_has("stdout", "1 identifiers, 1 of them different"));
    CHECK(file_has("stdout", "2 files"));
    page_is_whole();
    end_tree();
}

TEST(links_and_pipes_are_left_out_and_no_loop_is_walked)
{
    if (!begin_tree())
        return;
    write_text("tree/good.c", "int good;\n");
    CHECK(mkdir(in_base("tree/sub"), 0777) == 0);
    CHECK(symlink("..", in_base("tree/sub/up")) == 0);
    CHECK(symlink("self", in_base("tree/self")) == 0);
    CHECK(symlink("good.c", in_base("tree/also.c")) == 0);
    CHECK(mkfifo(in_base("tree/pipe"), 0666) == 0);
    CHECK(symlink("tree", in_base("tree-link")) == 0);
    CHECK_EQ(run_crunch(0, "tree-link", NULL), 0); /* the root itself may be a link */
    CHECK(file_has("stdout", "1 file, "));
    CHECK(file_has("stdout", "in 2 folders; 3 links not followed"));
    CHECK(file_has("stdout", "1 sockets, pipes and devices left out"));
    end_tree();
}

TEST(a_pipe_in_the_place_of_a_file_blocks_nobody)
{
    if (!begin_tree())
        return;
    struct counter *counter = counter_create();
    struct counts counts;
    struct effort effort;
    if (CHECK(counter != NULL)) {
        CHECK(mkfifo(in_base("tree/pipe"), 0666) == 0);
        CHECK(symlink("pipe", in_base("tree/link")) == 0);
        CHECK_EQ(count_file(counter, in_base("tree/pipe"), &counts, &effort, NULL, NULL), EINVAL);
        CHECK_EQ(count_file(counter, in_base("tree/link"), &counts, &effort, NULL, NULL), ELOOP);
        CHECK_EQ(count_file(counter, in_base("tree"), &counts, &effort, NULL, NULL), EINVAL);
        CHECK_EQ(count_file(counter, in_base("none"), &counts, &effort, NULL, NULL), ENOENT);
        CHECK_EQ(counts.error, ENOENT);
    }
    counter_destroy(counter);
    end_tree();
}

TEST(an_empty_or_missing_corpus_is_said_so)
{
    if (!begin_tree())
        return;
    CHECK_EQ(run_crunch(0, "tree", NULL), 2);
    CHECK(file_has("stderr", "no file to crunch in"));
    CHECK_EQ(run_crunch(0, "nowhere", NULL), 2);
    CHECK(file_has("stderr", "nowhere: No such file or directory"));
    CHECK_EQ(run_crunch(0, "tree", "--no-such-option"), 2);
    CHECK(file_has("stderr", "crunch: no such option: --no-such-option\nusage: crunch"));
    CHECK_EQ(run_crunch(0, "tree", "--generate"), 2); /* one corpus only */
    CHECK(file_has("stderr", "--generate makes a corpus, and cannot take "));
    CHECK(mkdir(in_base("tree/empty"), 0777) == 0);
    write_text("tree/nothing", "");
    CHECK_EQ(run_crunch(0, "tree", NULL), 0); /* a file, if an empty one */
    CHECK(file_has("stdout", "1 file, 0 bytes"));
    write_text("tree/long.c", "abcdefghijklmnopqrstuvw abcdefghijklmnopqrstuv");
    CHECK_EQ(run_crunch(0, "tree", NULL), 0);
    CHECK(file_has("stdout", " abcdefghijklmnopqrs...         1\n")); /* one too long */
    CHECK(file_has("stdout", " abcdefghijklmnopqrstuv         1   "));
    page_is_whole();
    end_tree();
}

TEST(a_full_disk_costs_the_page_and_nothing_else)
{
    if (!begin_tree())
        return;
    write_text("tree/good.c", "int good;\n");
    if (access("/dev/full", W_OK) == 0) {
        CHECK(symlink("/dev/full", in_base("out/demo.html")) == 0);
        CHECK_EQ(run_crunch(0, "tree", NULL), 1);
        CHECK(file_has("stderr", "demo.html: No space left on device"));
        CHECK(file_has("stdout", "1 identifiers, 1 of them different"));
        CHECK_EQ(run_crunch(STDOUT_FULL, "tree", NULL), 1);
        CHECK(file_has("stderr", "cannot print the results"));
        CHECK(remove(in_base("out/demo.html")) == 0);
    }
    CHECK_EQ(run_crunch(SMALL_FILES, "tree", NULL), 1);
    CHECK(file_has("stderr", "demo.html: File too large"));
    CHECK(access(in_base("out/demo.html"), F_OK) != 0); /* no half page stays */
    CHECK(rmdir(in_base("out")) == 0);
    write_text("out", "a file where the folder should be");
    CHECK_EQ(run_crunch(0, "tree", NULL), 1);
    CHECK(file_has("stdout", "1 identifiers, 1 of them different"));
    end_tree();
}

TEST(names_of_files_cannot_act_on_terminal_page_or_script)
{
    if (!begin_tree())
        return;
    CHECK(mkdir(in_base("tree/<b>&amp;\"'"), 0777) == 0);
    write_text("tree/<b>&amp;\"'/<script>alert(1)<", "int name;\n");
    write_text("tree/\x1b[31m\x9b\xff\xe2\x80\xae\n.c", "int name; /* the largest file */\n");
    CHECK(chmod(in_base("tree/<b>&amp;\"'/<script>alert(1)<"), 0) == 0);
    CHECK(chmod(base, 0777) == 0 && chmod(in_base("out"), 0777) == 0);
    CHECK_EQ(run_crunch(AS_NOBODY, "tree", "--list"), 3);
    CHECK(file_has("stdout", "\\x1b[31m\\x9b\\xff\\xe2\\x80\\xae\\x0a.c\n"));
    CHECK(file_has("stderr", "<script>alert(1)<: Permission denied"));
    CHECK(file_has("out/demo.html", "\\u003cscript\\u003ealert(1)\\u003c\""));
    CHECK(file_has("out/demo.html", "\\\\x1b[31m\\\\x9b"));
    char *page = read_text("out/demo.html");
    if (CHECK(page != NULL)) {
        CHECK(strstr(page, "<script>alert") == NULL);
        for (const char *p = page; *p != '\0'; p++)
            if (!CHECK((unsigned char)*p >= ' ' || *p == '\n'))
                break;
    }
    free(page);
    end_tree();
}

static void append_meanwhile(void *context, uint64_t bytes)
{
    (void)bytes;
    FILE *more = fopen(context, "a");
    if (!CHECK(more != NULL))
        return;
    CHECK(fputs("more\n", more) >= 0);
    CHECK(fclose(more) == 0);
}

TEST(a_file_that_grows_while_it_is_read_is_noticed_and_has_an_end)
{
    if (!begin_tree())
        return;
    struct counter *counter = counter_create();
    struct counts counts;
    struct effort effort;
    char path[600];
    snprintf(path, sizeof path, "%s/tree/log", base);
    write_text("tree/log", "some text\n");
    if (CHECK(counter != NULL)) {
        CHECK_EQ(count_file(counter, path, &counts, &effort, append_meanwhile, path), 0);
        CHECK(counts.moved);
        CHECK_EQ(counts.bytes, 10);
        CHECK(counts_equal(&counts, &counts) && !counts_unchanged(&counts, &counts));
    }
    counter_destroy(counter);
    end_tree();
}

/* ---- the proof itself ---- */

/* A corpus of two files and its reading by the plain loop. */
static bool begin_measurement(struct measurement *m, struct corpus *corpus, bool leave[2])
{
    if (!begin_tree())
        return false;
    write_text("tree/a.c", "int a;\n");
    write_text("tree/log", "word\n");
    leave[0] = leave[1] = false;
    if (!CHECK_EQ(corpus_walk(corpus, in_base("tree"), NULL, NULL), 0) ||
        !CHECK_EQ(corpus->count, 2) || !CHECK_EQ(measurement_open(m, corpus, NULL, NULL), 0))
        return false;
    return CHECK(choose_configs(m)) && CHECK_EQ(read_reference(m, leave), 0);
}

static void end_measurement(struct measurement *m, struct corpus *corpus)
{
    measurement_free(m);
    corpus_free(corpus);
    end_tree();
}

TEST(a_file_that_changes_between_two_runs_is_left_out)
{
    struct measurement m;
    struct corpus corpus;
    bool leave[2];
    if (!begin_measurement(&m, &corpus, leave))
        return;
    append_meanwhile((void *)(uintptr_t)in_base("tree/log"), 0);
    CHECK_EQ(all_rounds(&m, 0, leave), 1);
    CHECK(!leave[0] && leave[1]);
    corpus_drop(&corpus, leave);
    CHECK_EQ(corpus.count, 1);
    CHECK_EQ(corpus.bytes, 7);
    CHECK_EQ(measurement_make(&m, 0), 0); /* the rest is proven */
    CHECK_EQ(m.runs_proven, m.config_count);
    end_measurement(&m, &corpus);
}

TEST(a_wrong_count_of_a_file_is_found)
{
    struct measurement m;
    struct corpus corpus;
    bool leave[2];
    if (!begin_measurement(&m, &corpus, leave))
        return;
    m.reference[1].lines++;
    CHECK_EQ(all_rounds(&m, 0, leave), -1);
    CHECK(strstr(m.trouble, "WRONG RESULT") != NULL);
    CHECK_STR(m.trouble_path, corpus.files[1].path);
    CHECK_EQ(m.runs_proven, 0);
    end_measurement(&m, &corpus);
}

TEST(a_wrong_count_of_a_name_is_found)
{
    struct measurement m;
    struct corpus corpus;
    bool leave[2];
    if (!begin_measurement(&m, &corpus, leave))
        return;
    uint32_t hash = names_hash_end(names_hash_byte(NAMES_HASH_START, 'a'));
    struct name *name = names_add(&m.reference_counter->names, "a", 1, hash);
    CHECK(name != NULL && name->count == 2);
    CHECK_EQ(all_rounds(&m, 0, leave), -1);
    CHECK(strstr(m.trouble, "WRONG RESULT: the table") != NULL);
    CHECK_EQ(m.runs_proven, 0);
    end_measurement(&m, &corpus);
}

TEST(what_the_pipeline_loses_or_mixes_up_is_found)
{
    struct measurement m;
    struct corpus corpus;
    bool leave[2];
    if (!begin_measurement(&m, &corpus, leave))
        return;
    CHECK_EQ(read_first(&m, NULL), 0);
    CHECK_EQ(prove_flow(&m, &m.first, leave), DONE);
    m.first.found.top[0].count++;
    CHECK_EQ(prove_flow(&m, &m.first, leave), -1);
    CHECK(strstr(m.trouble, "gathered names") != NULL);
    m.first.found.top[0].count--;
    m.first.indexes[0] = 1;
    CHECK_EQ(prove_flow(&m, &m.first, leave), -1);
    CHECK(strstr(m.trouble, "order") != NULL);
    m.first.indexes[0] = 0;
    m.first.run.files = 1;
    CHECK_EQ(prove_flow(&m, &m.first, leave), -1);
    CHECK(strstr(m.trouble, "lost files") != NULL);
    m.first.run.files = 2;
    m.first.counts[1].lines++;
    CHECK_EQ(prove_flow(&m, &m.first, leave), -1);
    CHECK_STR(m.trouble_path, corpus.files[1].path);
    end_measurement(&m, &corpus);
}

TEST(rounds_fit_the_budget)
{
    CHECK_EQ(rounds_in(0, 5), 1);
    CHECK_EQ(rounds_in(TWILL_SEC(9), TWILL_SEC(1)), 8);
    CHECK_EQ(rounds_in(TWILL_SEC(9), TWILL_SEC(4)), 3);
    CHECK_EQ(rounds_in(TWILL_SEC(9), TWILL_SEC(7)), 2);
    CHECK_EQ(rounds_in(TWILL_SEC(9), TWILL_SEC(60)), 1);
    CHECK_EQ(rounds_in(TWILL_SEC(9), 1000), MAX_ROUNDS);
}

/* ---- the pipeline and its guards ---- */

/* Files of a few kilobytes, one of none, and one that is larger than two buffers. */
static void write_sizes(unsigned files)
{
    static char text[BUFFER_BYTES * 2 + 12345];
    for (size_t at = 0; at + 20 < sizeof text; at += strlen(text + at))
        snprintf(text + at, 20, "x%u y%u /* %u\n*/", (unsigned)at % 91, (unsigned)at % 97,
                 (unsigned)at % 3);
    for (unsigned file = 0; file < files; file++) {
        char name[40];
        snprintf(name, sizeof name, "tree/file%05u.c", file);
        write_bytes(name, text, file * 37u % 5000);
    }
    write_bytes("tree/file00000a.c", text, sizeof text - 40);
    write_bytes("tree/file00100a.c", text, BUFFER_BYTES);
    write_bytes("tree/file00100b.c", text, BUFFER_BYTES + 1);
}

static bool begin_reading(struct measurement *m, struct corpus *corpus,
                          const struct reading_rules *rules, unsigned files)
{
    if (!begin_tree())
        return false;
    write_sizes(files);
    memset(corpus, 0, sizeof *corpus);
    return CHECK_EQ(measurement_open(m, corpus, NULL, rules), 0);
}

TEST(a_walk_gives_files_in_the_order_of_their_paths)
{
    struct corpus corpus;
    if (!begin_tree())
        return;
    static const char *const folders[] = {"tree/a", "tree/a-b", "tree/a/z", "tree/b"};
    static const char *const files[] = {"tree/a.c",   "tree/a/b",   "tree/a/z/c", "tree/a/z.c",
                                        "tree/a-b/d", "tree/a0",    "tree/B",     "tree/b/\xe9",
                                        "tree/b/z",   "tree/a/\x01"};
    for (size_t i = 0; i < sizeof folders / sizeof *folders; i++)
        CHECK(mkdir(in_base(folders[i]), 0777) == 0);
    for (size_t i = 0; i < sizeof files / sizeof *files; i++)
        write_text(files[i], "x\n");
    CHECK_EQ(corpus_walk(&corpus, in_base("tree"), NULL, NULL), 0);
    CHECK_EQ(corpus.count, sizeof files / sizeof *files);
    for (size_t i = 1; i < corpus.count; i++)
        CHECK(strcmp(corpus.files[i - 1].path, corpus.files[i].path) < 0);
    corpus_free(&corpus);
    end_tree();
}

TEST(with_faults_and_a_rate_the_pipeline_gives_what_the_loop_gives)
{
    struct measurement m;
    struct corpus corpus;
    struct reading_rules rules = {.rate = 20000000, .faults = true};
    if (!begin_reading(&m, &corpus, &rules, 200))
        return;
    int64_t begun = twill_now();
    CHECK_EQ(measurement_read(&m, in_base("tree")), 0);
    int64_t took = twill_now() - begun;
    const struct flow_figures *f = &m.first.figures;
    CHECK_EQ(corpus.count, 203);
    CHECK_EQ(m.first.run.files, 203);
    CHECK(f->reading.faults > 10); /* an eighth of the pieces, once or twice */
    CHECK(f->reading.retries >= f->reading.faults);
    CHECK(corpus.bytes > 1400000);
    /* all but the burst waits for its turn, and large files are no exception */
    CHECK(took >= (int64_t)((double)(corpus.bytes - BUFFER_BYTES) / 20e6 * 1e9));
    CHECK_EQ(measurement_make(&m, 0), 0);
    CHECK_EQ(m.failed, 0);
    CHECK_EQ(m.left_out, 0);
    CHECK_EQ(m.runs_proven, m.config_count + 1);
    CHECK_EQ(m.runs_made, m.runs_proven);
    measurement_free(&m);
    corpus_free(&corpus);
    end_tree();
}

TEST(memory_is_bounded_by_the_tokens)
{
    struct measurement m;
    struct corpus corpus;
    if (!begin_reading(&m, &corpus, NULL, 1000))
        return;
    CHECK_EQ(measurement_read(&m, in_base("tree")), 0);
    const struct flow_figures *f = &m.first.figures;
    CHECK_EQ(f->tokens, 4 * m.cpus);
    CHECK(f->pipeline.in_flight_peak <= f->tokens);
    CHECK(f->reading.buffers_peak <= f->tokens);
    CHECK(f->reading.buffers <= f->tokens); /* made once, lent again and again */
    CHECK_EQ(f->reading.lent, f->batches.batches);
    CHECK_EQ(f->queue.capacity, QUEUE_PARCELS);
    CHECK(f->queue.peak <= QUEUE_PARCELS);
    CHECK_EQ(f->batches.added, corpus.count);
    CHECK_EQ(f->batches.done, corpus.count);
    CHECK_EQ(f->queue.accepted, f->batches.batches);
    CHECK(f->batches.batches >= corpus.count / PARCEL_FILES);
    for (size_t k = 0; k < FLOW_STAGES; k++)
        CHECK_EQ(f->stages[k].in, f->batches.batches);
    CHECK(f->pipeline.bottleneck < FLOW_STAGES);
    for (size_t i = 1; i < f->sample_count; i++)
        CHECK(f->samples[i - 1].when <= f->samples[i].when &&
              f->samples[i].queued <= QUEUE_PARCELS && f->samples[i].inside <= f->tokens);
    measurement_free(&m);
    corpus_free(&corpus);
    end_tree();
}

TEST(the_largest_folders_come_first_on_the_page)
{
    if (!begin_tree())
        return;
    CHECK(mkdir(in_base("tree/a"), 0777) == 0 && mkdir(in_base("tree/b"), 0777) == 0);
    CHECK(mkdir(in_base("tree/b/below"), 0777) == 0);
    write_text("tree/a/x", "12345\n");
    write_text("tree/a0", "1\n"); /* of the root, before and behind */
    write_text("tree/0", "1\n");
    write_text("tree/b/y", "123\n");
    write_text("tree/b/below/z", "1234567\n");
    CHECK_EQ(run_crunch(0, "tree", NULL), 0);
    char *page = read_text("out/demo.html");
    if (CHECK(page != NULL)) {
        const char *b = strstr(page, "\"12 bytes|2 files\"><code>b/");
        const char *a = strstr(page, "\"6 bytes|1 file\"><code>a/");
        const char *root = strstr(page, "\"4 bytes|2 files\"><code>./");
        CHECK(b != NULL && a != NULL && root != NULL && b < a && a < root);
    }
    free(page);
    end_tree();
}

/* Faults that a limit has no time for. */
TEST(a_file_that_takes_too_long_is_given_up_and_leaves_no_trace)
{
    struct measurement m;
    struct corpus corpus;
    struct reading_rules rules = {.faults = true, .limit = 1}; /* a nanosecond */
    if (!begin_reading(&m, &corpus, &rules, 50))
        return;
    CHECK_EQ(measurement_read(&m, in_base("tree")), 0);
    CHECK_EQ(m.first.run.files, 53);
    size_t late = 0;
    for (size_t i = 0; i < m.first.run.files; i++)
        late += m.first.counts[i].error == ETIMEDOUT;
    CHECK_EQ(late, 53);
    CHECK_EQ(m.first.figures.reading.limits, 53);
    CHECK_EQ(m.first.found.distinct, 0);
    m.rules.limit = 0;
    CHECK_EQ(measurement_read(&m, in_base("tree")), 0);
    CHECK_EQ(m.first.figures.reading.limits, 0);
    CHECK(m.first.found.distinct > 0);
    measurement_free(&m);
    corpus_free(&corpus);
    end_tree();
}

TEST(a_file_that_fails_half_way_leaves_no_name)
{
    struct counter *counter = counter_create();
    struct counts counts = {0};
    static const unsigned char text[] = "alpha beta";
    if (!CHECK(counter != NULL))
        return;
    size_t before = names_distinct(&counter->names);
    for (int round = 0; round < 3; round++) {
        counts.stamp.size = sizeof text - 1;
        count_begin(counter, "x.c", &counts, true);
        count_more(counter, &counts, text, 7);
        CHECK_EQ(count_end(counter, &counts, EIO), EIO);
        CHECK_EQ(names_distinct(&counter->names), before);
    }
    count_begin(counter, "x.c", &counts, true);
    count_more(counter, &counts, text, 7);
    count_more(counter, &counts, text + 7, sizeof text - 8);
    CHECK_EQ(count_end(counter, &counts, 0), 0);
    CHECK_EQ(count_of(counter, "alpha"), 1);
    CHECK_EQ(count_of(counter, "beta"), 1);
    counter_destroy(counter);
}

TEST(a_failure_that_stays_is_not_tried_again)
{
    struct reading reading;
    struct reading_rules rules = {.buffers = 1};
    struct reading_figures figures = {0};
    struct counts counts = {0};
    if (!begin_tree() || !CHECK_EQ(reading_open(&reading, &rules, NULL), 0))
        return;
    struct piece piece = {.path = in_base("tree/none"), .descriptor = -1, .counts = &counts};
    CHECK_EQ(reading_piece(&reading, &piece, 0), ENOENT);
    CHECK_EQ(piece.retries, 0);
    twill_cancel given_up;
    twill_cancel_init(&given_up, NULL);
    twill_cancel_fire(&given_up, 1);
    reading.given_up = &given_up;
    piece.path = in_base("tree");
    CHECK_EQ(reading_piece(&reading, &piece, 0), ECANCELED);
    reading_close(&reading, &figures);
    CHECK_EQ(figures.buffers, 0); /* nobody borrowed one */
    end_tree();
}

TEST(a_rate_that_makes_no_sense_is_refused)
{
    static const char *const wrong[] = {"0", "-1", "nan", "inf", "2001", "fast", "1x", ""};
    struct wishes wishes;
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        char *words[] = {(char *)"crunch", (char *)"--rate", (char *)(uintptr_t)wrong[i]};
        CHECK_EQ(read_wishes(&wishes, 3, words), -1);
        CHECK(wishes.wrong != NULL && wishes.wrong_word != NULL);
    }
    char *right[] = {(char *)"crunch", (char *)"--rate", (char *)"2.5", (char *)"--faults"};
    CHECK_EQ(read_wishes(&wishes, 4, right), 0);
    CHECK(wishes.rate > 2.49e6 && wishes.rate < 2.51e6 && wishes.faults);
    setenv("RATE", "many", 1);
    CHECK_EQ(read_wishes(&wishes, 1, right), -1);
    setenv("RATE", "7", 1);
    setenv("FAULTS", "1", 1);
    CHECK_EQ(read_wishes(&wishes, 1, right), 0);
    CHECK(wishes.rate > 6.9e6 && wishes.faults);
    unsetenv("RATE");
    setenv("FAULTS", "0", 1);
    CHECK_EQ(read_wishes(&wishes, 1, right), 0);
    CHECK(wishes.rate <= 0 && !wishes.faults);
    unsetenv("FAULTS");
}

/* ---- Ctrl-C ---- */

/* Three times as much as fits into the pipeline, whatever the machine; returns the bytes. */
static double write_much(size_t *files)
{
    struct corpus corpus;
    write_sizes(PARCEL_FILES * (12 * twill_cpus() + 6));
    CHECK_EQ(corpus_walk(&corpus, in_base("tree"), NULL, NULL), 0);
    double bytes = (double)corpus.bytes;
    *files = corpus.count;
    corpus_free(&corpus);
    return bytes;
}

/* Starts crunch on the tree, for so many seconds, and returns when it has begun to read. */
static pid_t start_slowly(double bytes, double lasting)
{
    char out[600], errors[600], where[600], corpus[600], rate[40];
    snprintf(out, sizeof out, "%s/stdout", base);
    snprintf(errors, sizeof errors, "%s/stderr", base);
    snprintf(where, sizeof where, "%s/out", base);
    snprintf(corpus, sizeof corpus, "%s/tree", base);
    snprintf(rate, sizeof rate, "%.6f", bytes / lasting / 1e6);
    char *words[] = {(char *)"crunch",
                     (char *)"--quick",
                     (char *)"--out",
                     where,
                     (char *)"--list",
                     (char *)"--rate",
                     rate,
                     (char *)"--faults",
                     corpus};
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        signal(SIGINT, SIG_DFL); /* also where the tests run in the background */
        become(0, out, errors);
        exit(crunch_main(sizeof words / sizeof *words, words));
    }
    CHECK(child > 0);
    struct stat info;
    for (int wait = 0; wait < 3000;
         wait++) { /* the progress is drawn once the handlers are there */
        if (stat(errors, &info) == 0 && info.st_size > 0)
            break;
        twill_sleep(twill_within(TWILL_MS(10)));
    }
    return child;
}

static uint64_t number_after(const char *text, const char *before)
{
    const char *at = text == NULL ? NULL : strstr(text, before);
    uint64_t number = 0;
    if (!CHECK(at != NULL))
        return UINT64_MAX;
    for (at += strlen(before); (*at >= '0' && *at <= '9') || *at == ','; at++)
        if (*at != ',')
            number = number * 10 + (uint64_t)(*at - '0');
    return number;
}

/* How the child ended: minus the signal, or its status. */
static int end_of(pid_t child)
{
    int status = 0;
    if (!CHECK(waitpid(child, &status, 0) == child))
        return 0;
    return WIFSIGNALED(status) ? -WTERMSIG(status) : WEXITSTATUS(status);
}

static void no_step(void *context, uint64_t bytes)
{
    (void)context, (void)bytes;
}

TEST(a_first_ctrl_c_finishes_what_is_under_way_and_reports_just_that)
{
    size_t files;
    char grouped[2][32], wanted[120];
    if (IS_SLOW)
        SKIP("the thread sanitizer keeps a signal back while its thread waits for a condition");
    if (!begin_tree())
        return;
    double bytes = write_much(&files);
    snprintf(wanted, sizeof wanted, " of %s files;", text_grouped(files, grouped[0]));
    char *errors = NULL;
    uint64_t covered = 0;
    /* later and later, until all were found and some were let in */
    for (double after = 0.3; after < 20 && covered == 0; after *= 2) {
        pid_t child = start_slowly(bytes, 20 * after);
        twill_sleep(twill_within((twill_ns)(after * 1e9)));
        CHECK(kill(child, SIGINT) == 0);
        CHECK_EQ(end_of(child), -SIGINT);
        free(errors);
        errors = read_text("stderr");
        if (errors != NULL && strstr(errors, wanted) != NULL)
            covered = number_after(errors, "in flight, the report covers ");
    }
    char *out = read_text("stdout");
    CHECK(covered > 0 && covered < files);
    snprintf(wanted, sizeof wanted, "stopped the report is about %s of %s files",
             text_grouped(covered, grouped[1]), grouped[0]);
    CHECK(file_has("stdout", wanted));
    CHECK(file_has("stdout", "proof   none"));
    /* the list has just these files, the first ones in order, with the counts of the plain loop */
    struct corpus corpus;
    struct counter *counter = counter_create();
    CHECK_EQ(corpus_walk(&corpus, in_base("tree"), NULL, NULL), 0);
    uint64_t lines = 0, words = 0, names = 0, listed = 0;
    for (size_t i = 0; i < corpus.count && counter != NULL && i < covered; i++) {
        struct counts counts;
        struct effort effort;
        char line[900];
        count_file(counter, corpus.files[i].path, &counts, &effort, no_step, NULL);
        snprintf(line, sizeof line, "\n%" PRIu64 " %" PRIu64 " %" PRIu64 " %08" PRIx32 " %s\n",
                 counts.lines, counts.words, counts.bytes, counts.crc, corpus.files[i].path);
        listed += out != NULL && strstr(out, line) != NULL;
        lines += counts.lines, words += counts.words, names += counts.names;
    }
    CHECK_EQ(listed, covered);
    CHECK(covered >= files || out == NULL || strstr(out, corpus.files[covered].path) == NULL);
    CHECK_EQ(number_after(out, "found   "), lines);
    CHECK_EQ(number_after(out, " lines, "), words);
    CHECK_EQ(number_after(out, " words, "), names);
    CHECK_EQ(number_after(out, " identifiers, "),
             counter == NULL ? 0 : names_distinct(&counter->names));
    page_is_whole();
    CHECK(file_has("out/demo.html", "asked to <em>stop</em>"));
    free(errors);
    free(out);
    counter_destroy(counter);
    corpus_free(&corpus);
    end_tree();
}

TEST(a_second_ctrl_c_ends_it_at_once)
{
    size_t files;
    char grouped[32], wanted[120];
    if (IS_SLOW)
        SKIP("the thread sanitizer keeps a signal back while its thread waits for a condition");
    if (!begin_tree())
        return;
    double bytes = write_much(&files);
    snprintf(wanted, sizeof wanted, " of %s files;", text_grouped(files, grouped));
    bool found = false; /* all files, before the first press */
    for (double after = 0.2; after < 20 && !found; after *= 2) {
        pid_t child = start_slowly(bytes, 150); /* what is under way: half a minute */
        twill_sleep(twill_within((twill_ns)(after * 1e9)));
        CHECK(kill(child, SIGINT) == 0);
        int64_t begun = twill_now();
        int status = 0;
        while (waitpid(child, &status, WNOHANG) == 0 && twill_now() - begun < TWILL_SEC(100)) {
            twill_sleep(twill_within(TWILL_MS(300))); /* within 200 ms it would be the same press */
            (void)kill(child, SIGINT);
        }
        CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGINT);
        char *errors = read_text("stderr");
        found = errors != NULL && strstr(errors, wanted) != NULL;
        free(errors);
    }
    CHECK(found);
    CHECK(access(in_base("out/demo.html"), F_OK) != 0);
    end_tree();
}

/* Asks as soon as a reading has begun. */
static void *ask_soon(void *stop_)
{
    struct stop *stop = stop_;
    size_t entered = 0;
    while (!entered) {
        twill_sleep(twill_within(TWILL_MS(1)));
        pthread_mutex_lock(&stop->lock);
        entered = stop->entered;
        pthread_mutex_unlock(&stop->lock);
    }
    twill_shutdown_request(stop->shutdown, SIGINT);
    return NULL;
}

/* The same without a signal, so that sanitizers see it: the books of what was asked to stop. */
TEST(a_reading_that_is_asked_to_stop_covers_what_was_let_in)
{
    struct measurement m;
    struct corpus corpus = {0};
    size_t files;
    if (!begin_tree())
        return;
    struct reading_rules rules = {.rate = (uint64_t)(write_much(&files) / 6), .faults = true};
    struct stop *stop = stop_create();
    if (!CHECK(stop != NULL) || !CHECK_EQ(measurement_open(&m, &corpus, stop, &rules), 0))
        return;
    pthread_t asks;
    if (!CHECK_EQ(pthread_create(&asks, NULL, ask_soon, stop), 0))
        return;
    CHECK_EQ(measurement_read(&m, in_base("tree")), 0);
    CHECK_EQ(pthread_join(asks, NULL), 0);
    CHECK(m.stopped);
    CHECK_EQ(m.found, files);
    CHECK(corpus.count > 0 && corpus.count < files);
    CHECK_EQ(corpus.count, m.first.run.files);
    CHECK_EQ(stop->entered, corpus.count);
    CHECK_EQ(stop->left, corpus.count);
    CHECK_EQ(m.first.figures.given_up, 0);
    struct counts *first = m.first.counts;
    CHECK_EQ(measurement_make(&m, 0), 0);
    CHECK(m.reference == first); /* nothing else was read */
    CHECK_EQ(m.rounds, 0);
    CHECK_EQ(m.runs_proven, 0);
    struct counter *counter = counter_create();
    uint64_t names = 0;
    for (size_t i = 0; i < corpus.count && counter != NULL; i++) {
        struct counts counts;
        struct effort effort;
        count_file(counter, corpus.files[i].path, &counts, &effort, no_step, NULL);
        CHECK(counts_equal(&counts, &m.reference[i]));
        names += counts.names;
    }
    CHECK_EQ(m.totals.names, names);
    CHECK(counter == NULL || names_equal(&counter->names, counter_names(m.reference_counter)));
    counter_destroy(counter);
    measurement_free(&m);
    corpus_free(&corpus);
    (void)twill_shutdown_destroy(stop->shutdown); /* stop_end would end this process */
    pthread_mutex_destroy(&stop->lock);
    free(stop);
    end_tree();
}

HARNESS_MAIN
