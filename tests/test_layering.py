"""The import rule, checked: a module imports only from lower levels, a third party has one home."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import epam_extract

PACKAGE = Path(epam_extract.__file__).parent
FLOORS = [
    "cli preview verify",
    "cluster report bench",
    "pipeline",
    "exchange",
    "store clips",
    "video pose model progress heatmaps windows demo",
    "records schema",
    "config",
    "options",
    "errors",
]
"""From the top: a room needs only what is on a floor below its own."""
FLOOR = {room: -floor for floor, rooms in enumerate(FLOORS) for room in rooms.split()}
HOMES = {
    "av": {"video", "bench"},
    "decord": {"video", "bench"},  # the baseline of bench is a plain script, with all it uses
    "rtmlib": {"pose", "bench"},
    "onnxruntime": {"pose", "bench"},
    "h5py": {"store", "bench"},
    "typer": {"cli"},
    "rich": {"progress", "cli"},
    "tqdm": {"progress"},
    "onnx": set(),  # for tests and for training the bundled model
    "pyarrow": {"exchange"},
    "jinja2": {"report"},
    "sklearn": {"exchange"},
    "ray": {"cluster"},
    "fsspec": {"video"},
    "aiohttp": {"video"},
}
FILES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


def top(path: Path) -> str:
    """The module or subpackage of epam_extract that a file belongs to."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(path: Path) -> tuple[set[str], set[str]]:
    """(modules of ours, third-party packages) imported anywhere in a file."""
    ours: set[str] = set()
    others: set[str] = set()
    inside = len(path.relative_to(PACKAGE).parts)
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level:
            names = [node.module] if node.module else [alias.name for alias in node.names]
            if node.level == inside:  # reaches the package itself
                ours.update(name.split(".")[0] for name in names if name)
        elif isinstance(node, ast.ImportFrom) and node.module:
            others.add(node.module.split(".")[0])
        elif isinstance(node, ast.Import):
            others.update(alias.name.split(".")[0] for alias in node.names)
    return ours - {"__version__"}, others


def test_every_module_has_its_place() -> None:
    assert {top(path) for path in FILES} == set(FLOOR)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_downwards(path: Path) -> None:
    room = top(path)
    ours, others = imports(path)
    for name in ours - {room}:
        assert FLOOR[name] < FLOOR[room], f"{path} imports {name}"
    for package in others & set(HOMES):
        assert room in HOMES[package], f"{package} is imported in {path}"


def test_the_network_needs_torch_alone() -> None:
    ours, others = set(), set()
    for path in (PACKAGE / "model").glob("*.py"):
        mine, theirs = imports(path)
        ours |= mine
        others |= theirs
    assert ours <= {"errors"}
    # the others are optional: formats of checkpoints
    assert others - set(sys.stdlib_module_names) <= {"torch", "safetensors", "numpy"}


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys, epam_extract.cli\n"
        "print([name for name in ('torch', 'cv2', 'av', 'decord', 'rtmlib', 'onnxruntime', 'h5py')"
        " if name in sys.modules])"
    )
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert loaded.stdout.strip() == "[]"
