"""What the README promises is what the program has."""

from __future__ import annotations

import doctest
import re
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from calib.commands import app
from psfbank import schema

ROOT = Path(__file__).parents[1]
COMMANDS: dict[str, Any] = get_command(app).commands
README = (ROOT / "README.md").read_text("utf-8")


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_in_the_readme(name: str) -> None:
    assert re.search(rf"psfbank {name}\b", README), f"README.md does not mention `psfbank {name}`"


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_and_every_parameter_has_help(name: str) -> None:
    command = COMMANDS[name]

    assert (command.help or "").strip().endswith(".")
    assert [parameter.name for parameter in command.params if not getattr(parameter, "help", None)] == []


def test_the_readme_mentions_no_command_that_is_not_there() -> None:
    mentioned = set(re.findall(r"^(?:.*&& )?psfbank ([a-z]+)\b", "\n".join(code_blocks(README)), flags=re.MULTILINE))

    assert mentioned - set(COMMANDS) == set()


def test_the_readmes_test_command_is_what_is_run_before_a_change_is_accepted() -> None:
    (test_command,) = (
        line for block in code_blocks(README) for line in block.splitlines() if "python -m pytest" in line
    )
    steps = test_command.split(" && ")
    lines = (ROOT / ".ci" / "run").read_text("utf-8").splitlines()

    assert steps[0].endswith(" -m venv .venv")
    assert steps[1] == ". .venv/bin/activate"
    assert [line for line in lines if line in steps] == steps[2:]


def code_blocks(text: str) -> list[str]:
    return re.findall(r"^```[a-z]*\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)


def test_the_file_format_page_is_the_schema() -> None:
    page = (ROOT / "docs" / "file_format.md").read_text("utf-8")

    assert page.endswith(schema.markdown().rstrip() + "\n")


def test_the_examples_of_the_api_page_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    failed, tried = doctest.testfile(str(ROOT / "docs" / "api.md"), module_relative=False)

    assert (failed, tried > 20) == (0, True)


PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md"), ROOT / "sample_captures" / "README.md"])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_somewhere(page: Path) -> None:
    text = page.read_text("utf-8")
    for target in re.findall(r"\]\((?!https?:)([^)#]*)(?:#[^)]*)?\)", text):
        assert not target or (page.parent / target).exists(), f"{page.name}: {target}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_pages_mention_only_commands_and_options_that_there_are(page: Path) -> None:
    blocks = "\n".join(code_blocks(page.read_text("utf-8"))).replace("\\\n", " ")
    for name, rest in re.findall(r"psfbank ([a-z]+)([^\n|&]*)", blocks):
        if name not in COMMANDS:
            continue  # the distribution's own name, as in `git clone ... psfbank`
        known = {word for parameter in COMMANDS[name].params for word in parameter.opts}
        assert set(re.findall(r"(?<= )--[a-z-]+", rest)) <= known, f"{page.name}: psfbank {name}{rest}"


def test_every_page_is_linked_from_the_readme() -> None:
    for page in (ROOT / "docs").glob("*.md"):
        assert f"docs/{page.name}" in README, page.name
