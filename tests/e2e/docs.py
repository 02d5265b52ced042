"""README and docs: links lead somewhere, and the commands in them have the options that they are given."""
import functools
import re

from support import ROOT, Case, run, run_tests

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def anchors(page):
    """As GitHub makes them of headings."""
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in re.findall(r"^#+ +(.+)$", page.read_text(), re.M)}


@functools.lru_cache
def options(command):
    return set(re.findall(r"--[a-z][a-z-]*", run(*command.split(), "--help").stdout))


def commands(text):
    """Command lines of lockstep's, in code: its command and its options."""
    code = re.findall(r"^ {4,}(.+)$", text, re.M) + re.findall(r"`([^`\n]+)`", text)
    for line in code:
        # Up to what ends a command, and but for what is another program's or in quotes.
        for command, rest in re.findall(r"(?:^|[ /])lockstep ([a-z]+)((?: [^|;&#]*)?)", line):
            words = re.sub(r"'[^']*'", "", rest).split()
            if command in ("bench", "dataset", "lab") and words:
                command = f"{command} {words[0]}"
            yield line, command, [word.split("=")[0] for word in words if re.match(r"--[a-z]", word)]


class Docs(Case):
    def test_links_lead_somewhere(self):
        found = 0
        for page in PAGES:
            for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
                if "://" in target:
                    continue
                found += 1
                name, _, anchor = target.partition("#")
                to = (page.parent / name).resolve() if name else page
                self.assertTrue(to.exists(), f"{page.name}: {target}")
                if anchor:
                    self.assertIn(anchor, anchors(to), f"{page.name}: {target}")
        self.assertGreater(found, 10)

    def test_options_are_those_of_the_commands(self):
        found = 0
        for page in PAGES:
            for line, command, given in commands(page.read_text()):
                for option in given:
                    found += 1
                    self.assertIn(option, options(command), f"{page.name}: {line}")
        self.assertGreater(found, 20)


if __name__ == "__main__":
    run_tests()
