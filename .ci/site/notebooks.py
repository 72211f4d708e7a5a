"""The notebooks as pages, executed, with what they print and draw."""

import os
import sys
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbconvert.exporters import MarkdownExporter

__all__ = ["write"]


def write(source: Path, target: Path, run: bool) -> None:
    """Write every notebook of a folder as Markdown with its pictures.

    Args:
        source: Folder of the notebooks.
        target: Folder of the pages.
        run: Whether to execute them first; else the pages show the code alone.
    """
    target.mkdir(parents=True, exist_ok=True)
    for file in sorted(source.glob("*.ipynb")):
        notebook = nbformat.read(file, as_version=4)
        if run:
            _execute(notebook)
        text, resources = MarkdownExporter().from_notebook_node(notebook)
        pictures = target / file.stem
        pictures.mkdir(exist_ok=True)
        for name, data in resources["outputs"].items():
            (pictures / name).write_bytes(data)
            text = text.replace(f"({name})", f"({file.stem}/{name})")
        (target / f"{file.stem}.md").write_text(text)
        (target / file.name).write_bytes(file.read_bytes())


def _execute(notebook: nbformat.NotebookNode) -> None:
    """Run all cells in an empty folder, in which `clgym` is this environment's."""
    scripts = str(Path(sys.executable).parent)
    with tempfile.TemporaryDirectory() as empty:
        os.environ["PATH"] = f"{scripts}{os.pathsep}{os.environ['PATH']}"
        where = {"metadata": {"path": empty}}
        NotebookClient(notebook, timeout=600, resources=where).execute()
