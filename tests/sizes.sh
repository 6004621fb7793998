#!/bin/sh
# sizes.sh HEADER... - what a header costs: lines, bytes of code with -Os and -O2 (text and constants of an object that
# implements this header alone), writable data, and the bytes of each type that the caller owns.
set -u
CC=${CC:-cc}
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
command -v size >/dev/null || { echo "skipped: apt-get install binutils"; exit 0; }

code() {  # level: "text data" of the header, thread-local state included in data
    $CC -std=c11 "$1" -DTWILL_IMPLEMENTATION -x c -c "$header" -o "$work/o.o" 2>/dev/null || { echo "- -"; return; }
    size "$work/o.o" | awk 'NR == 2 { print $1, $2 + $3 }'
}

# Public structs whose storage is private words: the caller's objects.
objects() {
    awk '/^#ifdef TWILL_IMPLEMENTATION/ { exit }
         match($0, /struct twill_[a-z_]* *[{]/) { name = substr($0, RSTART + 7, RLENGTH - 8); sub(/ *$/, "", name) }
         name != "" && /TWILL_PRIVATE/ { print name }
         /[}]/ { name = "" }' "$header" | sort -u
}

sizes_of() {  # types...: "name bytes, ..."
    { echo '#include <stdio.h>'
      echo "#include \"$header\""
      echo 'int main(void) {'
      for type; do echo "printf(\"%s %zu;\", \"$type\", sizeof(struct $type));"; done
      echo 'return 0; }'; } >"$work/s.c"
    $CC -std=c11 -I"$(dirname "$header")" -I. "$work/s.c" -o "$work/s" 2>/dev/null && "$work/s" | sed -e 's/twill_//g' -e 's/;$//' -e 's/;/, /g'
}

# What all headers have is shown once.
base=$(for each; do (header=$each; objects); done | sort | uniq -c | awk -v n=$# '$1 == n { print $2 }')
[ $# -gt 1 ] || base=""
printf '%-26s %6s %9s %9s %6s  %s\n' header lines -Os -O2 data "objects of the caller, bytes each"
for header; do
    case $header in
    */twill.h) own="" ;;
    *) own=$(objects | grep -vxF "${base:-none}") ;;
    esac
    set -- $(code -Os) $(code -O2) "$@"
    small=$1 data=$2 fast=$3
    shift 4
    printf '%-26s %6d %9s %9s %6s  %s\n' "$(basename "$header")" "$(wc -l <"$header")" "$small" "$fast" "$data" \
        "$([ -z "$own" ] || sizes_of $own)"
done
[ -z "$base" ] || printf 'in every header: %s\n' "$(sizes_of $base)"
