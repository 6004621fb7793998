# mutate.awk - small mistakes in a C source. Over FILE:
#
#   awk -f mutate.awk FILE                  lists the mutants: one line "operator | place | statement"
#   awk -v first=N [-v leave=LIST] -f mutate.awk FILE     prints FILE with all of them in it, each behind a switch
#
# The list's k-th mutant has the number N + k - 1: where `mutant(number)` of mutants.h is true, the mistake is made.
# LIST names a file of numbers to be left as they are: places where C wants a constant.
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
#
# Assertions have none: a weaker check is no mistake in what it checks.

BEGIN {
    schema = first != ""
    number = first
    while (leave != "" && (getline word < leave) > 0) left_out[word] = 1
    weaker["acquire"] = weaker["release"] = "relaxed"
    weaker["acq_rel"] = "acquire release"
    weaker["seq_cst"] = "acq_rel"
    relation[" < "] = "LESS"
    relation[" <= "] = "AT_MOST"
    relation[" > "] = "MORE"
    relation[" >= "] = "AT_LEAST"
}

{ line[NR] = $0 }

# The text without comments; and, of the same length, in `bare` without what stands in quotes, too.
function clean(text,    out, i, c, two) {
    out = bare = ""
    for (i = 1; i <= length(text); i++) {
        c = substr(text, i, 1)
        two = substr(text, i, 2)
        if (comment) {
            if (two == "*/") { comment = 0; out = out " "; bare = bare " "; i++ }
            c = " "
        } else if (quote != "") {
            bare = bare " "
            if (c == "\\") { out = out c; bare = bare " "; c = substr(text, ++i, 1) }
            else if (c == quote) quote = ""
            out = out c
            continue
        } else if (two == "/*") { comment = 1; out = out " "; bare = bare " "; i++; c = " " }
        else if (two == "//") return out
        else if (c == "\"" || c == "'") { quote = c; bare = bare " "; out = out c; continue }
        out = out c
        bare = bare c
    }
    return out
}

function count(text, what,    n) { n = gsub(what, "&", text); return n }

function trim(text) { gsub(/[ \t]+/, " ", text); sub(/^ /, "", text); sub(/ $/, "", text); return text }

# ---- which mistakes a statement allows ----

# One mutant of the statement, at a place of `code`.
function mutant(operator, at) {
    if (!schema) print operator " | " seen[key] "." ++places[operator, key, seen[key]] " | " key
    else if (!(number in left_out)) { id[operator, at] = id[operator, at] " " number; any = 1 }
    number++
}

# Is that text at this place no part of a longer word or number?
function whole(from, at) {
    return !(from ~ /1$/ && substr(code, at + length(from), 1) ~ /[0-9a-zA-Z.]/) && !(from ~ /^INT/ && substr(code, at - 1, 1) == "U")
}

# Each place of `from` in the code; `times` mutants each.
function each(operator, from, times,    at, rest) {
    at = 1
    while ((rest = index(substr(code, at), from)) > 0) {
        at += rest - 1
        if (whole(from, at)) for (rest = 0; rest < times; rest++) mutant(operator, at)
        at += length(from)
    }
}

# The place of the bracket that closes the one at `open`; 0: it is not in the statement.
function closing(open, end,    depth, i, c) {
    for (i = open; i < end; i++) {
        c = substr(code, i, 1)
        depth += (c ~ /[({[]/) - (c ~ /[])}]/)
        if (depth == 0) return i
    }
    return 0
}

function find_mutants(    n, i, names, open, end) {
    end = length(code) + 1
    each("weaken", "memory_order_acquire", 1)
    each("weaken", "memory_order_release", 1)
    each("weaken", "memory_order_acq_rel", 2)
    each("weaken", "memory_order_seq_cst", 1)
    n = split("load store exchange compare_exchange_strong compare_exchange_weak fetch_add fetch_sub fetch_or fetch_and", names, " ")
    for (i = 1; i <= n; i++) each("weaken", "atomic_" names[i] "(", 1)
    if (match(code, /(^|[^a-z_0-9])if \(/)) {
        open = RSTART + RLENGTH - 1
        if (closing(open, end)) { mutant("never", open); mutant("always", open) }
    }
    if (match(code, /^ *while \(/)) {
        open = RSTART + RLENGTH - 1
        if (closing(open, end) && substr(code, closing(open, end) + 1) !~ /^ *;/) mutant("once", open)
    }
    each("and-or", " && ", 1)
    each("and-or", " || ", 1)
    each("bound", " < ", 1)
    each("bound", " <= ", 1)
    each("bound", " > ", 1)
    each("bound", " >= ", 1)
    each("bound", " + 1", 1)
    each("bound", " - 1", 1)
    if (follows_comma) { # one more of a declaration
    } else if (key ~ /^(\(void\) ?)?[a-zA-Z_][a-zA-Z_0-9]*\(.*\);$/ && key !~ /^(if|while|for|switch|return|sizeof|TWILL__GUARD)/ && key !~ /[.][.][.][)]/)
        mutant("drop", 1)
    else if (key ~ /^\*?[a-z_][a-z_0-9]*((->|\.)[a-z_0-9]+|\[[^]]*\])* *(=|\+=|-=|\|=|&=|\+\+|--)[^=].*;$/ || key ~ /^\*?[a-z_][a-z_0-9]*((->|\.)[a-z_0-9]+|\[[^]]*\])*(\+\+|--);$/)
        mutant("drop", 1)
    each("one", "INT_MAX)", 1)
    each("one", "pthread_cond_broadcast(", 1)
    each("one", "cnd_broadcast(", 1)
}

# ---- the statement with all of them ----
# By precedence: a list is cut at commas, assignments and ?:, each part at ||, at &&, at == and bits, at < and >; what is
# left has the parentheses, and in these all begins anew. Intervals are from a, up to but not with b.

# Cuts [a, b) at what matches outside of brackets: at[] and the lengths size[].
function cut(a, b, what, at, size,    i, c, depth, n) {
    for (i = a; i < b; i++) {
        c = substr(code, i, 1)
        if (c ~ /[({[]/ && (c != "{" || closing(i, b))) depth++
        else if (c ~ /[])}]/ && depth > 0) depth--
        else if (depth == 0 && c ~ /[ ,;{}]/ && match(substr(code, i, 6), what)) {
            at[++n] = i
            size[n] = RLENGTH
            i += RLENGTH - 1
        }
    }
    return n
}

function with(operator, at) { return substr(id[operator, at], 2) }

function emit_list(a, b,    at, size, n, i, out) {
    n = cut(a, b, "^([,;{}]| ([?:=]|[-+|&*/%^]=|<<=|>>=) )", at, size)
    for (i = 1; i <= n; i++) {
        out = out emit_part(a, at[i]) substr(raw, at[i], size[i])
        a = at[i] + size[i]
    }
    return out emit_part(a, b)
}

function emit_part(a, b,    before) {
    match(substr(code, a, b - a), /^ *((return|else|do) )? */)
    before = substr(raw, a, RLENGTH)
    return before emit_or(a + RLENGTH, b)
}

function joined(name, operator, at, left, right) {
    if ((operator, at) in id) return "MUTANT_" name "(" with(operator, at) ", " left ", " right ")"
    return left (name == "OR" ? " || " : " && ") right
}

function emit_or(a, b,    at, size, n, i, out) {
    n = cut(a, b, "^ [|][|] ", at, size)
    at[n + 1] = b
    out = emit_and(a, at[1])
    for (i = 1; i <= n; i++) out = joined("OR", "and-or", at[i], out, emit_and(at[i] + 4, at[i + 1]))
    return out
}

function emit_and(a, b,    at, size, n, i, out) {
    n = cut(a, b, "^ && ", at, size)
    at[n + 1] = b
    out = emit_bits(a, at[1])
    for (i = 1; i <= n; i++) out = joined("AND", "and-or", at[i], out, emit_bits(at[i] + 4, at[i + 1]))
    return out
}

function emit_bits(a, b,    at, size, n, i, out) {
    n = cut(a, b, "^ ([|^&]|==|!=) ", at, size)
    for (i = 1; i <= n; i++) {
        out = out emit_relation(a, at[i]) substr(raw, at[i], size[i])
        a = at[i] + size[i]
    }
    return out emit_relation(a, b)
}

function emit_relation(a, b,    at, size, n, i, out, right) {
    n = cut(a, b, "^ [<>]=? ", at, size)
    at[n + 1] = b
    out = emit_leaf(a, at[1])
    for (i = 1; i <= n; i++) {
        right = emit_leaf(at[i] + size[i], at[i + 1])
        if (("bound", at[i]) in id)
            out = "MUTANT_" relation[substr(code, at[i], size[i])] "(" with("bound", at[i]) ", " out ", " right ")"
        else out = out substr(raw, at[i], size[i]) right
    }
    return out
}

# memory_order_acq_rel, with a mutant for each weaker one
function emit_order(at, order,    ids, to, n, i, out) {
    n = split(weaker[order], to, " ")
    out = "memory_order_" order
    if (split(with("weaken", at), ids, " ") < n) return out # one of the two is left out
    for (i = 1; i <= n; i++) out = "(mutant(" ids[i] ") ? memory_order_" to[i] " : " out ")"
    return out
}

function emit_leaf(a, b,    i, c, end, out, rest) {
    for (i = a; i < b; i++) {
        c = substr(code, i, 1)
        rest = substr(code, i, 40)
        if (c ~ /[({[]/ && (end = closing(i, b))) {
            if (("never", i) in id && ("always", i) in id)
                out = out "(MUTANT_IF(" with("never", i) ", " with("always", i) ", " emit_list(i + 1, end) "))"
            else out = out c emit_list(i + 1, end) substr(code, end, 1)
            i = end
        } else if (("weaken", i) in id && rest ~ /^memory_order_/) {
            match(rest, /^memory_order_[a-z_]*/)
            out = out emit_order(i, substr(rest, 14, RLENGTH - 13))
            i += RLENGTH - 1
        } else if (("weaken", i) in id && rest ~ /^atomic_/) {
            end = index(rest, "(")
            out = out "mutant_" substr(rest, 8, end - 7) with("weaken", i) ", "
            i += end - 1
            end = closing(i, b)
            out = out emit_list(i + 1, end) ")"
            i = end
        } else if (("bound", i) in id) { # + 1, - 1
            out = out substr(code, i, 3) "!mutant(" with("bound", i) ")"
            i += 3
        } else if (("one", i) in id && rest ~ /^INT_MAX/) {
            out = out "(mutant(" with("one", i) ") ? 1 : INT_MAX)"
            i += 6
        } else if (("one", i) in id) {
            end = index(rest, "broadcast(")
            out = out "(mutant(" with("one", i) ") ? " substr(rest, 1, end - 1) "signal : " substr(rest, 1, end + 8) ")"
            i += end + 7
        } else out = out substr(raw, i, 1)
    }
    return out
}

function emit_statement(    end, open, out) {
    end = length(code) + 1
    open = match(code, /^ *while \(/) ? RLENGTH : 0
    if (("once", open) in id)
        return "for (unsigned mutant_turn = 0; MUTANT_AGAIN(" with("once", open) ", mutant_turn++) && (" \
            emit_list(open + 1, closing(open, end)) ");)" emit_list(closing(open, end) + 1, end)
    out = emit_list(1, end)
    if (("drop", 1) in id) out = "{ if (!mutant(" with("drop", 1) ")) { " out " } }"
    return out
}

# ---- statement by statement ----

function goes_on(text) { # over several lines
    return count(text, "[(]") > count(text, "[)]") || \
        (text ~ /[^;{}:,]$/ && text ~ /=|return|->/ && text !~ /^(if|for|while|else|switch)/)
}

function next_line(    lead) {
    match(line[++last], /^[ \t]*/)
    lead = RLENGTH + 1
    raw = raw " " substr(clean(line[last]), lead)
    code = code " " substr(bare, lead)
    raw = substr(raw, 1, length(code))
}

function print_lines(from, to) {
    if (schema) for (; from <= to; from++) print line[from]
}

END {
    for (i = 1; i <= NR; i = last + 1) {
        raw = clean(line[i])
        code = bare
        last = i
        if (trim(code) ~ /^#/) { # directives with their continuations
            while (line[last] ~ /\\$/) last++
            print_lines(i, last)
            continue
        }
        while (last < NR && goes_on(trim(code))) next_line()
        follows_comma = key ~ /,$/
        key = trim(code)
        any = 0
        split("", id)
        if (key ~ /[a-z]/ && key !~ / #/ && key !~ /^((static|extern|TWILL__DEFINE|TWILL__WEAK|TWILL__DECL|TWILL__ONE|typedef|struct|enum)[ {]|TWILL_ASSERT|_Static_assert)/) {
            seen[key]++
            find_mutants()
        }
        if (any) { print emit_statement() (comment ? " /*" : ""); for (j = i; j < last; j++) print "" }
        else print_lines(i, last)
    }
}
