"""Figures look as they are meant to, whatever a user set for all figures of the process."""

from __future__ import annotations

import warnings

import matplotlib
import pytest
from matplotlib import pyplot

from blankcheck.figures.drawing import drawn
from blankcheck.figures.style import label, name_rows, panel, plain_style


def svg(names: list[str]) -> str:
    with plain_style():
        figure, axes = panel("How many")
        axes.barh(range(len(names)), [1.0] * len(names))
        axes.plot([0, 1], [0, 1], label=names[0])
        name_rows(axes, names)
        label(figure, axes, "share", "class")
        return drawn("any", figure).svg


PLAIN = svg(["one", "two"])
SETTINGS = {
    "LaTeX": {"text.usetex": True},
    "dark": {"axes.facecolor": "black", "text.color": "white", "lines.linewidth": 9.0},
    "fonts": {"font.family": ["serif"], "font.size": 30.0},
    "sizes": {"figure.dpi": 20.0, "savefig.bbox": "tight", "axes.linewidth": 7.0},
    "math": {"axes.formatter.use_mathtext": True, "mathtext.fontset": "cm"},
    "outlines": {"svg.fonttype": "path", "patch.force_edgecolor": True},
}


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=list(SETTINGS))
def test_settings_for_all_figures_change_none_of_ours(settings):
    with matplotlib.rc_context(settings):
        assert svg(["one", "two"]) == PLAIN
        assert all(matplotlib.rcParams[name] == value for name, value in settings.items())


def test_a_style_changes_none_of_ours():
    with pyplot.style.context("dark_background"):
        assert svg(["one", "two"]) == PLAIN


@pytest.mark.parametrize(
    "name",
    ["零一二", "ゼロ", "영일", "शून्य", "صفر", "\N{ROCKET} rocket", "๐๑", "ὀκτώ", "$x_1$", "<b>"],
)
def test_names_in_any_script_stand_in_a_figure_as_text(name, capfd):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        shown = svg([name, "other"])
    words = name.replace("<", "&lt;").replace(">", "&gt;")
    assert words in shown and "font-family:system-ui" in shown and capfd.readouterr() == ("", "")
