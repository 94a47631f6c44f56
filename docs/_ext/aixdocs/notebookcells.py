"""Cells of a page's notebook: its prose, and its executed code without what only the site knows."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator

from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell

from aiexplained.viz.html import CLAIMS_MIME, FIGURE_MIME


def merged(executed: NotebookNode, prose: Iterable[str | int]) -> Iterator[NotebookNode]:
    """Cells of the notebook: the page's prose, and at their places all code cells of ``executed``.

    A code cell that left no trace in the page comes right before the next one that did.
    """
    code = (i for i, cell in enumerate(executed.cells) if cell.cell_type == "code")
    waiting = deque(enumerate(code, start=1))
    for piece in prose:
        if isinstance(piece, str):
            yield new_markdown_cell(piece)
            continue
        while waiting and waiting[0][1] <= piece:
            count, index = waiting.popleft()
            yield portable(executed.cells[index], count)
    for count, index in waiting:
        yield portable(executed.cells[index], count)


def portable(cell: NotebookNode, count: int) -> NotebookNode:
    """The code cell without what only this site understands, numbered as if just executed.

    Code that the page removes is collapsed; outputs that it removes, or only glues into sentences,
    are left out.
    """
    tags = cell.metadata.get("tags", [])
    names = {tag.replace("_", "-") for tag in tags}
    metadata = {"tags": tags} if tags else {}
    if names & {"remove-cell", "remove-input"}:
        metadata["jupyter"] = {"source_hidden": True}
    outputs = [o for o in cell.outputs if "scrapbook" not in o.get("metadata", {})]
    for output in outputs:
        for mime in (FIGURE_MIME, CLAIMS_MIME):
            output.get("data", {}).pop(mime, None)
        if output.output_type == "execute_result":
            output.execution_count = count
    if names & {"remove-cell", "remove-output"}:
        outputs = []
    return new_code_cell(cell.source, metadata=metadata, outputs=outputs, execution_count=count)
