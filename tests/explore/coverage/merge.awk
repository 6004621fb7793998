# merge.awk - adds up many .gcov texts: a line for each part. In the file `never` stands each branch that no
# program has taken and that has no reason in `exceptions`, as "part | source line"; in `new` those of them that
# are not in `untaken` either, with the numbers of the branches.

function trim(text) { gsub(/[ \t]+/, " ", text); sub(/^ /, "", text); sub(/ $/, "", text); return text }

# The branches of one line in one program. A line may stand for different code in two programs (a macro):
# those with the same number of branches are added up.
function flush(  k, v) {
    if (!branches) return
    v = part SUBSEP at SUBSEP branches
    if (!(v in known)) { known[v] = 1; variants[part, at] = variants[part, at] " " branches }
    for (k = 1; k <= branches; k++) if (hit[k]) taken[v, k] = 1
    branches = 0
}

BEGIN {
    while ((getline text < exceptions) > 0)
        if (text ~ /^[^# ]/) {
            split(text, field, / \| /)
            if (field[1] == "*") every[field[2]] = 1
            else excused[field[1] " | " field[2]] = 1
        }
    while ((getline text < untaken) > 0) if (text ~ /^[^#]/) known_gap[text] = 1
    FS = ":"
}

/^ *-: *0:Source:/ {
    flush()
    part = $0
    sub(/.*Source:/, "", part)
    ours = sub(/.*patterns\/src\//, "", part)
    next
}
!ours { next }
/^ *[#=\-0-9]+\*?: *[1-9][0-9]*:/ {
    flush()
    count = trim($1)
    at = trim($2) + 0
    text = $0
    sub(/^[^:]*:[^:]*:/, "", text)
    text = trim(text)
    gsub(/ \| /, " OR ", text)
    code[part, at] = text
    if (at > last[part]) last[part] = at
    assertion = text ~ /^TWILL_ASSERT\(/ # a program may have one of its own
    if (count == "-" || assertion) next
    is_line[part, at] = 1
    if (count + 0 > 0) hit_line[part, at] = 1
    next
}
/^branch / && !assertion { hit[++branches] = $0 ~ /taken [1-9]/ }

# The variant with the fewest branches left; sets `missing` (their numbers) and returns how many it has.
function best(part, at,  list, m, i, k, n, text, left, least, size) {
    m = split(variants[part, at], list, " ")
    least = -1
    for (i = 1; i <= m; i++) {
        n = list[i] + 0
        text = ""; left = 0
        for (k = 1; k <= n; k++)
            if (!((part, at, n, k) in taken)) { left++; text = text " " k }
        if (least < 0 || left < least) { least = left; size = n; missing = text }
    }
    missing_count = least < 0 ? 0 : least
    return size + 0
}

# A switch without a default: the compiler says when a value is missing, and gcov counts the way past all
# of them. One branch, then, if the text goes on without a default up to the next switch or function.
function is_way_past(part, at,  k, text) {
    if (missing_count != 1 || code[part, at] !~ /^switch \(/) return 0
    for (k = at + 1; k <= last[part] && k < at + 60; k++) {
        text = code[part, k]
        if (text ~ /^default:/) return 0
        if (text ~ /^switch \(/ || text == "{") break
    }
    return 1
}

function has_reason(name,  text) {
    if (name in excused) return 1
    for (text in every) if (index(name, text)) return 1
    return 0
}

function say(name, lines, hits, all, done, reasons) {
    return sprintf("%-28s lines %5.1f %% of %4d, branches %5.1f %% of %4d, %3d with a reason, %3d to do", name,
        lines ? 100 * hits / lines : 100, lines, all ? 100 * done / all : 100, all, reasons, all - done - reasons)
}

END {
    flush()
    printf "" > never
    printf "" > new
    for (part in last) {
        lines = hits = all = done = reasons = 0
        for (at = 1; at <= last[part]; at++) {
            if ((part, at) in is_line) { lines++; hits += (part, at) in hit_line }
            n = best(part, at)
            all += n
            done += n - missing_count
            if (!missing_count) continue
            name = part " | " code[part, at]
            if (has_reason(name) || is_way_past(part, at)) { reasons += missing_count; continue }
            print name > never
            if (!(name in known_gap)) printf "%s | %s of %d, line %d\n", name, missing, n, at > new
        }
        print say(part, lines, hits, all, done, reasons) | "sort"
        sum_lines += lines; sum_hits += hits; sum_all += all; sum_done += done; sum_reasons += reasons
    }
    close("sort")
    print say("all", sum_lines, sum_hits, sum_all, sum_done, sum_reasons)
}
