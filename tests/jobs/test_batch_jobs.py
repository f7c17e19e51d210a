"""The jobs of batch inference, run as their users run them, on real models."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))
from real_models import minilm, smollm2

ROOT = Path(__file__).parents[2]
JOBS = ROOT / "jobs"

pytestmark = [pytest.mark.long, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    made = tmp_path_factory.mktemp("batch-jobs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EKSML_HOME", str(made / "home"))
        patch.setenv("EKSML_STORAGE", str(made / "runs"))
        yield made


@pytest.fixture(scope="module")
def smol(folder: Path) -> Path:
    return smollm2(folder / "smollm2")


def job(folder: Path, name: str, *words: object) -> str:
    done = subprocess.run(
        [sys.executable, JOBS / f"{name}.py", *map(str, words)],
        cwd=folder,
        env=os.environ.copy(),
        capture_output=True,
        text=True,
        timeout=850,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


def rows_of(folder: Path) -> list[dict]:
    return ds.dataset(folder).to_table().to_pylist()


def test_text_is_generated_for_every_row(folder: Path, smol: Path) -> None:
    questions = ["What is the capital of France?", "What is the capital of Italy?"] * 10
    pq.write_table(pa.table({"text": questions}), folder / "questions.parquet")

    printed = job(
        folder,
        "batch_generate",
        *("questions.parquet", "answers", "--model", smol, "--prompt", "{text}"),
        *("--max-tokens", 24, "--context", 512),
    )

    assert "20 rows, 0 errors" in printed
    answers = rows_of(folder / "answers")
    assert all("Paris" in row["generated_text"] for row in answers if "France" in row["text"])
    assert all("Rome" in row["generated_text"] for row in answers if "Italy" in row["text"])


def test_documents_become_chunks_with_json_of_the_schema(folder: Path, smol: Path) -> None:
    (folder / "docs").mkdir()
    for name in ("README.md", "ARCHITECTURE.md"):
        (folder / "docs" / name).write_text((ROOT / name).read_text()[:3_000])

    printed = job(
        folder,
        "batch_documents",
        *("docs", "found", "--model", smol, "--chunk-chars", 1_000, "--context", 1_024),
    )

    found = rows_of(folder / "found")
    assert f"{len(found)} chunks, 0 errors" in printed
    assert len(found) >= 6
    for row in found:
        value = json.loads(row["found"])
        assert set(value) == {"title", "topic", "is_about_software"}


def test_sentences_that_mean_the_same_have_embeddings_that_are_near(folder: Path) -> None:
    texts = ["A cat sits on the mat.", "A kitten rests on the rug.", "Stocks fell sharply today."]
    pq.write_table(pa.table({"text": texts}), folder / "texts.parquet")

    printed = job(
        folder, "batch_embed", "texts.parquet", "vectors", "--model", minilm(folder / "minilm")
    )

    assert "3 rows, 0 errors" in printed
    by_text = {row["text"]: np.array(row["embedding"]) for row in rows_of(folder / "vectors")}
    cat, kitten, stocks = (by_text[text] for text in texts)
    assert cat.shape == (384,)
    assert cat @ kitten > cat @ stocks + 0.2


def test_digits_in_images_are_read_with_the_network_that_a_run_trained(folder: Path) -> None:
    job(folder, "train_digits", "--name", "digits", "--steps", 300)

    printed = job(folder, "batch_images", "--run", "digits", "--output", "read")

    assert "1,797 images, 0 errors" in printed
    read = rows_of(folder / "read")
    right = sum(Path(row["path"]).name.startswith(f"{row['digit']}-") for row in read)
    assert right / len(read) >= 0.95


@pytest.mark.parametrize("name", sorted(path.stem for path in JOBS.glob("batch_*.py")))
def test_help_has_examples(folder: Path, name: str) -> None:
    printed = job(folder, name, "--help")

    assert f"python jobs/{name}.py" in printed
