# merge.awk - adds up many .gcov texts: a line for each part, and in the file `never` each branch that was
# never taken and has no reason in `exceptions`: "part | source line | k of n".

function trim(text) { gsub(/[ \t]+/, " ", text); sub(/^ /, "", text); sub(/ $/, "", text); return text }

BEGIN {
    while ((getline text < exceptions) > 0)
        if (text ~ /^[^# ]/) excused[text] = 1
    FS = ":"
}

/^ *-: *0:Source:/ {
    part = $0
    sub(/.*Source:/, "", part)
    ours = sub(/.*patterns\/src\//, "", part)
    next
}
!ours { next }
/^ *[#=\-0-9]+\*?: *[1-9][0-9]*:/ {
    count = trim($1)
    at = trim($2) + 0
    text = $0
    sub(/^[^:]*:[^:]*:/, "", text)
    code[part, at] = trim(text)
    if (at > last[part]) last[part] = at
    branches = 0
    if (count == "-") next
    is_line[part, at] = 1
    if (count + 0 > 0) hit_line[part, at] = 1
    next
}
/^branch / {
    k = ++branches
    if (k > count_of[part, at]) count_of[part, at] = k
    if ($0 ~ /taken [1-9]/) taken[part, at, k] = 1
}

END {
    printf "" > never
    for (part in last) {
        lines = hits = all = done = reasons = 0
        for (at = 1; at <= last[part]; at++) {
            if ((part, at) in is_line) { lines++; hits += (part, at) in hit_line }
            missing = ""
            for (k = 1; k <= count_of[part, at]; k++) {
                all++
                if ((part, at, k) in taken) { done++; continue }
                missing = missing (missing == "" ? "" : " ") k
            }
            if (missing == "") continue
            name = part " | " code[part, at]
            m = split(missing, unused, " ")
            if (name in excused) { reasons += m; continue }
            printf "%s | %s of %d, line %d\n", name, missing, count_of[part, at], at > never
        }
        printf "%-28s lines %5.1f %% of %4d, branches %5.1f %% of %4d, %3d with a reason, %3d to do\n", part,
            100 * hits / (lines ? lines : 1), lines, all ? 100 * done / all : 100, all, reasons, all - done - reasons | "sort"
        sum_lines += lines; sum_hits += hits; sum_all += all; sum_done += done; sum_reasons += reasons
    }
    close("sort")
    printf "%-28s lines %5.1f %% of %4d, branches %5.1f %% of %4d, %3d with a reason, %3d to do\n", "all",
        100 * sum_hits / (sum_lines ? sum_lines : 1), sum_lines, sum_all ? 100 * sum_done / sum_all : 100, sum_all, sum_reasons,
        sum_all - sum_done - sum_reasons
}
