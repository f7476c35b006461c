# code.awk: what the other scripts here share. in_comment must be 0 at the beginning of a file.

# The line without comments, strings and character constants.
function code_of(line,    out, two, i, c) {
    out = ""
    for (i = 1; i <= length(line); i++) {
        two = substr(line, i, 2)
        c = substr(line, i, 1)
        if (in_comment) {
            if (two == "*/") { in_comment = 0; i++ }
        } else if (quote != "") {
            if (c == "\\") i++
            else if (c == quote) quote = ""
        } else if (two == "/*") { in_comment = 1; i++; out = out " " }
        else if (two == "//") break
        else if (c == "\"" || c == "'") { quote = c; out = out " " }
        else out = out c
    }
    quote = ""
    return out
}
