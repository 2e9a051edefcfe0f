"""What is published works where there is nothing but it and its dependencies."""

from __future__ import annotations

import os
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

import blankcheck as bc

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.slow


def run(*words: object, cwd: Path) -> str:
    clean = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV")}
    made = subprocess.run(
        list(map(str, words)), capture_output=True, text=True, cwd=cwd, env=clean, timeout=300
    )
    assert made.returncode == 0, made.stdout + made.stderr
    return made.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    pytest.importorskip("hatchling")
    where = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "hatchling", "build", "-d", str(where), "-t", "wheel"]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (made,) = where.glob("*.whl")
    return made


def test_a_wheel_holds_the_package_and_nothing_else(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    source = ROOT / "src"
    package = {
        path.relative_to(source).as_posix()
        for path in (source / "blankcheck").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert {n for n in names if ".dist-info/" not in n} == package
    assert wheel.name == f"blankcheck-{bc.__version__}-py3-none-any.whl"


def test_a_wheel_works_in_an_empty_environment(wheel, tmp_path):
    """The dependencies are lent by the environment of the tests; blankcheck itself is not there."""
    venv.create(tmp_path / "empty", with_pip=False)
    scripts = tmp_path / "empty" / ("Scripts" if os.name == "nt" else "bin")
    python = scripts / "python"
    ask = "import sysconfig; print(sysconfig.get_path('purelib'))"
    site = Path(run(python, "-c", ask, cwd=tmp_path).strip())
    install = ("-m", "pip", "--python", python, "install", "--no-index", "--no-deps", wheel)
    run(sys.executable, *install, cwd=tmp_path)
    (site / "lent.pth").write_text(run(sys.executable, "-c", ask, cwd=tmp_path))
    command = scripts / "blankcheck"
    assert bc.__version__ in run(command, "--version", cwd=tmp_path)
    where = run(python, "-c", "import blankcheck; print(blankcheck.__file__)", cwd=tmp_path)
    assert Path(where.strip()).is_relative_to(site)
    train = ("train", "--data", "digits", "--epochs", "1", "--quiet", "--out", "runs/plain")
    said = run(command, *train, cwd=tmp_path)
    assert said.splitlines()[-1] == "runs/plain/report.html" or os.name == "nt"
    page = (tmp_path / "runs/plain/report.html").read_text(encoding="utf-8")
    assert page.rstrip().endswith("</html>"), "the page's templates came along"
