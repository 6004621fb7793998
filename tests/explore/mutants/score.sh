#!/bin/sh
# score.sh - from what mutants.sh left in a folder: a table by files, and those not noticed that have no reason; the last
# answer for each mutant counts. --table: as in docs/verification.md; --unexplained: these alone, a line each.
set -u
folder=$1
here=tests/explore/mutants
answers() {  # file, name, result: of the mutants that there are
    awk -F'\t' -v OFS='\t' 'FILENAME ~ /list$/ { now[$2, $3] = 1; next } ($1, $2) in now { last[$1 OFS $2] = $3 }
        END { for (m in last) print m, last[m] }' "$folder/list" "$folder/results" | sort
}
unexplained() {
    answers | awk -F'\t' '$3 == "survived" || $3 == "not reached" { print $1 " | " $2 }' | grep -v -xF -f $here/survivors.txt
}
table() {
    answers | awk -F'\t' -v table="$1" '
        function row(name, all, tried, killed) {
            printf table ? "| %s | %d | %d | %d (%.1f %%) | %d |\n" : "%-30s%5d mutants,%5d tried,%5d noticed: %5.1f %%,%4d not\n",
                name, all, tried, killed, tried ? 100 * killed / tried : 100, tried - killed
        }
        FILENAME != "-" { all[$2]++; next }
        !($1 in tried) { name[++n] = $1 }
        $3 ~ /^killed/ { killed[$1]++ }
        $3 ~ /^un|^not c/ { all[$1]-- }
        { tried[$1] += $3 !~ /^un|^not c/ }
        END {
            if (table) print "| part | mutants | tried | noticed | not noticed |\n|---|---|---|---|---|"
            for (i = 1; i <= n; i++) {
                f = name[i]
                row(f, all[f], tried[f], killed[f])
                sum += all[f]; sum_tried += tried[f]; sum_killed += killed[f]
            }
            row("all of these", sum, sum_tried, sum_killed)
        }' "$folder/list" -
}
case ${2:-} in
--table) table 1 ;;
--unexplained) unexplained ;;
*)
    table 0
    answers | awk -F'\t' '$3 ~ /^killed/ { print $1 " | " $2 }' | grep -xF -f $here/survivors.txt |
        sed 's/^/has a reason to survive, and is noticed: /'
    ! unexplained | sed 's/^/survives without a reason: /' | grep . ;;
esac
