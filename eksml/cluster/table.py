"""Plain tables for terminals and notebooks, and how numbers are written in them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

Row = Sequence[str]


def table(titles: Row, rows: Iterable[Row], *, numbers: Collection[str] = ()) -> str:
    """Columns as wide as they must be; those named in ``numbers`` stand to the right."""
    lines = [tuple(titles), *(tuple(row) for row in rows)]
    widths = [max(len(cell) for cell in column) for column in zip(*lines, strict=True)]
    right = [title in numbers for title in titles]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if number else cell.ljust(width)
            for cell, width, number in zip(line, widths, right, strict=True)
        ).rstrip()
        for line in lines
    )


def html_table(titles: Row, rows: Iterable[Row], *, numbers: Collection[str] = ()) -> str:
    """The same as an HTML table; every cell is escaped."""
    styles = ["right" if title in numbers else "left" for title in titles]

    def line(cells: Row, tag: str) -> str:
        made = (
            f'<{tag} style="text-align:{style}">{escaped(cell)}</{tag}>'
            for cell, style in zip(cells, styles, strict=True)
        )
        return f"<tr>{''.join(made)}</tr>"

    body = "".join(line(row, "td") for row in rows)
    return f"<table><thead>{line(titles, 'th')}</thead><tbody>{body}</tbody></table>"


def escaped(text: str) -> str:
    """Text that is safe inside HTML."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def money(usd: float) -> str:
    """``$1,234.56``; fractions of a cent are kept for what costs less than a cent."""
    return f"${usd:,.2f}" if usd >= 0.01 or usd == 0 else f"${usd:.4f}"


def span(numbers: Sequence[float]) -> str:
    """``0–4`` of several numbers, or the number alone where they are equal."""
    low, high = min(numbers), max(numbers)
    return f"{low:,}" if low == high else f"{low:,}–{high:,}"


def amount_of_memory(size: float) -> str:
    """``1.8Ti``, ``16.5Gi``, ``373Gi``."""
    for unit, factor in (("Ti", 1024**4), ("Gi", 1024**3), ("Mi", 1024**2)):
        if size >= factor:
            value = size / factor
            return f"{value:.0f}{unit}" if value >= 100 else f"{round(value, 1):g}{unit}"
    return f"{size:.0f}"


def counted(number: int, noun: str) -> str:
    """``1 node``, ``2 nodes``."""
    return f"{number:,} {noun}" + ("" if number == 1 else "s")
