"""Images, sound and documents: what becomes of one file."""

from __future__ import annotations

import io
import random
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from source_files import everything

from eksml.batches.blocks import ERROR
from eksml.batches.sources import audio, documents, images
from eksml.batches.sources.chunks import chunks
from eksml.batches.sources.markup import text_of


def test_images_of_one_size_are_one_array(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 255, (5, 7, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes(b"no image")
    Image.fromarray(pixels[:, :, 0]).resize((70, 50)).save(tmp_path / "c.jpg")
    column = everything(images(tmp_path, size=(5, 7)))["image"].combine_chunks()
    assert column.null_count == 1
    flat = column.take([0, 2]).flatten().flatten().flatten()
    array = flat.to_numpy(zero_copy_only=True).reshape(2, 5, 7, 3)
    assert (array[0] == pixels).all()
    assert (array[1, :, :, 0] == array[1, :, :, 1]).all()


@pytest.mark.parametrize(("mode", "channels"), [("L", 1), ("RGB", 3), ("RGBA", 4)])
def test_images_of_their_own_sizes_are_arrays_without_a_copy(tmp_path, mode, channels) -> None:
    sizes = [(3, 8), (6, 2)]
    for index, (height, width) in enumerate(sizes):
        Image.new(mode, (width, height), tuple(range(index + 1, index + 1 + channels))).save(
            tmp_path / f"{index}.png"
        )
    rows = everything(images(tmp_path, mode=mode))["image"]
    for index, (row, (height, width)) in enumerate(zip(rows, sizes, strict=True)):
        flat = row.values.flatten().flatten().to_numpy(zero_copy_only=True)
        array = flat.reshape(len(row), -1, channels)
        assert array.shape == (height, width, channels)
        assert (array == np.arange(index + 1, index + 1 + channels)).all()


@pytest.mark.parametrize(
    ("rate_hz", "wanted_hz"), [(16_000, 8_000), (8_000, 16_000), (44_100, 16_000)]
)
def test_sound_keeps_its_tone_at_another_rate(tmp_path: Path, rate_hz: int, wanted_hz: int) -> None:
    def tone(hz: int) -> np.ndarray:
        return 0.5 * np.sin(2 * np.pi * 440 * np.arange(hz) / hz)

    both = np.stack([tone(rate_hz) * 1.5, tone(rate_hz) * 0.5], axis=1)
    soundfile.write(tmp_path / "a.flac", both, rate_hz)
    (row,) = everything(audio(tmp_path, rate_hz=wanted_hz)).to_pylist()
    assert row["rate_hz"] == wanted_hz
    assert np.abs(np.array(row["audio"]) - tone(wanted_hz)).max() < 1e-3


def test_what_a_lower_rate_cannot_hold_is_left_out(tmp_path: Path) -> None:
    high = np.sin(2 * np.pi * 7_000 * np.arange(16_000) / 16_000)
    soundfile.write(tmp_path / "a.wav", high, 16_000)
    (row,) = everything(audio(tmp_path, rate_hz=8_000)).to_pylist()
    assert np.abs(row["audio"]).max() < 1e-3


def test_pages_of_a_pdf_are_rows_and_empty_ones_are_not(tmp_path: Path) -> None:
    from pypdf import PdfReader, PdfWriter
    from test_source_kinds import PDF

    page, writer = PdfReader(io.BytesIO(PDF)).pages[0], PdfWriter()
    writer.add_page(page)
    writer.add_blank_page(200, 200)
    writer.add_page(page)
    writer.write(tmp_path / "a.pdf")
    writer.encrypt("secret")
    writer.write(tmp_path / "b.pdf")
    blank = PdfWriter()
    blank.add_blank_page(200, 200)
    blank.write(tmp_path / "c.pdf")
    rows = everything(documents(tmp_path)).to_pylist()
    assert [(row["page"], row["chunk"], row["text"]) for row in rows[:2]] == [
        (1, 0, "Hello page"),
        (3, 1, "Hello page"),
    ]
    assert "decrypted" in rows[2][ERROR]
    assert "scanned pages" in rows[3][ERROR]


def test_a_page_is_the_text_that_a_reader_sees() -> None:
    page = (
        "<html><head><title>No</title><style>no{}</style><body><h1>A &amp; B</h1>"
        "<script>no()</script><p>one\n two<br>three<p>four<ul><li>x<li>y</ul>"
        "<table><tr><td>1<td>2<tr><td>3</table><svg><text>no</text></svg><noscript>no</noscript>"
    )
    assert text_of(page.encode()) == "A & B\n\none two\nthree\n\nfour\n\nx\ny\n\n1 2\n3"
    assert text_of("<meta charset=latin-1><p>caf\xe9".encode("latin-1")) == "caf\xe9"
    assert text_of("<p>caf\xe9 \u20ac".encode("cp1252")) == "caf\xe9 \u20ac"
    assert text_of("<p>caf\xe9".encode()) == "caf\xe9"


@given(st.text("ab .\n", max_size=300), st.integers(16, 60), st.integers(0, 8))
def test_chunks_hold_all_of_a_text_and_none_is_too_long(
    text: str, limit: int, overlap: int
) -> None:
    parts = list(chunks(text, limit, overlap))
    assert all(0 < len(part) <= limit and part == part.strip() for part in parts)
    if not overlap:
        assert "".join("".join(parts).split()) == "".join(text.split())
    at = 0
    for part in parts:
        found = text.find(part, max(0, at - overlap))
        assert found >= 0
        assert not text[at:found].strip()
        at = max(at, found + len(part))
    assert not text[at:].strip()


def test_chunks_end_with_paragraphs_or_sentences_where_they_can() -> None:
    words = random.Random(0)
    sentences = ["word " * words.randrange(2, 9) + "end." for _ in range(200)]
    text = "\n\n".join(" ".join(sentences[index : index + 5]) for index in range(0, 200, 5))
    parts = list(chunks(text, 200, 20))
    assert all(part.endswith("end.") for part in parts)
    assert max(map(len, parts)) <= 200
    assert next(chunks("x" * 50, 20)) == "x" * 20


def test_chunks_of_a_document_are_numbered(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text("One sentence here. " * 50)
    rows = everything(documents(tmp_path, chunk_chars=100, overlap_chars=20)).to_pylist()
    assert [row["chunk"] for row in rows] == list(range(len(rows)))
    assert len(rows) > 9
    assert all(row["text"].endswith(".") for row in rows)
