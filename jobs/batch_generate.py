"""A language model over the rows of Parquet, JSONL or text files, by vLLM.

The same file runs everywhere:

    python jobs/batch_generate.py rows.parquet out/ --model Qwen/Qwen3-0.6B
    python jobs/batch_generate.py s3://bucket/rows s3://bucket/out --model s3://bucket/model \\
        --cluster tune --prompt "Translate to German: {text}"
    ray job submit --working-dir jobs -- python batch_generate.py s3://… s3://… --model …
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
    parser.add_argument("--prompt", default="Summarise in one sentence: {text}", help="template")
    parser.add_argument("--max-tokens", type=int, default=64, help="of an answer (default: 64)")
    parser.add_argument("--context", type=int, help="tokens of prompt and answer (the model's)")
    parser.add_argument("--cluster", help="name or YAML file of a cluster that is up")
    parser.add_argument("--storage", help="folder or s3://bucket/prefix (default: ~/.eksml/runs)")
    parser.add_argument("--name", help="the run's name; that of a killed run resumes it")
    return parser.parse_args()


def main() -> None:
    """Compute as the command line says, and print what came of it."""
    args = arguments()
    model = eksml.batches.llm(
        args.model,
        prompt=args.prompt,
        sampling={"max_tokens": args.max_tokens},
        engine={"max_model_len": args.context} if args.context else {},
    )
    run = eksml.batch(
        model,
        args.data,
        args.output,
        cluster=args.cluster,
        storage=args.storage,
        name=args.name,
    )
    report = run.result()
    tokens = report["lengths"]["tokens_out"]
    print(f"{run.name}: {report['rows']:,} rows, {report['errors']:,} errors, in {args.output}")
    print(f"{tokens['total']:,} tokens written, p50 {tokens['p50']}, p95 {tokens['p95']}")


if __name__ == "__main__":
    main()
