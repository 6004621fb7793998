# goals.awk - the closing table, from the lines that report.awk left. Portable awk.

BEGIN {
    FS = "\t"
    format = "| %-36s | %-28s | %-32s | %-16s | %-3s |\n"
    printf format, "goal", "measured on", "limit", "measured", "met"
    line = "------------------------------------"
    printf format, line, substr(line, 1, 28), substr(line, 1, 32), substr(line, 1, 16), "---"
}
{
    printf format, $2, $3, $4, $5, $6
    if ($6 == "yes") met++
    else if ($6 == "NO") missed++
    else unknown++
}
END { printf "\ngoals: %d met, %d not met, %d not measured\n", met, missed, unknown }
