/* text: file names are bytes, not text. These print them so that nothing in a name can act on a
   terminal, on a page or on a script: control characters, characters that turn the direction of
   writing, and bytes that are not UTF-8 come out as visible escapes. */
#ifndef CRUNCH_TEXT_H
#define CRUNCH_TEXT_H
#include <stdint.h>
#include <stdio.h>

void text_plain(FILE *out, const char *bytes, size_t length); /* for terminals and logs */
void text_html(FILE *out, const char *bytes,
               size_t length); /* for element content and quoted attributes */
void text_json(FILE *out, const char *bytes,
               size_t length); /* between double quotes, also inside <script> */

/* 7961 -> "7,961". `buffer` has at least 27 bytes; it is returned. */
char *text_grouped(uint64_t number, char *buffer);

/* 137625600 -> "137.6 MB". `buffer` has at least 16 bytes; it is returned. */
char *text_bytes(uint64_t bytes, char *buffer);

/* Nanoseconds -> "1.68 s", "589 ms", "0.166 ms". `buffer` has at least 32 bytes; it is returned. */
char *text_time(int64_t ns, char *buffer);

/* "" or "s": 1 file, 2 files. */
const char *text_plural(uint64_t number);

#endif
