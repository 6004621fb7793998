# merge.awk - adds up many .gcov texts: a line for each part. In the file `never` stands each branch that no
# program has taken and that has no reason in `exceptions`, as "part | source line"; in `new` those of them that
# are not in `untaken` either, with the numbers of the branches.

function trim(text) { gsub(/[ \t]+/, " ", text); sub(/^ /, "", text); sub(/ $/, "", text); return text }

# What a compiler would see of a line; `in_comment` goes on to the next one.
function bare(text,  out, quoted) {
    while (text != "") {
        if (in_comment) {
            if (!match(text, /\*\//)) break
            in_comment = 0
        } else if (match(text, /\/\*|["']/)) {
            out = out substr(text, 1, RSTART - 1)
            text = substr(text, RSTART)
            in_comment = text ~ /^\//
            quoted = text ~ /^"/ ? match(text, /^"([^"\\]|\\.)*"/) : match(text, /^'([^'\\]|\\.)*'/)
            if (in_comment) { RSTART = 1; RLENGTH = 2 }
            else { out = out "x"; if (!quoted) RSTART = RLENGTH = 1 }
        } else {
            out = out text
            break
        }
        text = substr(text, RSTART + RLENGTH)
    }
    return trim(out)
}

# Whether the statement goes on behind this line.
function goes_on(text,  pairs) {
    pairs = text
    depth += gsub(/\(/, "", pairs)
    depth -= gsub(/\)/, "", pairs)
    if (text ~ /^#/ || depth < 0) depth = 0
    return depth > 0 || text ~ /(&&|\|\||[=,+*\/<>|&^-])$/
}

# A line of the source, met for the first time: which line its statement begins in.
function read_source(text,  seen) {
    seen = bare(text)
    if (!open && seen != "" && seen !~ /^(\?|:|&&|\|\|)/) { begins = at; depth = 0 }
    if (seen != "") open = goes_on(seen)
    head_of[part, at] = begins
    text = trim(text)
    gsub(/ \| /, " OR ", text)
    code[part, at] = text
    if (at > last[part]) last[part] = at
}

# The branches of one statement in one program: which of its lines has them, differs from one compiler's view to
# the next (a macro, a statement expression). It may stand for different code in two programs: those with the same
# number of branches are added up, and told by the lines of the one that has spread them most.
function flush(  k, v, spread) {
    if (!branches) return
    v = part SUBSEP head SUBSEP branches
    if (!(v in known)) { known[v] = 1; variants[part, head] = variants[part, head] " " branches }
    for (k = 1; k <= branches; k++) {
        if (hit[k]) taken[v, k] = 1
        spread += k == 1 || line_of[k] != line_of[k - 1]
    }
    if (spread > spread_of[v]) {
        spread_of[v] = spread
        for (k = 1; k <= branches; k++) stands[v, k] = line_of[k]
    }
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
    open = depth = in_comment = begins = head = 0
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
    if (!((part, at) in head_of)) read_source(text)
    if (head_of[part, at] != head) {
        flush()
        head = head_of[part, at]
    }
    assertion = code[part, head] ~ /^TWILL_ASSERT\(/ # a program may have one of its own
    if (count == "-" || assertion) next
    is_line[part, at] = 1
    if (count + 0 > 0) hit_line[part, at] = 1
    next
}
/^branch / && !assertion { hit[++branches] = $0 ~ /taken [1-9]/; line_of[branches] = at }

# The variant with the fewest branches left; sets `missing` (their numbers, by the line that each stands in), and
# returns how many it has.
function best(part, head,  list, m, i, k, n, v, left, least, size) {
    m = split(variants[part, head], list, " ")
    least = -1
    for (i = 1; i <= m; i++) {
        n = list[i] + 0
        left = 0
        for (k = 1; k <= n; k++) left += !((part, head, n, k) in taken)
        if (least < 0 || left < least) { least = left; size = n }
    }
    missing_count = least < 0 ? 0 : least
    split("", missing)
    v = part SUBSEP head SUBSEP size
    for (k = 1; k <= size; k++)
        if (!((v, k) in taken)) missing[stands[v, k]] = missing[stands[v, k]] " " k
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
            for (k = at; missing_count && k < at + 60; k++) {
                if (!(k in missing)) continue
                name = part " | " code[part, k]
                if (has_reason(name) || is_way_past(part, k)) {
                    reasons += split(missing[k], list, " ")
                    continue
                }
                print name > never
                if (!(name in known_gap)) printf "%s | %s of %d, line %d\n", name, missing[k], n, k > new
            }
        }
        print say(part, lines, hits, all, done, reasons) | "sort"
        sum_lines += lines; sum_hits += hits; sum_all += all; sum_done += done; sum_reasons += reasons
    }
    close("sort")
    print say("all", sum_lines, sum_hits, sum_all, sum_done, sum_reasons)
}
