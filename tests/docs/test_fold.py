"""A folded part holds everything after its mark, cells included, and nothing else."""

from __future__ import annotations

from pathlib import Path

from bs4 import BeautifulSoup
from tiny import Site, notebook

TEXT = """Before.

## Read next

In sight.

```{folded} Appendix: the *long* tail
```

Out of sight.
"""


def test_cells_and_text_after_the_mark_are_folded(tmp_path: Path) -> None:
    site = Site(tmp_path)
    page = notebook("print('from a cell')", text=TEXT) + "\n## Another section\n\nIn sight again.\n"
    site.write("docs/pages/p.md", page)
    built = site.build()
    assert built.warnings == ""
    html = BeautifulSoup(built.html("pages/p"), "html.parser")
    (fold,) = html.find_all("details", class_="aix-folded")
    assert fold.summary.get_text() == "Appendix: the *long* tail"
    text = fold.get_text()
    assert "Out of sight." in text
    assert "from a cell" in text
    assert "In sight" not in text
    assert not fold.has_attr("open")
