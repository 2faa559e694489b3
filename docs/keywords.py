"""Write the keyword table of docs/rules.md from the table that the rule compiler uses: ``python docs/keywords.py``."""

import re
from pathlib import Path

from tigerfox.ruleset.keywords import keyword_rows

PAGE = Path(__file__).with_name("rules.md")
PLACE = re.compile(r"(<!-- keywords: [^\n]*-->\n).*?(<!-- /keywords -->)", re.S)


def keyword_table():
    """The table in Markdown."""
    lines = ["| keyword | what it says | example |", "|---|---|---|"]
    for row in keyword_rows():
        names = ", ".join(f"`{name}`" for name in (row["name"], *row["aliases"]))
        lines.append(f"| {names} | {row['description']} | `{row['example']}` |".replace("||", "| |"))
    return "\n".join(lines) + "\n"


def page_with_table(text):
    """The page with its table made anew."""
    return PLACE.sub(lambda place: place.group(1) + keyword_table() + place.group(2), text)


if __name__ == "__main__":
    PAGE.write_text(page_with_table(PAGE.read_text()))
