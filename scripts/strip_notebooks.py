"""Remove the outputs from notebooks/*.ipynb, as they are kept in the repository."""

from __future__ import annotations

from pathlib import Path

import nbformat


def main() -> None:
    """Rewrite each notebook that holds outputs."""
    for path in sorted((Path(__file__).parents[1] / "notebooks").glob("*.ipynb")):
        before = path.read_text(encoding="utf-8")
        notebook = nbformat.reads(before, as_version=4)
        for cell in notebook.cells:
            cell.metadata.pop("execution", None)
            if cell.cell_type == "code":
                cell.outputs, cell.execution_count = [], None
        after = nbformat.writes(notebook) + "\n"
        if after != before:
            path.write_text(after, encoding="utf-8")
            print(f"stripped {path.name}")


if __name__ == "__main__":
    main()
