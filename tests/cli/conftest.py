import pytest
from markupsafe import Markup
from matplotlib.figure import Figure

from mohs.report import plots, result_plots


def named(figure: Figure, figure_id: str, title: str, facts: str) -> Markup:
    """Return an empty picture of the same name and description."""
    return Markup('<svg id="{}"><title>{}</title><desc>{}</desc></svg>').format(figure_id, title, facts)


@pytest.fixture(autouse=True)
def plots_not_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave plots empty: a page of them takes seconds to draw. The snippets of the documentation draw theirs."""
    for module in (plots, result_plots):
        monkeypatch.setattr(module, "svg_of", named)
