"""Sentence embeddings for the rows of Parquet, JSONL or text files, by vLLM.

The same file runs everywhere:

    python jobs/batch_embed.py rows.parquet out/ --model sentence-transformers/all-MiniLM-L6-v2
    python jobs/batch_embed.py s3://bucket/rows s3://bucket/out --model … --cluster tune
    ray job submit --working-dir jobs -- python batch_embed.py s3://… s3://… --model …
"""

from __future__ import annotations

import argparse

import eksml


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", help="files, a folder or a pattern; local or s3://")
    parser.add_argument("output", help="folder for the results, local or s3://")
    parser.add_argument("--model", required=True, help="folder, s3:// URI or name on the hub")
    parser.add_argument("--text", default="text", help="the column to embed (default: text)")
    parser.add_argument("--cluster", help="name or YAML file of a cluster that is up")
    parser.add_argument("--storage", help="folder or s3://bucket/prefix (default: ~/.eksml/runs)")
    parser.add_argument("--name", help="the run's name; that of a killed run resumes it")
    return parser.parse_args()


def main() -> None:
    """Compute as the command line says, and print what came of it."""
    args = arguments()
    model = eksml.batches.llm(args.model, task="embed", prompt=f"{{{args.text}}}")
    run = eksml.batch(
        model,
        args.data,
        args.output,
        cluster=args.cluster,
        storage=args.storage,
        name=args.name,
    )
    report = run.result()
    print(f"{run.name}: {report['rows']:,} rows, {report['errors']:,} errors, in {args.output}")
    print(f"{report['rows_per_s']:,.0f} rows/s")


if __name__ == "__main__":
    main()
