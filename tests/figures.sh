#!/bin/sh
# figures.sh - `make figures`: writes the figures of the documentation from what `make bench`, `make explore`,
# `make mutants` and `make coverage` left in build/. Each block stands between two comments; the second holds a sum
# over the block, so that a figure that was typed is seen: `figures.sh --check`.
set -u
BUILD=${BUILD:-build}
W=$BUILD/explore
docs='README.md docs/performance.md docs/verification.md'
here=tests/explore
mkdir -p "$W"

block() {  # file, name: the lines of that block
    sed -n "/^<!-- figures: $2 -->\$/,/^<!-- sum /p" "$1" | sed -e 1d -e '$d'
}

if [ "${1:-}" = --check ]; then
    wrong=0
    for doc in $docs; do
        for name in $(sed -n 's/^<!-- figures: \([a-z]*\) -->$/\1/p' "$doc"); do
            said=$(sed -n "/^<!-- figures: $name -->\$/,/^<!-- sum /p" "$doc" | sed -n 's/^<!-- sum \([0-9]*\) -->$/\1/p')
            [ "$said" = "$(block "$doc" "$name" | cksum | cut -d' ' -f1)" ] || { wrong=1; echo "$doc: the figures '$name' were typed: make figures writes them"; }
        done
    done
    exit $wrong
fi

fill() {  # name, with the new lines on standard input; none: the old ones stay
    cat >"$W/figures.$1"
    [ -s "$W/figures.$1" ] || { echo "figures: nothing new for '$1'"; return; }
    doc=$(grep -l "^<!-- figures: $1 -->\$" $docs) || { echo "figures: no page has a place for '$1'"; return; }
    sum=$(cksum <"$W/figures.$1" | cut -d' ' -f1)
    awk -v name="$1" -v file="$W/figures.$1" -v sum="$sum" '
        inside && /^<!-- sum / { inside = 0; print "<!-- sum " sum " -->"; next }
        inside { next }
        { print }
        $0 == "<!-- figures: " name " -->" { inside = 1; while ((getline line < file) > 0) print line }' "$doc" >"$W/doc" &&
        cp "$W/doc" "$doc"
}

commit=$(git log -1 --format=%h -- patterns/src tests/explore 2>/dev/null)

longer() {  # what a run with a T= and a SECS= of its own has exhausted
    tac "$W/longer" | sed -n 's/^\([a-z_0-9]*\) on \([a-z-]*\): .*, exhausted in \([0-9]*\):.*/\1 \2 \3/p' |
        awk '!seen[$1, $2]++' | sort | while read -r name backend schedules; do
        bounds=$(sed -n 's/^.*EXPLORE-TREE: *--\(.*\)/\1/p' "$here/scenarios/$name.c" 2>/dev/null |
            sed -e 's/ *\*\/.*//' -e 's/=/ /g' -e 's/ --/, /g')
        echo "| \`$name\` on $backend | ${bounds:-preemptions 2, stale 1, faults 1} | $schedules |"
    done
}

# ---- make explore ----
[ ! -s "$W/longer" ] || { printf '| | exhausted at | schedules |\n|---|---|---|\n'; longer; } | fill longer
[ ! -s "$W/results.all" ] || awk -v commit="$commit" -v new="$(cat "$W/new.all")" '
    /^broken / { variants++; if (/: passed$/) broken++ }
    /: FAILED$/ { failed++; next }
    /^broken / { next }
    /place.* of / { sweeps++; next }
    / on .*: random/ {
        programs++
        split($0, part, " on ")
        if (!(part[1] in seen)) { seen[part[1]] = 1; scenarios++ }
        gsub(/[,:]/, " ")
        futex = $3 == "futex"
        exhausted = $8 == "exhausted"
        random += $5; pct += $7; tree += $(exhausted ? 10 : 11)
        share = futex ? 1 : 5
        full = $5 >= 100000 / share && $7 >= 50000 / share
        if (futex) { all++; all_full += full; all_tree += exhausted }
        else { other++; other_full += full; other_tree += exhausted }
    }
    END {
        print "| | |"
        print "|---|---|"
        print "| scenarios | " scenarios " (" programs " with the other back ends) |"
        print "| on futexes: all 100 000 random and 50 000 PCT schedules done | " all_full + 0 " of " all " |"
        print "| on another back end: a fifth of that done | " other_full + 0 " of " other " |"
        print "| trees exhausted at 2 preemptions, 1 stale read, 1 fault, or bounds of their own | " all_tree + other_tree " of " programs " |"
        printf "| schedules of these programs, in sum of the runs | %.1f million random, %.1f million PCT, %.1f million of trees |\n", random / 1e6, pct / 1e6, tree / 1e6
        printf "| of the last `make explore` | %.1f million, %d failed |\n", new / 1e6, failed
        print "| scenarios swept: the k-th allocation or thread fails, every k | " sweeps + 0 " |"
        print "| broken variants of the library that are found | " broken + 0 " of " variants + 0 " |"
        print "| commit | " commit " |"
    }' "$W/results.all" | fill explore

# ---- the explorer itself ----
[ ! -s "$W/cases/list" ] || {
    echo "| | |"
    echo "|---|---|"
    echo "| programs that must fail, and do, with the words that are expected | $(awk -F'|' '$2 ~ /fails/' "$W/cases/list" | wc -l) |"
    echo "| programs that must not be accused, and are not | $(awk -F'|' '$2 ~ /passes/' "$W/cases/list" | wc -l) |"
    [ ! -s "$W/reduction" ] || sed 's/^reduction: \(.*\) searches alike, \(.*\) schedules instead of \(.*\)/| searches with and without reduction that found the same outcomes | \1, with \2 schedules instead of \3 |/' "$W/reduction"
    [ ! -s "$W/speed" ] || sed 's/^/| schedules a second on one core, /; s/$/ |/' "$W/speed"
} | fill itself

# ---- make mutants: by parts of samples, by kinds of what was tried whole ----
[ ! -s "$W/mutants/results" ] || [ -s "$W/mutants/sample" ] || {
    sh $here/mutants/score.sh "$W/mutants" --kinds
    echo
    printf 'They took %.0f minutes in sum. ' "$(awk -F'\t' '{ ms += $4 } END { print ms / 60000 }' "$W/mutants/results")"
    [ ! -s "$W/mutants/commit" ] || printf 'Commit %s.\n' "$(cat "$W/mutants/commit")"
} | fill kinds
[ ! -s "$W/mutants/sample" ] || {
    sh $here/mutants/score.sh "$W/mutants" --table
    echo
    awk -F'\t' '{ ms += $4 } END { printf "They took %.0f minutes in sum, on a machine busy with other work. ", ms / 60000 }' "$W/mutants/results"
    [ ! -s "$W/mutants/commit" ] || printf 'Commit %s. ' "$(cat "$W/mutants/commit")"
    cat "$W/mutants/sample"
} | fill mutants

# ---- make coverage: by folders ----
[ ! -s "$BUILD/coverage/summary" ] || awk -v backends="$(cat "$BUILD/coverage/backends")" '
    $1 == "all" { next }
    {
        gsub(/,/, " ")
        part = $1
        sub(/[.\/].*/, "", part)
        lines[part] += $6; hit[part] += $3 * $6 / 100
        branches[part] += $11; taken[part] += $8 * $11 / 100
        excused[part] += $12; left[part] += $16
    }
    END {
        print "| part | lines taken | branches taken | not taken, with a reason | not taken |"
        print "|---|---|---|---|---|"
        for (p in lines)
            printf "| %s | %.1f %% of %d | %.1f %% of %d | %d | %d |\n", p, 100 * hit[p] / lines[p], lines[p],
                branches[p] ? 100 * taken[p] / branches[p] : 100, branches[p], excused[p], left[p] | "sort"
        close("sort")
        print ""
        print "Back ends: " backends "."
    }' "$BUILD/coverage/summary" | fill coverage

# ---- make bench, if it was all of it ----
bench=$BUILD/bench
[ -s "$bench/report.md" ] || exit 0
awk -f tests/bench/headline.awk tests/bench/headline.txt "$bench/report.md" | fill headline
sed -n '/^### goals/,$p' "$bench/report.md" | sed 1,2d | fill goals
sed -n '/^### goals/q;p' "$bench/report.md" | sed -e 's/^###/&#/' -e '/./,$!d' | fill bench
