# mutate.awk - small mistakes, made one at a time. Over a C source:
#
#   awk -f mutate.awk FILE                  lists the mutants: one line "operator | place | statement"
#   awk -v make='operator | place | statement' -f mutate.awk FILE     prints FILE with that one made
#
# `statement` is the source text, on one line and without comments; `place` tells its equals apart: the
# how-manyth of them in the file, a dot, the how-manyth place in it. So a mutant keeps its name when other lines change.
#
#   weaken      an order: acquire, release -> relaxed; acq_rel -> either half; seq_cst -> acq_rel
#   never, always   the condition of an if is evaluated, and then not looked at
#   and-or      && for ||, || for &&
#   once        a while loop goes round once
#   one         a wake of all, a broadcast: wakes one
#   drop        a call or an assignment that stands alone
#   bound       < for <=, <= for <, > for >=, >= for >; + 1 and - 1 left out

{ line[NR] = $0 }

# The text without comments and what stands in quotes, of the same length.
function blank(text,    out, i, c, two) {
    out = ""
    for (i = 1; i <= length(text); i++) {
        c = substr(text, i, 1)
        two = substr(text, i, 2)
        if (comment) {
            if (two == "*/") { comment = 0; out = out " "; i++ }
            out = out " "
        } else if (quote != "") {
            if (c == "\\") { out = out " "; i++ }
            else if (c == quote) quote = ""
            out = out " "
        } else if (two == "/*") { comment = 1; out = out "  "; i++ }
        else if (c == "\"" || c == "'") { quote = c; out = out " " }
        else out = out c
    }
    return out
}

function count(text, what,    n) { n = gsub(what, "&", text); return n }

function trim(text) { gsub(/[ \t]+/, " ", text); sub(/^ /, "", text); sub(/ $/, "", text); return text }

# One mutant of the statement: `from` at `at` becomes `to`.
function mutant(operator, at, from, to,    name) {
    ordinal[operator, seen[key]]++
    name = operator " | " seen[key] "." ++places[operator, key, seen[key]] " | " key
    if (make == "") print name
    else if (name == make) made = substr(code, 1, at - 1) to substr(code, at + length(from))
}

# Each place of `pattern` in the code.
function each(operator, pattern, from, to,    at, rest) {
    at = 1
    while ((rest = index(substr(code, at), from)) > 0) {
        at += rest - 1
        mutant(operator, at, from, to)
        at += length(from)
    }
}

# The place of the parenthesis that closes the one at `open`.
function closing(open,    depth, i, c) {
    for (i = open; i <= length(code); i++) {
        c = substr(code, i, 1)
        depth += (c == "(") - (c == ")")
        if (depth == 0) return i
    }
    return 0
}

function conditions(    open, close_, inner) {
    if (match(code, /(^|[^a-z_0-9])if \(/)) {
        open = RSTART + RLENGTH - 1
        close_ = closing(open)
        inner = substr(code, open, close_ - open + 1)
        if (close_) {
            mutant("never", open, inner, "((" substr(inner, 2) ", 0)")
            mutant("always", open, inner, "((" substr(inner, 2) ", 1)")
        }
    }
    if (match(code, /^ *while \(/)) {
        open = RSTART + RLENGTH - 1
        close_ = closing(open)
        inner = substr(code, open, close_ - open + 1)
        if (close_ && substr(code, close_ + 1) !~ /^ *;/)
            mutant("once", index(code, "while"), "while " inner, "for (int mutant = 1; mutant-- && " inner ";)")
    }
    each("and-or", "", " && ", " || ")
    each("and-or", "", " || ", " && ")
}

function orders(    n, i, names, at, rest, name) {
    each("weaken", "", "memory_order_acquire", "memory_order_relaxed")
    each("weaken", "", "memory_order_release", "memory_order_relaxed")
    each("weaken", "", "memory_order_acq_rel", "memory_order_acquire")
    each("weaken", "", "memory_order_acq_rel", "memory_order_release")
    each("weaken", "", "memory_order_seq_cst", "memory_order_acq_rel")
    n = split("load store exchange compare_exchange_strong compare_exchange_weak fetch_add fetch_sub fetch_or fetch_and", names, " ")
    for (i = 1; i <= n; i++)
        each("weaken", "", "atomic_" names[i] "(", "mutant_" names[i] "(")
}

function bounds(    n, i, pairs, pair) {
    each("bound", "", " < ", " <= ")
    each("bound", "", " <= ", " < ")
    each("bound", "", " > ", " >= ")
    each("bound", "", " >= ", " > ")
    each("bound", "", " + 1", "")
    each("bound", "", " - 1", "")
}

function statements(    text) {
    text = trim(code)
    if (text ~ /^(\(void\) ?)?[a-zA-Z_][a-zA-Z_0-9]*\(.*\);$/ && text !~ /^(if|while|for|switch|return|sizeof|TWILL_ASSERT|_Static_assert|TWILL__GUARD)/)
        mutant("drop", 1, code, ";")
    else if (text ~ /^\*?[a-z_][a-z_0-9]*((->|\.)[a-z_0-9]+|\[[^]]*\])* *(=|\+=|-=|\|=|&=|\+\+|--)[^=].*;$/ || text ~ /^\*?[a-z_][a-z_0-9]*((->|\.)[a-z_0-9]+|\[[^]]*\])*(\+\+|--);$/)
        mutant("drop", 1, code, ";")
    each("one", "", "INT_MAX)", "1)")
    each("one", "", "pthread_cond_broadcast(", "pthread_cond_signal(")
    each("one", "", "cnd_broadcast(", "cnd_signal(")
}

END {
    for (i = 1; i <= NR; i = last + 1) {
        code = blank(line[i])
        last = i
        if (trim(code) ~ /^#/) { # directives with their continuations
            while (line[last] ~ /\\$/) last++
            print_lines(i, last)
            continue
        }
        while (count(code, "[(]") > count(code, "[)]") && last < NR) # a statement over several lines
            code = code " " trim(blank(line[++last]))
        while (trim(code) ~ /[^;{}:,]$/ && trim(code) ~ /=|return|->/ && last < NR && trim(code) !~ /^(if|for|while|else|switch)/)
            code = code " " trim(blank(line[++last]))
        key = trim(code)
        made = ""
        if (key ~ /[a-z]/ && key !~ /^(static|extern|TWILL__DEFINE|TWILL__WEAK|TWILL__DECL|TWILL__ONE|typedef|struct|enum)[ {]/) {
            seen[key]++
            orders(); conditions(); bounds(); statements()
        }
        if (made != "") { print made; found = 1; for (j = i; j < last; j++) print "" }
        else print_lines(i, last)
    }
    if (make != "" && !found) exit 1
}

function print_lines(from, to) {
    if (make != "") for (; from <= to; from++) print line[from]
}
