#!/bin/sh
# score.sh - from the results of mutants.sh: a table, and the survivors without a reason.
set -u
results=$1
here=tests/explore/mutants
awk -F'\t' '
    { n[$1]++ }
    $3 ~ /^killed/ { killed[$1]++ }
    $3 == "survived" { survived[$1]++ }
    END {
        for (f in n) {
            counted = killed[f] + survived[f]
            printf "%-24s %4d mutants, %4d killed, %3d survived: %5.1f %%\n", f, counted, killed[f], survived[f],
                counted ? 100 * killed[f] / counted : 100
            all += counted; dead += killed[f]
        }
        printf "%-24s %4d mutants, %4d killed, %3d survived: %5.1f %%\n", "~all", all, dead, all - dead, all ? 100 * dead / all : 100
    }' "$results" | sort
awk -F'\t' '$3 == "survived" || $3 == "no such mutant" { print $1 " | " $2 }' "$results" | sort >"$results.survivors"
unknown=0
while IFS= read -r mutant; do
    grep -qF -e "$mutant" $here/survivors.txt || { unknown=$((unknown + 1)); echo "survives without a reason: $mutant"; }
done <"$results.survivors"
awk -F'\t' '$3 ~ /^killed/ { print $1 " | " $2 }' "$results" | grep -Fx -f "$here/survivors.txt" |
    sed 's/^/has a reason to survive, and is noticed: /'
[ $unknown -eq 0 ]
