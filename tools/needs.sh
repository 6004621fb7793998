#!/bin/sh
# needs.sh - what examples need beyond a C compiler. A source says it in a comment, one line a package:
#     BUILD-NEEDS: libcurl libcurl4-openssl-dev       (the name for pkg-config, the Debian package)
#
#   needs.sh --met FILE...      prints the files all of whose needs are here
#   needs.sh --missing FILE...  says one line for each file whose needs are not
#   needs.sh --cflags FILE...   prints the flags to compile; --libs: to link
set -u
mode=$1
shift

needs_of() { sed -n 's/^.*BUILD-NEEDS: *//p' "$@"; }

missing_of() {
    needs_of "$1" | while read -r package debian _; do
        pkg-config --exists "$package" 2>/dev/null || printf '%s ' "$debian"
    done
}

packages() { needs_of "$@" | cut -d' ' -f1 | sort -u; }

[ $# -gt 0 ] || exit 0
case $mode in
--met)
    with=$(echo $(grep -l BUILD-NEEDS: "$@"))
    for file; do
        case " $with " in
        *" $file "*) [ -z "$(missing_of "$file")" ] || continue ;;
        esac
        echo "$file"
    done ;;
--missing)
    for file; do
        missing=$(missing_of "$file")
        [ -z "$missing" ] || echo "skipped: $file: apt-get install pkg-config $missing"
    done ;;
--cflags | --libs)
    list=$(packages "$@")
    [ -z "$list" ] || pkg-config "$mode" $list ;;
*)
    echo "usage: needs.sh --met|--missing|--cflags|--libs FILE..." >&2
    exit 2 ;;
esac
