"""A real vision model in a real vLLM on the CPU is asked about the pictures in a table."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from tiny_llm import tiny_llm, tiny_vision_llm

from eksml.batches.models import llm
from eksml.batches.models.llm_loaded import LoadedLLM
from eksml.batches.models.pictures import Pictures
from eksml.batches.models.prompts import Unaskable
from eksml.batches.sources import images
from eksml.errors import InvalidSpec
from eksml.storage import URI


def picture(shade: int, size: tuple[int, int] = (40, 30)) -> Image.Image:
    """A ramp of one colour, from dark to light."""
    ramp = np.linspace(0, 255, size[0] * size[1]).reshape(size[1], size[0])
    layers = [np.full_like(ramp, shade), ramp, 255 - ramp]
    return Image.fromarray(np.stack(layers, axis=-1).astype(np.uint8))


def encoded(image: Image.Image, form: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form)
    return buffer.getvalue()


def seen(column: pa.Array) -> list[Any]:
    """What is made of a column: arrays, reasons, None."""
    found = Pictures("photo").of(pa.table({"photo": column}))
    return [
        one.reason if isinstance(one, Unaskable) else None if one is None else np.asarray(one)
        for one in found
    ]


def test_a_picture_may_be_bytes_a_place_or_a_struct_of_both(root: URI) -> None:
    data = encoded(picture(9))
    (root / "a.png").write_bytes(data)
    place = str(root / "a.png")
    structs = [{"bytes": data, "path": None}, {"bytes": None, "path": place}]

    kinds = [
        pa.array([data]),
        pa.array([place]),
        pa.array(structs),
        pa.array([data], "large_binary"),
    ]

    for kind in kinds:
        assert Pictures("photo").problems(pa.schema([("photo", kind.type)])) == []
        for pixels in seen(kind):
            assert (pixels == np.asarray(picture(9))).all()


@pytest.mark.parametrize("size", [None, (20, 25)])
@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA"])
def test_a_picture_may_be_what_the_source_of_images_gives(
    tmp_path: Path, size: Any, mode: Any
) -> None:
    (tmp_path / "a.png").write_bytes(encoded(picture(9)))
    source = images(tmp_path, size=size, mode=mode)
    (piece,) = source.inventory().pieces
    column = source.read(piece)["image"].combine_chunks()

    (pixels,) = seen(pa.concat_arrays([column, column]).slice(1))

    expected = picture(9).convert(mode).convert("RGB")
    expected = expected.resize((size[1], size[0])) if size else expected
    assert pixels.shape == np.asarray(expected).shape
    assert np.abs(pixels.astype(int) - np.asarray(expected).astype(int)).max() <= 1


def test_what_is_no_picture_says_why_and_a_null_is_none(tmp_path: Path) -> None:
    text, nothing, void = seen(pa.array([b"no picture", None, b""]))
    assert text == (
        "Column 'photo' holds no picture: UnidentifiedImageError: cannot identify image file "
        "the file."
    )
    assert nothing is None
    assert "cannot identify" in void

    missing, relative = seen(pa.array([str(tmp_path / "gone.png"), "gone.png"]))
    assert "NotFound" in missing
    assert "no absolute place" in relative


def test_a_picture_taken_sideways_is_turned_upright() -> None:
    taken = picture(9).rotate(90, expand=True)
    taken.getexif()[0x0112] = 6  # the camera was turned to the left
    exif = Image.Exif()
    exif[0x0112] = 6
    buffer = io.BytesIO()
    taken.save(buffer, "PNG", exif=exif)

    (pixels,) = seen(pa.array([buffer.getvalue()]))

    assert (pixels == np.asarray(picture(9))).all()


@pytest.mark.parametrize("kind", [pa.int64(), pa.list_(pa.string()), pa.struct([("x", pa.int8())])])
def test_a_column_that_cannot_hold_pictures_is_told(kind: pa.DataType) -> None:
    (problem,) = Pictures("photo").problems(pa.schema([("photo", kind)]))

    assert "are no pictures" in problem.message


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ({"prompt": "What is it?"}, "prompt"),
        ({"prompt": "What is it?", "image_column": "photo", "chat": False}, "image_column"),
        ({"prompt": "{text}", "image_column": "photo", "task": "embed"}, "image_column"),
    ],
)
def test_pictures_go_with_chat_and_make_rows_differ(fields: dict[str, Any], path: str) -> None:
    with pytest.raises(InvalidSpec) as refused:
        llm("some/model", **fields)

    assert path in [problem.path for problem in refused.value.problems]
    llm("some/model", prompt="What is it?", image_column="photo")


def test_a_model_without_a_processor_for_images_is_told(tmp_path: Path) -> None:
    model = llm(str(tiny_llm(tmp_path / "tiny")), prompt="What is it?", image_column="phot")

    told = [str(problem) for problem in model.check(pa.schema([("photo", pa.binary())]))]

    assert any("no processor for images" in line for line in told)
    assert any("Did you mean 'photo'?" in line for line in told)


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LoadedLLM]:
    folder = tiny_vision_llm(tmp_path_factory.mktemp("models") / "vision")
    made = llm(
        str(folder),
        prompt="Say {text}",
        image_column="photo",
        system="You see.",
        sampling={"max_tokens": 16},
        engine={"max_num_seqs": 8},
    ).load()
    yield made
    made.close()


@pytest.mark.long
@pytest.mark.timeout(600)
def test_a_vision_model_sees_each_rows_own_picture(loaded: LoadedLLM) -> None:
    one, other = encoded(picture(0)), encoded(picture(200, (64, 64)), "JPEG")
    photos = [one, other, one, None, b"no picture", None]
    table = pa.table({"text": ["x", "x", "x", "x", "x", "y"], "photo": photos})

    outcome = loaded.compute(table)

    said = outcome.columns["generated_text"].to_pylist()
    assert list(outcome.errors) == [4]
    assert "holds no picture" in outcome.errors[4]
    assert said[4] is None
    assert said[0] == said[2]
    assert len({said[0], said[1], said[3]}) == 3
    assert said[3] != said[5]
    # Four patches, a line's end less than nothing: what a picture is in tokens
    with_picture, without = outcome.lengths["tokens_in"][0], outcome.lengths["tokens_in"][3]
    assert with_picture > without


@pytest.mark.long
@pytest.mark.timeout(600)
def test_many_pictures_in_any_order_get_the_answers_that_they_get_alone(loaded: LoadedLLM) -> None:
    shades = [shade % 50 for shade in range(150)]
    photos = [encoded(picture(5 * shade)) for shade in shades]
    table = pa.table({"text": ["it"] * 150, "photo": photos})

    outcome = loaded.compute(table)

    assert outcome.errors == {}
    said = outcome.columns["generated_text"].to_pylist()
    by_shade = dict(zip(shades, said, strict=True))
    assert [by_shade[shade] for shade in shades] == said
    assert len(set(said)) > 10
    assert len(outcome.lengths["tokens_out"]) == 150
