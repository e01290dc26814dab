# Turns lines of text into a small page.
BEGIN { print "<!doctype html>\n<html>\n<title>hello</title>\n<h1>hello</h1>\n<ul>" }
/^#/ || NF == 0 { next }
{ gsub(/&/, "\\&amp;"); gsub(/</, "\\&lt;"); print "<li>" $0 "</li>" }
END { print "</ul>\n</html>" }
