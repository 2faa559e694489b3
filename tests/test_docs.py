"""The documentation says what the program does: the keyword table, the commands and files that pages name."""

import importlib.util
import re
from pathlib import Path

import pytest
from typer.main import get_command

from tigerfox.cli import app

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md"), *(ROOT / "rules").glob("*.md")])


def relative(path):
    return str(path.relative_to(ROOT))


def test_keyword_table_is_current():
    spec = importlib.util.spec_from_file_location("keywords_page", ROOT / "docs" / "keywords.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    page = (ROOT / "docs" / "rules.md").read_text()
    assert module.page_with_table(page) == page, "run: python docs/keywords.py"


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text()):
        assert (page.parent / target).exists(), target


def options_of(command):
    return {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_commands_exist_with_the_options_named(page):
    """Every `tigerfox VERB … --option` in a code block or in backticks is a verb that has the option."""
    text = page.read_text().replace("\\\n", " ")
    code = "\n".join(re.findall(r"^```\n(.*?)^```", text, re.S | re.M)) + "\n" + "\n".join(re.findall(r"`(tigerfox [^`]+)`", text))
    verbs = get_command(app).commands
    for words in re.findall(r"(?<![\w./-])(?:\.venv/bin/)?tigerfox ([a-z][^\n#|]*)", code):
        command, names = None, dict(verbs)
        for word in words.split():
            if word in names:
                command = names[word]
                names = dict(getattr(command, "commands", {}))
            elif command is None:
                pytest.fail(f"no verb {word}: tigerfox {words}")
            elif word.startswith("--"):
                assert word.split("=")[0] in options_of(command) | {"--help"}, f"tigerfox {words}"
