"""The arrows of the house: a module imports only from rows above its own (docs/architecture.md)."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from segkit.commands import COMMANDS

REPOSITORY = Path(__file__).resolve().parent.parent
PACKAGE = REPOSITORY / "segkit"
ROWS = [
    "errors",
    "labels",
    "contract",
    "config",
    "entries",
    "runs",
    "video",
    "engines",
    "client",
    "data",
    "models",
    "evaluation",
    "training",
    "export",
    "serving",
    "commands",
    "__main__",
]
NO_TENSORFLOW = ("video", "client")
SCRIPTS = sorted(
    path.relative_to(REPOSITORY).as_posix()
    for folder in (REPOSITORY, REPOSITORY / "data_augmentation")
    for path in folder.glob("*.py")
)
MODULES = {
    ".".join(path.relative_to(REPOSITORY).with_suffix("").parts).removesuffix(".__init__"): path
    for path in PACKAGE.rglob("*.py")
}


def imports(path: Path, *, everywhere: bool) -> Iterator[str]:
    """Names of the modules that a file imports; those inside functions only if `everywhere`."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in _statements(tree, everywhere):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            module = node.module or ""
            for alias in node.names:
                whole = f"{module}.{alias.name}"
                yield whole if whole in MODULES else module


def _statements(node: ast.AST, everywhere: bool) -> Iterator[ast.AST]:
    for child in ast.iter_child_nodes(node):
        if not everywhere:
            if isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef)):
                continue
            if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
                continue
        yield child
        yield from _statements(child, everywhere)


def row(module: str) -> int:
    return ROWS.index(module.split(".")[1])


def own_imports(module: str, *, everywhere: bool) -> list[str]:
    found = imports(MODULES[module], everywhere=everywhere)
    return [name for name in found if name.startswith("segkit.")]


@pytest.mark.parametrize("module", [name for name in MODULES if name != "segkit"])
def test_imports_point_upwards(module: str) -> None:
    for name in own_imports(module, everywhere=True):
        same_package = name.split(".")[1] == module.split(".")[1]
        assert same_package or row(name) < row(module), f"{module} imports {name}"


def test_every_part_of_the_house_has_a_row() -> None:
    assert {name.split(".")[1] for name in MODULES if name != "segkit"} <= set(ROWS)


def test_there_is_no_circle() -> None:
    done: set[str] = set()

    def visit(module: str, path: tuple[str, ...]) -> None:
        assert module not in path, " -> ".join((*path, module))
        if module not in done:
            for name in own_imports(module, everywhere=False):
                if name != module:
                    visit(name, (*path, module))
            done.add(module)

    for module in MODULES:
        visit(module, ())


@pytest.mark.parametrize("part", NO_TENSORFLOW)
def test_video_and_client_never_name_tensorflow(part: str) -> None:
    for module, path in MODULES.items():
        if module.startswith(f"segkit.{part}"):
            for name in imports(path, everywhere=True):
                assert not name.startswith(("tensorflow", "keras")), f"{module} imports {name}"


@pytest.mark.parametrize("part", NO_TENSORFLOW)
def test_video_and_client_never_reach_tensorflow(part: str) -> None:
    modules = [name for name in MODULES if name.split(".")[1:2] == [part]]
    assert modules
    code = f"import sys, {', '.join(modules)}; sys.exit('tensorflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY).returncode == 0


@pytest.mark.parametrize("command", COMMANDS)
def test_help_answers_before_anything_heavy_is_imported(command: str) -> None:
    code = (
        "import sys; from segkit.__main__ import main\n"
        f"try: main([{command!r}, '--help'])\n"
        "except SystemExit as err: assert not err.code\n"
        "heavy = {'tensorflow', 'cv2', 'av', 'grpc', 'matplotlib'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    reply = subprocess.run(
        [sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True
    )
    assert reply.returncode == 0, reply.stderr
    assert "usage: segkit" in reply.stdout


@pytest.mark.parametrize("script", SCRIPTS)
def test_scripts_hold_no_logic(script: str) -> None:
    """A script hands its flags to a command; the sample is meant to be read and copied."""
    if script == "tf_serving_sample.py":
        pytest.skip("a sample of the client, not a command")
    tree = ast.parse((REPOSITORY / script).read_text(encoding="utf-8"))
    assert not any(isinstance(node, (ast.FunctionDef, ast.ClassDef)) for node in ast.walk(tree))


@pytest.mark.parametrize("module", MODULES)
def test_all_lists_every_public_name_in_order(module: str) -> None:
    tree = ast.parse(MODULES[module].read_text(encoding="utf-8"))
    defined = [
        node.name
        for node in tree.body
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and not node.name.startswith("_")
    ]
    values = [
        ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"
    ]
    listed = values[0] if values else []
    assert listed == sorted(listed, key=lambda name: (not name.isupper(), name))
    assert set(defined) <= set(listed), set(defined) - set(listed)


@pytest.mark.parametrize("module", MODULES)
def test_no_file_is_longer_than_400_lines(module: str) -> None:
    if module.endswith("_pb2"):
        pytest.skip("generated")
    assert len(MODULES[module].read_text(encoding="utf-8").splitlines()) <= 400
