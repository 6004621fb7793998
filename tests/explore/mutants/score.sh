#!/bin/sh
# score.sh - from what mutants.sh left in a folder: a table by files, and those not noticed that have no reason; the last
# answer for each mutant counts. --table: as in docs/verification.md; --kinds: the same by kind of mistake, of those of
# which any was tried; --unexplained: these alone, a line each.
set -u
folder=$1
here=tests/explore/mutants
answers() {  # file, name, result, 1 if there is a reason for its life, 2 if it is known to be needed: of the mutants that there are
    awk -F'\t' -v OFS='\t' '
        FILENAME ~ /survivors/ { reason[$0] = 1; next }
        FILENAME ~ /needed/ { reason[$0] = 2; next }
        FILENAME ~ /list$/ { now[$2, $3] = 1; next }
        ($1, $2) in now { last[$1 OFS $2] = $3; name[$1 OFS $2] = $1 " | " $2 }
        END { for (m in last) print m, last[m], reason[name[m]] + 0 }' $here/survivors.txt $here/needed.txt "$folder/list" "$folder/results" | sort
}
unexplained() {
    answers | awk -F'\t' '($3 == "survived" || $3 == "not reached") && !$4 { print $1 " | " $2 }'
}
table() {
    answers | awk -F'\t' -v table="$1" '
        function row(name, all, tried, killed, excused) {
            share = tried ? sprintf("%.1f %%", 100 * killed / tried) : "-"
            printf table ? "| %s | %d | %d | %d (%s) | %d | %d |\n" : "%-30s%5d mutants,%5d tried,%5d noticed (%s),%4d not, with a reason,%4d not\n",
                name, all, tried, killed, share, excused, tried - killed - excused
        }
        FILENAME != "-" { if (!all[$2]++) name[++n] = $2; next }
        $3 ~ /^killed/ { killed[$1]++ }
        $3 ~ /^un|^not c/ { all[$1]-- }
        { tried[$1] += $3 !~ /^un|^not c/; excused[$1] += $4 == 1 && $3 ~ /^survived|^not r/ }
        END {
            if (table) print "| part | mutants | tried | noticed | not, with a reason | not |\n|---|---|---|---|---|---|"
            for (i = 1; i <= n; i++) {
                f = name[i]
                row(f, all[f], tried[f], killed[f], excused[f])
                sum += all[f]; sum_tried += tried[f]; sum_killed += killed[f]; sum_excused += excused[f]
            }
            row("all of these", sum, sum_tried, sum_killed, sum_excused)
            could = sum_tried - sum_excused
            if (table && could)
                printf "\nOf %d tried, %d have a reason why nobody can notice them; of the other %d, %d are noticed: %.1f %%.\n",
                    sum_tried, sum_excused, could, sum_killed, 100 * sum_killed / could
        }' "$folder/list" -
}
kinds() {
    echo '| mistake | mutants | tried | noticed | not, with a reason | needed, and shown by nobody | not |'
    echo '|---|---|---|---|---|---|---|'
    answers | awk -F'\t' '
        FILENAME != "-" { all[substr($3, 1, index($3, " ") - 1)]++; next }
        { kind = substr($2, 1, index($2, " ") - 1) }
        $3 ~ /^un|^not c/ { all[kind]--; next }
        { tried[kind]++ }
        $3 ~ /^killed/ { killed[kind]++; next }
        $4 { if ($4 == 1) excused[kind]++; else needed[kind]++ }
        END {
            for (k in tried)
                printf "| %s | %d | %d | %d | %d | %d | %d |\n", k, all[k], tried[k], killed[k], excused[k], needed[k],
                    tried[k] - killed[k] - excused[k] - needed[k] | "sort"
        }' "$folder/list" -
}
case ${2:-} in
--table) table 1 ;;
--kinds) kinds ;;
--unexplained) unexplained ;;
*)
    table 0
    answers | awk -F'\t' '$3 ~ /^killed/ && $4 { print "has a reason to survive, and is noticed: " $1 " | " $2 }'
    ! unexplained | sed 's/^/survives without a reason: /' | grep . ;;
esac
