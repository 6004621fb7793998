# report.awk - one section's table from its contenders, samples and goals (three files with tabs);
# appends what became of the goals to goals_out. Portable awk.

BEGIN { FS = "\t" }
FNR == 1 { file++ }
file == 1 { role[$2] = $1; order[++contenders] = $2; next }
file == 2 {
    if ($2 == "failed")
        failed[$1]++
    else
        value[$1, ++count[$1]] = $2 + 0
    next
}
file == 3 {
    goals++
    goal_text[goals] = $1
    goal_who[goals] = $2
    goal_stat[goals] = $3
    goal_limit[goals] = $4
}

function sort_values(name,    i, j, v)
{
    for (i = 2; i <= count[name]; i++) {
        v = value[name, i]
        for (j = i - 1; j > 0 && value[name, j] > v; j--)
            value[name, j + 1] = value[name, j]
        value[name, j + 1] = v
    }
}

# nanoseconds with four digits or so
function show(ns)
{
    if (ns >= 1e6) return sprintf("%.3f M", ns / 1e6)
    if (ns >= 1e4) return sprintf("%.2f k", ns / 1e3)
    if (ns >= 100) return sprintf("%.0f", ns)
    return sprintf("%.2f", ns)
}

function ratio(a, b)
{
    return b > 0 && a != "" ? sprintf("%.2f", a / b) : "-"
}

# what a name in a limit stands for: the median of a contender, of the best peer, of the serial loop
function reference(name)
{
    if (name == "best") return best == "" ? "" : median[best]
    return name in median ? median[name] : ""
}

function statistic(name, which)
{
    if (!(name in median)) return ""
    return which == "max" ? highest[name] : which == "min" ? lowest[name] : median[name]
}

# Limits are "NUMBER", "NAME + NUMBER" and "FACTOR x NAME"; what cannot be compared is "not measured".
function judge(g,    got, part, base, limit, measured, against)
{
    got = statistic(goal_who[g], goal_stat[g])
    against = " ns"
    limit = measured = ""
    if (split(goal_limit[g], part, " ") == 1) {
        limit = part[1] + 0
        measured = show(got)
    } else if (part[2] == "+") {
        base = reference(part[1])
        if (base != "") limit = base + part[3]
        measured = sprintf("%s %+.1f", part[1], got - base)
    } else {
        base = reference(part[3])
        if (base != "") {
            limit = part[1] * base
            measured = sprintf("%.2f x", got / base)
        }
        against = part[3] == "best" && best != "" ? " (" best ")" : ""
    }
    if (got == "" || limit == "")
        measured = "not measured"
    printf "%s\t%s\t%s\t%s\t%s\t%s\n", title, goal_text[g], goal_who[g] " " goal_stat[g],
           "<= " goal_limit[g] against, measured,
           measured == "not measured" ? "-" : got <= limit ? "yes" : "NO" >> goals_out
}

END {
    for (i = 1; i <= contenders; i++) {
        name = order[i]
        if (!count[name]) continue
        sort_values(name)
        middle = int((count[name] + 1) / 2)
        median[name] = value[name, middle]
        if (count[name] % 2 == 0)
            median[name] = (median[name] + value[name, middle + 1]) / 2
        lowest[name] = value[name, 1]
        highest[name] = value[name, count[name]]
        if (role[name] == "serial") serial = name
        if (role[name] != "peer") continue
        if (best == "" || median[name] < median[best]) best = name
        if (best_low == "" || lowest[name] < best_low) best_low = lowest[name]
    }
    printf "### %s (%s; best peer: %s)\n\n", title, unit, best == "" ? "none" : best
    format = "| %-16s | %10s | %10s | %10s | %8s | %8s | %8s |\n"
    printf format, "contender", "min", "median", "max", "x best", "x b.min", "x serial"
    wide = "-----------"
    narrow = "---------"
    printf "|%s-------|%s:|%s:|%s:|%s:|%s:|%s:|\n", wide, wide, wide, wide, narrow, narrow, narrow
    for (i = 1; i <= contenders; i++) {
        name = order[i]
        label = name (failed[name] ? " (!" failed[name] ")" : "")
        if (count[name])
            printf format, label, show(lowest[name]), show(median[name]), show(highest[name]),
                   best == "" ? "-" : ratio(median[name], median[best]),
                   ratio(lowest[name], best_low),
                   serial == "" ? "-" : ratio(median[name], median[serial])
        else
            printf format, label, "failed", "failed", "failed", "-", "-", "-"
    }
    for (g = 1; g <= goals; g++) judge(g)
}
