"""The shape of the house, read from its imports: who may use whom, and what no module may do.

Each rule is a function from modules to complaints; the last test shows every rule a snippet that it must refuse.
"""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Callable, Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[1]
MAX_LINES = 400

PACKAGES = ("psfbank", "calib", "cli")  # each may import itself and those before it
ORDER = (  # inside psfbank: a module may import those before it
    *(
        "errors",
        "files",
        "arrays",
        "canonical",
        "flags",
        "axis",
        "camera",
        "noise",
        "field",
        "spline",
        "distortion",
        "pixelmap",
        "resample",
    ),
    *("zernike", "optics", "seen", "render"),
    *("model", "layout", "schema", "store", "along", "bank"),
    *("blur", "sensor", "isp", "degrade", "simulate", "undistort"),
    *("distortion_figures", "metrics", "restore", "frames", "compare", "interop", "pictures", "batch"),
)
HOME_OF_LIBRARY = {  # the one module or folder that imports a heavy library
    "prysm": "psfbank.zernike",
    "h5py": "psfbank.store",
    "lmfit": "calib.wavefront",
    "rawpy": "calib.capture",
    "colour_demosaicing": "psfbank.isp.menon",
    "matplotlib": "calib.plots",
    "pydantic": "calib.manifest",
    "typer": "calib.commands",
    "rich": "calib.commands",
    "torch": "psfbank.blur.tensors",
}

CALLED = {
    "opencv-python-headless": "cv2",
    "pillow": "PIL",
    "scikit-image": "skimage",
    "colour-demosaicing": "colour_demosaicing",
}  # distribution -> its module
AT_RUN_TIME = ("raw", "menon", "torch")  # extras that the packages import where they are there

Modules = Mapping[str, str]  # dotted name -> source
Rule = Callable[[Modules], Iterator[str]]


class Import(NamedTuple):
    name: str
    line: int
    for_types_only: bool


def our_modules() -> dict[str, str]:
    paths = [ROOT / "cli.py", *(p for package in ("psfbank", "calib") for p in (ROOT / package).rglob("*.py"))]
    names = (path.relative_to(ROOT).with_suffix("").as_posix().replace("/", ".") for path in paths)
    return {name: path.read_text("utf-8") for name, path in zip(names, paths, strict=True)}


def imports(source: str) -> Iterator[Import]:
    tree = ast.parse(source)
    guards = [n for n in ast.walk(tree) if isinstance(n, ast.If) and ast.unparse(n.test).endswith("TYPE_CHECKING")]
    guarded = {id(node) for guard in guards for statement in guard.body for node in ast.walk(statement)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            yield Import("." * getattr(node, "level", 0) + name, node.lineno, id(node) in guarded)


def inside(name: str, home: str) -> bool:
    return name == home or name.startswith(home + ".")


def imports_are_absolute(modules: Modules) -> Iterator[str]:
    for module, source in modules.items():
        yield from (f"{module}:{i.line} imports {i.name}" for i in imports(source) if i.name.startswith("."))


def packages_import_downwards(modules: Modules) -> Iterator[str]:
    for module, source in modules.items():
        above = PACKAGES[PACKAGES.index(module.split(".")[0]) + 1 :]
        for i in imports(source):
            if i.name.split(".")[0] in above:
                yield f"{module}:{i.line} imports {i.name}"


def psfbank_keeps_its_order(modules: Modules) -> Iterator[str]:
    for module, source in modules.items():
        package, _, rest = module.partition(".")
        part = rest.split(".")[0]
        if package != "psfbank" or part == "__init__":
            continue
        if part not in ORDER:
            yield f"{module} has no place in ORDER"
            continue
        later = ORDER[ORDER.index(part) + 1 :]
        for i in imports(source):
            if not i.for_types_only and any(inside(i.name, f"psfbank.{name}") for name in later):
                yield f"{module}:{i.line} imports {i.name}, which comes after it"


def no_import_cycles(modules: Modules) -> Iterator[str]:
    graph: dict[str, set[str]] = {}
    for module, source in modules.items():
        used = {i.name for i in imports(source) if not i.for_types_only}
        graph[module] = {other for other in modules if other != module and any(inside(name, other) for name in used)}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        yield " -> ".join(error.args[1])


def heavy_libraries_have_one_home(modules: Modules) -> Iterator[str]:
    for module, source in modules.items():
        for i in imports(source):
            home = HOME_OF_LIBRARY.get(i.name.split(".")[0])
            if home and not inside(module, home):
                yield f"{module}:{i.line} imports {i.name}; its home is {home}"


def only_commands_print(modules: Modules) -> Iterator[str]:
    for module, source in modules.items():
        if inside(module, "calib.commands"):
            continue
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, (ast.Name, ast.Attribute)) and ast.unparse(node) in (
                "print",
                "sys.stdout",
                "sys.stderr",
            ):
                yield f"{module}:{node.lineno} uses {ast.unparse(node)}"


def modules_are_short(modules: Modules) -> Iterator[str]:
    for module, source in modules.items():
        lines = len(source.splitlines())
        if lines > MAX_LINES:
            yield f"{module} has {lines} lines"


def public_functions_say_what_they_do(modules: Modules) -> Iterator[str]:
    for module, source in modules.items():
        tree = ast.parse(source)
        classes = [node for node in tree.body if isinstance(node, ast.ClassDef) and not node.name.startswith("_")]
        for node in (*tree.body, *(member for public in classes for member in public.body)):
            if isinstance(node, ast.FunctionDef) and not node.name.startswith("_") and not ast.get_docstring(node):
                yield f"{module}:{node.lineno} {node.name} has no docstring"


def exceptions_are_not_swallowed(modules: Modules) -> Iterator[str]:
    for module, source in modules.items():
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.ExceptHandler):
                caught = {ast.unparse(name) for name in ast.walk(node.type)} if node.type else {"Exception"}
                everything = caught & {"Exception", "BaseException"}
                raises = any(isinstance(inner, ast.Raise) for inner in ast.walk(node))
                if (everything and not raises) or all(isinstance(inner, ast.Pass) for inner in node.body):
                    yield f"{module}:{node.lineno} swallows an exception"


BAD: dict[Rule, Modules] = {
    imports_are_absolute: {"psfbank.model": "from . import store"},
    packages_import_downwards: {"psfbank.blur": "def f():\n    from calib.capture import read"},
    psfbank_keeps_its_order: {"psfbank.arrays": "import psfbank.model"},
    no_import_cycles: {"calib.a": "from calib import b", "calib.b": "from calib.a import f"},
    heavy_libraries_have_one_home: {"calib.edge": "from matplotlib import pyplot"},
    only_commands_print: {"calib.edge": "print('found')"},
    modules_are_short: {"calib.edge": "x = 0\n" * (MAX_LINES + 1)},
    public_functions_say_what_they_do: {"calib.edge": "class Edge:\n    def angle(self):\n        return 0"},
    exceptions_are_not_swallowed: {"calib.edge": "try:\n    f()\nexcept (OSError, Exception):\n    x = 0"},
}
RULES = pytest.mark.parametrize("rule", BAD, ids=lambda rule: rule.__name__)


@RULES
def test_the_house_obeys(rule: Rule) -> None:
    modules = our_modules()

    assert {"cli", "psfbank.model", "calib.__main__"} <= set(modules)
    assert list(rule(modules)) == []


@RULES
def test_a_breach_is_seen(rule: Rule) -> None:
    assert len(list(rule(BAD[rule]))) == 1


def test_what_is_installed_is_what_is_imported() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    wanted = [*project["dependencies"], *(w for extra in AT_RUN_TIME for w in project["optional-dependencies"][extra])]
    names = [re.split(r"[<>=!~\[; ]", requirement)[0] for requirement in wanted]
    used = {i.name.split(".")[0] for source in our_modules().values() for i in imports(source)}

    assert {CALLED.get(name, name) for name in names} == used - set(sys.stdlib_module_names) - set(PACKAGES)


@pytest.mark.parametrize(
    ("rule", "module", "source"),
    [
        (packages_import_downwards, "psfbank.blur", "import cli"),
        (packages_import_downwards, "calib.capture", "import cli"),
        (psfbank_keeps_its_order, "psfbank.novelty", ""),
        (psfbank_keeps_its_order, "psfbank.store.reader", "def f():\n    from psfbank.bank import PsfBank"),
        (heavy_libraries_have_one_home, "psfbank.wavefront", "import lmfit"),
        (heavy_libraries_have_one_home, "calib.commandsx", "import typer"),
        (only_commands_print, "psfbank.blur", "import sys\nsys.stderr.write('hello')"),
        (exceptions_are_not_swallowed, "psfbank.blur", "try:\n    f()\nexcept KeyError:\n    pass"),
        (exceptions_are_not_swallowed, "psfbank.blur", "try:\n    f()\nexcept:\n    x = 0"),
    ],
)
def test_a_subtler_breach_is_seen(rule: Rule, module: str, source: str) -> None:
    assert len(list(rule({module: source}))) == 1


@pytest.mark.parametrize(
    ("rule", "module", "source"),
    [
        (packages_import_downwards, "calib.capture", "from psfbank.model import Capture"),
        (psfbank_keeps_its_order, "psfbank.model", "if TYPE_CHECKING:\n    from psfbank.bank import PsfBank"),
        (heavy_libraries_have_one_home, "psfbank.store.reader", "import h5py"),
        (only_commands_print, "calib.commands.info", "print('tiles')"),
        (
            exceptions_are_not_swallowed,
            "psfbank.store",
            "try:\n    f()\nexcept Exception as e:\n    raise OSError from e",
        ),
    ],
)
def test_what_is_allowed_is_not_refused(rule: Rule, module: str, source: str) -> None:
    assert list(rule({module: source})) == []
