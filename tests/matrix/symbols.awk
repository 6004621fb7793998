# symbols.awk - what an object that implements a header may define, and want from others. Prints what it may not.
#
#   nm -g OBJECT | awk -v ends=RE -f symbols.awk HEADER -
#
# ends: names of functions that end the program, which this one may call.

FNR == 1 { file++ }

file == 1 && /^#ifdef TWILL_IMPLEMENTATION/ { over = 1 }
file == 1 && !over { # the declarations, where public macros may use a name of the parts
    gsub(/[^A-Za-z0-9_]+/, " ")
    for (i = 1; i <= NF; i++)
        declared[$i]
}
file == 1 || NF < 2 { next }

{ name = $NF }
$(NF - 1) ~ /^[Uwv]$/ {
    if (name ~ /^_?twill_/)
        say("wants a name of another pattern")
    if (name ~ /^(v?[fd]?printf|f?puts|f?putc|putchar|fwrite|perror)$/)
        say("prints")
    if (name ~ /^(exit|abort|_exit|quick_exit)$/ && name !~ ends)
        say("ends the program")
    if (name ~ /^(malloc|calloc|realloc|aligned_alloc|posix_memalign|free|strdup)$/)
        say("takes memory in another way than by TWILL_MALLOC")
    next
}
{ defined++ }
name !~ /^twill_/ { say("is no name of ours") }
name ~ /^twill__/ && name !~ /^twill__(thread|process)(_layout[0-9]+)?$/ && !(name in declared) { say("is not declared") }

END {
    if (!defined)
        print "the object defines nothing"
    exit wrong || !defined
}

function say(what) {
    print name ": " what
    wrong = 1
}
