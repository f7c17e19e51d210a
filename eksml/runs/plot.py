"""The losses of a run as a figure."""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING

from eksml.errors import MissingExtra
from eksml.runs.display import in_notebook

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


def losses(name: str, metrics: pd.DataFrame, path: str | os.PathLike[str] | None = None) -> Figure:
    """Every metric with ``loss`` in its name over the steps, else every number.

    Raises:
        MissingExtra: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtra("Plots need matplotlib: pip install 'eksml[plot]'") from error
    numbers = metrics.select_dtypes("number").drop(columns="time_s", errors="ignore")
    chosen = [column for column in numbers.columns if "loss" in column] or list(numbers.columns)
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    for column in chosen:
        values = numbers[column].dropna()
        axes.plot(values.index, values, label=column, linewidth=1.2)
    axes.set(title=name, xlabel="step", ylabel="loss" if len(chosen) == 1 else "")
    axes.grid(alpha=0.3)
    if len(chosen) > 1:
        axes.legend()
    if path is not None:
        figure.savefig(path, dpi=150)
    if in_notebook():  # else only figures of pyplot are drawn there
        importlib.import_module("matplotlib_inline.backend_inline").set_matplotlib_formats("png")
    return figure
