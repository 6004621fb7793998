# inside.awk: a header as a test sees it that looks inside and replaces nothing there: the public functions have no
# body, as they are called in twill.c; and all others are inline, so that only those are compiled that the test calls.
# Lines keep their numbers.
function say() { if (NR > 1) print held }
skips { if ($0 == "}") skips = 0; $0 = "" }
/^TWILL__(DEFINE|WEAK) / { public = 1 }
public && $0 == "{" { sub(/( *\/\*.*)?$/, ";", held); public = 0; skips = 1; $0 = "" }
/^static .*\(/ && !/^static inline / { sub(/^static (__attribute__\(\([a-z, ]*\)\) )?/, "static inline ") }
{ say(); held = $0 }
END { print held }
