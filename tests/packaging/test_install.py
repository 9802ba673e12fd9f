"""Builds the distribution as a release would and installs it as a user would."""

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

pytestmark = [pytest.mark.packaging, pytest.mark.timeout(300)]

ROOT = Path(__file__).resolve().parents[2]
FILES = ("CHANGELOG.md", "LICENSE", "MANIFEST.in", "README.md", "pyproject.toml", "setup.py")
FOLDERS = ("bench", "engine", "native")
WINDOWS = os.name == "nt"
PIP_OPTIONS = ("--quiet", "--disable-pip-version-check")
ROUND_TRIP = """
import sys
from prismq import TaskQueue

driver = sys.argv[1]
with TaskQueue("queue.db", driver=driver) as queue:
    task_id = queue.enqueue("greet", {"name": "Ada"})
    task = queue.claim("worker")
    assert task is not None and task.id == task_id, task
    queue.complete(task)
    assert queue.get(task_id).status == "completed", queue.get(task_id)
with TaskQueue("queue.db") as queue:
    print(queue.driver_name)
"""


def run(*command: object, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command that must succeed; what it said is in the failure."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("PRISMQ_", "PYTHON"))}
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env=inherited | environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        errors="replace",
    )
    assert done.returncode == 0, f"{command} failed:\n{done.stdout}\n{done.stderr}"
    return done


def no_compiler(folder: Path) -> dict[str, str]:
    """The environment in which setuptools finds no compiler: neither by name nor, on Windows, through Visual Studio."""
    nowhere = str(folder / "nowhere")
    return {"CC": nowhere, "CXX": nowhere, "PROGRAMFILES": nowhere, "PROGRAMFILES(X86)": nowhere}


def build_wheel(source: Path, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Build with the setuptools and cffi of this environment, which saves installing them once more."""
    command = ("-m", "build", "--wheel", "--no-isolation", "--outdir", folder, source)
    return run(sys.executable, *command, cwd=source, **environment)


def only_wheel(folder: Path) -> Path:
    (wheel,) = folder.glob("*.whl")
    return wheel


def assert_pure_python(wheel: Path) -> None:
    assert wheel.name.endswith("-py3-none-any.whl")
    assert not [name for name in zipfile.ZipFile(wheel).namelist() if name.endswith((".so", ".pyd"))]


def interpreter_of(version: str) -> str:
    """A CPython of that version: this one, one on the PATH or one of pyenv's; skips the test when there is none."""
    candidates = [sys.executable, shutil.which(f"python{version}")]
    if pyenv := os.environ.get("PYENV_ROOT"):
        candidates += map(str, Path(pyenv, "versions").glob(f"{version}.*/bin/python"))
    for candidate in filter(None, candidates):
        # A name on the PATH may be the shim of a version that isn't active, so ask.
        asked = (candidate, "-c", "import sys; print('%d.%d' % sys.version_info[:2])")
        answer = subprocess.run(asked, capture_output=True, text=True)
        if answer.returncode == 0 and answer.stdout.strip() == version:
            return candidate
    pytest.skip(f"there is no Python {version} here")


def unpack(sdist: Path, folder: Path) -> Path:
    with tarfile.open(sdist) as archive:
        archive.extractall(folder, filter="data")
    return folder / sdist.name.removesuffix(".tar.gz")


@pytest.fixture(scope="session")
def source_tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tree as a clean clone has it: nothing built, nothing of it shared with the checkout."""
    tree = tmp_path_factory.mktemp("source") / "prismq"
    tree.mkdir()
    ignored = shutil.ignore_patterns("__pycache__", "*.egg-info", "*.so", "*.pyd")
    for name in FILES:
        shutil.copy2(ROOT / name, tree)
    for name in FOLDERS:
        shutil.copytree(ROOT / name, tree / name, ignore=ignored)
    return tree


@pytest.fixture(scope="session")
def sdist(source_tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sdist")
    run(sys.executable, "-m", "build", "--sdist", "--outdir", folder, source_tree, cwd=source_tree)
    (archive,) = folder.glob("*.tar.gz")
    return archive


@pytest.fixture
def unpacked(sdist: Path, tmp_path: Path) -> Path:
    return unpack(sdist, tmp_path)


@pytest.fixture(scope="session")
def wheel(sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    build_wheel(unpack(sdist, folder), folder / "dist", PRISMQ_REQUIRE_NATIVE="1")
    return only_wheel(folder / "dist")


def new_environment(interpreter: str, folder: Path) -> Path:
    """A new virtual environment's interpreter."""
    run(interpreter, "-m", "venv", folder / "venv", cwd=folder)
    return folder / "venv" / ("Scripts/python.exe" if WINDOWS else "bin/python")


def test_the_wheel_serves_every_supported_python(wheel: Path) -> None:
    name, version, python, abi, _platform = wheel.stem.split("-")
    assert (name, version, python, abi) == ("prismq", "0.1.0", "cp311", "abi3")


def test_the_wheel_holds_the_whole_package_and_nothing_else(wheel: Path, source_tree: Path) -> None:
    source = source_tree / "engine"
    expected = {path.relative_to(source).as_posix() for path in (source / "prismq").rglob("*") if path.is_file()}
    packed = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    compiled = {name for name in packed if name.startswith("prismq/_native.") and name.endswith((".so", ".pyd"))}
    assert len(compiled) == 1
    assert packed - compiled == expected


@pytest.mark.parametrize("version", ["3.11", "3.12", "3.13"])
def test_the_one_wheel_runs_the_native_driver_on(version: str, wheel: Path, tmp_path: Path) -> None:
    python = new_environment(interpreter_of(version), tmp_path)
    run(python, "-m", "pip", "install", *PIP_OPTIONS, wheel, cwd=tmp_path)
    assert run(python, "-c", ROUND_TRIP, "native", cwd=tmp_path).stdout.split() == ["native"]


def test_an_editable_install_runs_the_native_driver(unpacked: Path, tmp_path: Path) -> None:
    python = new_environment(sys.executable, tmp_path)
    run(python, "-m", "pip", "install", *PIP_OPTIONS, "--editable", unpacked, cwd=tmp_path, PRISMQ_REQUIRE_NATIVE="1")
    assert run(python, "-c", ROUND_TRIP, "native", cwd=tmp_path).stdout.split() == ["native"]


def test_without_a_compiler_it_installs_and_runs_the_python_driver(sdist: Path, tmp_path: Path) -> None:
    python = new_environment(sys.executable, tmp_path)
    install = ("-m", "pip", "install", *PIP_OPTIONS, "--no-cache-dir", sdist)
    run(python, *install, cwd=tmp_path, **no_compiler(tmp_path))
    assert run(python, "-c", ROUND_TRIP, "python", cwd=tmp_path).stdout.split() == ["python"]


def test_a_build_without_a_compiler_says_so_once_and_is_pure_python(unpacked: Path, tmp_path: Path) -> None:
    built = build_wheel(unpacked, tmp_path / "dist", **no_compiler(tmp_path))
    assert (built.stdout + built.stderr).count("prismq: no C compiler, installing the pure-Python driver") == 1
    assert_pure_python(only_wheel(tmp_path / "dist"))


def test_a_build_told_to_leave_the_module_out_is_pure_python(unpacked: Path, tmp_path: Path) -> None:
    build_wheel(unpacked, tmp_path / "dist", PRISMQ_NO_NATIVE="1")
    assert_pure_python(only_wheel(tmp_path / "dist"))


def test_a_failed_build_leaves_no_module_of_an_earlier_one_behind(unpacked: Path, tmp_path: Path) -> None:
    build_wheel(unpacked, tmp_path / "native", PRISMQ_REQUIRE_NATIVE="1")
    with next((unpacked / "native").glob("*.c")).open("a", encoding="utf-8") as source:
        source.write("\n#error this source does not compile\n")
    build_wheel(unpacked, tmp_path / "pure")
    assert_pure_python(only_wheel(tmp_path / "pure"))


def test_a_required_module_that_cannot_be_built_is_an_error(unpacked: Path, tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="failed"):
        build_wheel(unpacked, tmp_path / "dist", PRISMQ_REQUIRE_NATIVE="1", **no_compiler(tmp_path))
