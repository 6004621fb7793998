# headline.awk - the rows of headline.txt (section | contender | words [| other]) from a report: what twill needs,
# and the other one, or the best of all others, serial loops left out. Portable awk.

BEGIN { FS = " *\\| *" }
FNR == 1 { file++ }
file == 1 && /^[^#]/ {
    row++
    section[row] = $1
    who[row] = $2
    words[row] = $3
    against[row] = $4
    next
}
/^### / {
    sub(/^### /, "")
    sub(/ \([^()]*\)$/, "")
    here = $0
}
/^\| [a-z]/ && $2 != "contender" {
    median[here, $2] = $4
    if ($2 !~ /^(twill|serial|new-threads|two-|least-)/) # the last two: the least that is possible
        if (!(here in best) || value($4) < value(median[here, best[here]]))
            best[here] = $2
}

# What report.awk showed, in ns.
function value(shown)
{
    return shown * (shown ~ /M$/ ? 1e6 : shown ~ /k$/ ? 1e3 : 1)
}

function show(shown,    ns)
{
    ns = value(shown)
    return ns >= 1e6 ? sprintf("%.2f ms", ns / 1e6) : ns >= 1e4 ? sprintf("%.1f us", ns / 1e3) : \
           ns >= 100 ? sprintf("%.0f ns", ns) : sprintf("%.1f ns", ns)
}

END {
    print "| what | twill | the best of the others | ratio |"
    print "|---|---|---|---|"
    for (i = 1; i <= row; i++) {
        mine = median[section[i], who[i]]
        other = against[i] != "" ? against[i] : best[section[i]]
        if (mine == "" || other == "")
            continue
        theirs = median[section[i], other]
        printf "| %s | %s | %s %s | %.2f |\n", words[i], show(mine), other, show(theirs),
               value(mine) / value(theirs)
    }
}
