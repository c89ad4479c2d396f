"""Check that every link in the pages of the root and of docs leads to a file, and to a heading where it names one.

Links to other hosts are left alone: a check that needs the network fails for reasons that are not ours.
"""

import re
import sys
from collections.abc import Iterator
from pathlib import Path

LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)[^)]*\)|<img[^>]+src=\"([^\"]+)\"")
CODE = re.compile(r"```.*?```|`[^`\n]*`", re.DOTALL)
HEADING = re.compile(r"^#+\s+(.*?)\s*$", re.MULTILINE)


def main(root: Path) -> int:
    pages = [*root.glob("*.md"), *(root / "docs").rglob("*.md")]
    broken = [problem for page in pages for problem in broken_links(page)]
    print("\n".join(broken) or f"{len(pages)} pages: every link resolves.")
    return 1 if broken else 0


def broken_links(page: Path) -> Iterator[str]:
    text = CODE.sub("", page.read_text(encoding="utf-8"))
    for match in LINK.finditer(text):
        link = match[1] or match[2]
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        if not target.exists():
            yield f"{page}: {link}: there is no {target}"
        elif anchor and anchor not in anchors(target):
            yield f"{page}: {link}: {target} has no heading of that name"


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as code hosts form them."""
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in HEADING.findall(text)}


if __name__ == "__main__":
    sys.exit(main(Path(__file__).resolve().parent.parent))
