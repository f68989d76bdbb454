"""Words that a user meets: no sentence of help, settings, messages, README and guides has more than 30 words."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import typer.main

from mohs.cli import app
from mohs.report.words import METRIC_HEADER
from mohs.settings.reference import find_settings, sections

ROOT = Path(__file__).parents[1]
MOST_WORDS = 30
ERRORS = {"BadImagesError", "DataWarning", "Finding", "InputError", "Problem", "ResourceError", "TrainingError"}


def sentences(text: str) -> list[str]:
    """Return the sentences of a text; the parts of a message, "place: problem; fix", are read one by one, too."""
    return [part.strip() for part in re.split(r"(?<=[.!?;])\s|(?<=\.\))\s|\n\s*\n", text) if part.strip()]


def too_long(text: str) -> list[str]:
    return [part for part in sentences(text) if sum(any(map(str.isalnum, word)) for word in part.split()) > MOST_WORDS]


def helps(command: object, name: str) -> Iterator[tuple[str, str]]:
    yield name, (getattr(command, "help", "") or "").partition("\f")[0]
    for parameter in getattr(command, "params", ()):
        yield f"{name} {parameter.name}", getattr(parameter, "help", "") or ""
    for word, inner in getattr(command, "commands", {}).items():
        yield from helps(inner, f"{name} {word}")


def literal(node: ast.expr) -> str:
    """Return the text of a string, with one word for whatever is filled in; "" for what is none."""
    match node:
        case ast.Constant(value=str(text)):
            return text
        case ast.JoinedStr(values=values):
            return "".join(literal(value) for value in values)
        case ast.FormattedValue():
            return "X"
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            return literal(left) + literal(right)
    return ""


def messages(file: Path) -> Iterator[tuple[str, str]]:
    """Return the texts given to errors, problems and findings in a file, each with its place."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ERRORS:
            for given in [*node.args, *(keyword.value for keyword in node.keywords)]:
                yield f"{file.relative_to(ROOT)}:{given.lineno}", literal(given)


def prose(page: Path) -> str:
    """Return the paragraphs of a page without code, tables and addresses; an item of a list is a paragraph."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    text = re.sub(r"^\|.*$|<!--.*?-->", "", text, flags=re.MULTILINE)
    text = re.sub(r"\]\([^)]*\)", "]", text)
    return re.sub(r"^(#.*)$|^(?=- |\d+\. )", r"\n\1\n", text, flags=re.MULTILINE)


def told(texts: Iterator[tuple[str, str]]) -> list[str]:
    return [f"{place}: {part}" for place, text in texts for part in too_long(text)]


def test_what_is_too_long_is_found() -> None:
    words = " ".join(["word"] * MOST_WORDS)
    assert too_long(f"{words}. {words}; {words}\n\n{words}") == []
    assert too_long(f"{words} more. Short.") == [f"{words} more."]
    call = ast.parse(f'InputError(f"{{x}}: {words}" "more")').body[0]
    assert isinstance(call, ast.Expr)
    assert isinstance(call.value, ast.Call)
    assert len(too_long(literal(call.value.args[0]))) == 1


def test_help() -> None:
    texts = list(helps(typer.main.get_command(app), "mohs"))
    assert len(texts) > 150
    assert told(iter(texts)) == []


def test_settings() -> None:
    names = ["seed", "out", *sections()]
    found = [facts for name in names for facts in find_settings(name)]
    assert told((facts.name, text) for facts in found for _, text in facts.rows(None)) == []


def test_messages() -> None:
    texts = [text for file in (ROOT / "src").rglob("*.py") for text in messages(file)]
    assert len(texts) > 300
    assert told(iter(texts)) == []


def test_readme_guides_and_glossary() -> None:
    pages = [
        ROOT / "README.md",
        ROOT / "docs" / "glossary.md",
        ROOT / "docs" / "measured.md",
        ROOT / "docs" / "method.md",
    ]
    pages += sorted((ROOT / "docs" / "guides").glob("*.md"))
    assert told((page.name, prose(page)) for page in pages) == []


def test_every_term_of_the_glossary_is_used() -> None:
    glossary = ROOT / "docs" / "glossary.md"
    terms = re.findall(r"^- \*\*(.+?)\*\*", glossary.read_text(encoding="utf-8"), re.MULTILINE)
    assert terms == sorted(terms, key=str.lower)
    pages = [ROOT / "README.md", *(page for page in (ROOT / "docs").rglob("*.md") if page != glossary)]
    text = " ".join(" ".join(page.read_text(encoding="utf-8").lower().split()) for page in pages) + met_text()
    text += text.replace("-", " ")  # a cause of the doctor is written with hyphens
    assert [term for term in terms if term.lower() not in text] == []


# The field's terms, and Mohs's own. Those that a person meets in help, settings, messages or a report are explained.
TERMS = (
    "active", "anchor", "area under the ROC curve", "average precision", "backbone", "batch", "batch norm", "Brier",
    "budget",
    "calibration", "cap", "catalog", "checkpoint", "class", "clique", "closed loop", "collapse", "curve", "cycle",
    "distance", "early stopping", "embedder", "embedding", "epoch", "equal error rate", "false acceptance",
    "false negative", "false positive rate", "features", "fine-tuning", "gallery", "group", "guard", "hardness", "head",
    "held-out classes", "hubs", "index", "interval", "loss", "mAP", "MAP@R", "margin", "miner", "momentum encoder",
    "MRR", "Muon", "near-duplicate", "negative", "operating point", "optimiser", "pass", "plan", "Platt", "positive",
    "precision", "preset", "prevalence",
    "query",
    "R@1", "recall", "review list", "ROC", "run", "sample", "scale", "seed", "segment", "set aside", "shard",
    "similarity", "split", "spread", "strategy", "temperature", "test", "threshold", "Top-50", "triplet",
    "triplet accuracy", "true positive rate", "unseen classes", "validation", "verification", "warm-up", "weights",
)  # fmt: skip


def met_text() -> str:
    """Return all that help, settings, messages and reports say."""
    names = ["seed", "out", *sections()]
    parts = [text for _, text in helps(typer.main.get_command(app), "mohs")]
    parts += [text for name in names for facts in find_settings(name) for _, text in facts.rows(None)]
    parts += [text for file in (ROOT / "src").rglob("*.py") for _, text in messages(file)]
    parts += [
        file.read_text(encoding="utf-8") for file in (ROOT / "src" / "mohs" / "report").rglob("*") if file.is_file()
    ]
    return " ".join(" ".join(parts).lower().split())


def test_terms_that_a_person_meets_are_in_the_glossary() -> None:
    text = met_text() + (ROOT / "docs" / "guides" / "thresholds.md").read_text(encoding="utf-8").lower()
    glossary = (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8").lower()
    met = [term for term in TERMS if re.search(rf"\b{re.escape(term.lower())}", text)]
    assert len(met) > 70
    assert [term for term in met if not re.search(rf"\b{re.escape(term.lower())}", glossary)] == []


def test_columns_of_tables_are_in_the_glossary() -> None:
    glossary = (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8")
    names = {re.sub(r"[^A-Za-z@0-9].*", "", name) for name in METRIC_HEADER} - {"by", "95"}
    assert len(names) > 6
    assert [name for name in sorted(names) if name.lower() not in glossary.lower()] == []
