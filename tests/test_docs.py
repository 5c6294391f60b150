"""Every command in README and docs is taken by the command line; every link leads somewhere."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from compkit.cli import _parser, main
from compkit.training.command import parse
from compkit.tuning.command import _parser as tuning_parser

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), ROOT / "research/README.md"]


def lines() -> list[tuple[str, str]]:
    """Return each line of code that calls compkit, joined where it is broken, and its page."""
    return [
        (page.name, line)
        for page in PAGES
        for line in re.findall(r"^ {4}(compkit .*)$", page.read_text().replace("\\\n", " "), re.M)
    ]


def mentions() -> set[tuple[str, str, str]]:
    """Return each command, with an option or none, that stands in a sentence, and its page."""
    texts = ((page.name, re.sub(r"\n *", " ", page.read_text())) for page in PAGES)
    return {
        (name, command, option)
        for name, text in texts
        for command, rest in re.findall(
            r"`compkit ((?:(?:data|ledger|baseline) )?[a-z]+)([^`]*)`", text
        )
        for option in ("", *re.findall(r"--[a-z-]+", rest))
    }


@pytest.mark.parametrize(("page", "line"), lines())
def test_every_command_in_the_docs_is_taken(page, line):
    line = re.sub(r"\s+#.*|…|--plugin my_plugin.py", "", line)
    line = re.sub(r"runs/NAME/best.yaml|c\.yaml", "configs/ct-mini.yaml", line)
    line = re.sub(r"\[(--[^]]*)\]", r"\1", line)  # what may be left out
    words = [str(ROOT / w) if (ROOT / w).is_file() else w for w in shlex.split(line)[1:]]
    if words[0] == "train":
        parse([*words[1:], "--data", "d", "--run", "r"])
    elif words[0] == "tune":
        parse([*tuning_parser().parse_known_args(words[1:])[1], "--data", "d", "--run", "r"])
    else:
        assert _parser(words[0]).parse_args(words)


@pytest.mark.parametrize(("page", "command", "option"), sorted(mentions()))
def test_every_command_and_option_that_the_docs_mention_is_there(page, command, option, capsys):
    with pytest.raises(SystemExit) as ended:
        main([*command.split(), "--help"])
    assert ended.value.code == 0
    assert option in capsys.readouterr().out


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_in_the_docs_leads_somewhere(page):
    links = re.findall(r"\]\((?!https?://)([^)#]+)(?:#([^)]+))?\)", page.read_text())
    for path, anchor in links:
        target = page.parent / path
        assert target.exists(), path
        if anchor:
            titles = re.findall(r"^#+ (.*)$", target.read_text(), re.M)
            assert anchor in {re.sub(r"[^\w -]", "", t.lower()).replace(" ", "-") for t in titles}
