"""What the README promises is what the program has."""

from __future__ import annotations

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
