"""The notebooks as pages, executed, with what they print and draw."""

import os
import sys
import tempfile
from pathlib import Path
from unittest.mock import patch

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
    with tempfile.TemporaryDirectory() as empty, tempfile.TemporaryDirectory() as tools:
        command = Path(tools, "clgym")
        command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m clgym "$@"\n')
        command.chmod(0o755)
        where = {"metadata": {"path": empty}}
        with patch.dict(os.environ, PATH=f"{tools}{os.pathsep}{os.environ['PATH']}"):
            NotebookClient(notebook, timeout=600, resources=where).execute()
