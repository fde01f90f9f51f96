"""The wheel in an environment that holds its runtime dependencies and nothing else, setuptools included."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
IMPORT_EVERYTHING = """
import importlib, pkgutil, calib, psfbank
for package in (psfbank, calib):
    for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        if module.name not in ("calib.__main__", "psfbank.blur.tensors"):  # a tensor comes with its torch
            importlib.import_module(module.name)
"""

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def venv(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clean")
    subprocess.run([sys.executable, "-m", "venv", folder / "venv"], check=True)
    pip = [folder / "venv" / "bin" / "python", "-m", "pip", "--quiet", "--disable-pip-version-check", "--retries", "1"]
    if subprocess.run([*pip, "download", "--no-deps", "--dest", folder, "hatchling"], capture_output=True).returncode:
        pytest.skip("no package index can be reached")
    subprocess.run([*pip, "wheel", "--no-deps", "--wheel-dir", folder / "dist", ROOT], check=True)
    (wheel,) = (folder / "dist").glob("psfbank-*.whl")
    subprocess.run([*pip, "install", "--no-compile", wheel], check=True)
    # prysm asks for pkg_resources, which new environments lack: take away what an old one brought along
    subprocess.run([*pip, "uninstall", "--yes", "setuptools"], check=True)
    return folder / "venv"


def run(venv: Path, *command: str) -> subprocess.CompletedProcess[str]:
    program, *arguments = command
    return subprocess.run([venv / "bin" / program, *arguments], capture_output=True, text=True, cwd=venv)


@pytest.mark.parametrize("command", [["--help"], ["info", "--help"], ["--version"]], ids=" ".join)
def test_the_command_answers(venv: Path, command: list[str]) -> None:
    answer = run(venv, "psfbank", *command)

    assert answer.returncode == 0, answer.stderr
    assert "psfbank" in answer.stdout
    assert answer.stderr == ""


def test_every_module_finds_its_imports(venv: Path) -> None:
    assert run(venv, "python", "-I", "-c", "import pkg_resources").returncode == 1

    answer = run(venv, "python", "-I", "-W", "error", "-c", IMPORT_EVERYTHING)

    assert answer.returncode == 0, answer.stderr


@pytest.mark.parametrize("name", ["cli", "tests", "sample_captures"])
def test_only_the_two_packages_are_installed(venv: Path, name: str) -> None:
    answer = run(venv, "python", "-I", "-c", f"import {name}")

    assert f"No module named '{name}'" in answer.stderr


def test_the_packages_say_that_they_are_typed(venv: Path) -> None:
    site = next(venv.glob("lib/python*/site-packages"))

    assert (site / "psfbank" / "py.typed").is_file()
    assert (site / "calib" / "py.typed").is_file()
