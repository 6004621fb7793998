/* version.h: one version for all headers of one .c file. */
#ifndef TWILL_VERSION
#define TWILL_VERSION      100 /* major * 10000 + minor * 100 + patch */
#define TWILL_VERSION_TEXT "0.1.0"
#endif
/* Not under the guard: a second header checks what the first one brought. The assertion names both
   versions. */
#if TWILL_VERSION != 100
#ifdef __cplusplus
static_assert(TWILL_VERSION == 100,
              "this header is twill 0.1.0, but twill " TWILL_VERSION_TEXT " came before it");
#else
_Static_assert(TWILL_VERSION == 100,
               "this header is twill 0.1.0, but twill " TWILL_VERSION_TEXT " came before it");
#endif
#error "twill headers of different versions in one file"
#endif
