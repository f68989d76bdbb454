"""The notebook runs from top to bottom, and plan, run and evaluation show themselves."""

import ast
import json
from pathlib import Path

import pytest
from PIL import Image

ROOT = Path(__file__).parents[1]


def shown(code: str, namespace: dict[str, object]) -> object:
    """Run a cell and return what a notebook would show: the value of the last line, if it is an expression."""
    tree = ast.parse(code)
    last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, "cell", "exec"), namespace)
    return None if last is None else eval(compile(ast.Expression(last.value), "cell", "eval"), namespace)


def test_the_notebook_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    notebook = json.loads((ROOT / "examples" / "notebook.ipynb").read_text(encoding="utf-8"))
    assert notebook["nbformat"] == 4
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, object] = {}
    cells = ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert all(not cell.get("outputs") for cell in notebook["cells"])
    values = [shown(cell, namespace) for cell in cells]
    html = [value._repr_html_() for value in values if hasattr(value, "_repr_html_")]
    assert len(html) == 3
    run, evaluation, plan = html
    assert "<td>training classes</td><td>48</td>" in run
    assert all(f"<td>{name}</td><td>" in evaluation for name in ("pixels", "untrained", "trained"))
    assert plan.count("<tr>") == 6
    pictures = [value for value in values if isinstance(value, Image.Image)]
    assert [picture.size for picture in pictures] == [(288, 96)]
