#!/usr/bin/env python3
"""build_page.py OUT ECHARTS_MIN_JS: page.html as one file, with the style and the scripts that it names put into it. In place of @REPORT@
goes a report's JSON, with every "<" in it written as "\\u003c": "</script>" would end it, "<!--<script>" would hide its end."""
import pathlib
import re
import sys

HERE = pathlib.Path(__file__).resolve().parent
MARKER = "@REPORT@"


def script(source):
    """As an inline script; what would end it or change how it is read can stand in strings alone, where a backslash is nothing."""
    return "<script>\n" + re.sub(r"<(?=/script|!--)", r"\\x3c", source, flags=re.IGNORECASE) + "\n</script>"


def style(source):
    return f"<style>\n{source}</style>"


def build(echarts):
    def read(name):
        path = echarts if name == "echarts.min.js" else HERE / name
        return path.read_text(encoding="utf-8")

    page = read("page.html")
    page = re.sub(r'<link rel="stylesheet" href="([^"]+)">', lambda named: style(read(named[1])), page)
    return re.sub(r'<script src="([^"]+)"></script>', lambda named: script(read(named[1])), page)


def main():
    out, echarts = map(pathlib.Path, sys.argv[1:])
    page = build(echarts)
    if page.count(MARKER) != 1:
        sys.exit(f"build_page.py: {MARKER} is there {page.count(MARKER)} times, in place of once")
    out.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
