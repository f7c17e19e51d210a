"""Documents to text, text to chunks, and what a language model finds in each, as Parquet.

PDF, HTML and text files; a chunk is a row, an answer is JSON of a schema:

    python jobs/batch_documents.py papers/ found/ --model Qwen/Qwen3-0.6B
    python jobs/batch_documents.py s3://bucket/papers s3://bucket/found --model … --cluster tune
    ray job submit --working-dir jobs -- python batch_documents.py s3://… s3://… --model …
"""

from __future__ import annotations

import argparse

import eksml

SCHEMA = {
    "type": "object",
    "properties": {
        "title": {"type": "string", "maxLength": 80},
        "topic": {"enum": ["science", "technology", "business", "law", "other"]},
        "is_about_software": {"type": "boolean"},
    },
    "required": ["title", "topic", "is_about_software"],
    "additionalProperties": False,
}
"""What is asked of each chunk."""


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", help="documents: a folder or a pattern; local or s3://")
    parser.add_argument("output", help="folder for the results, local or s3://")
    parser.add_argument("--model", required=True, help="folder, s3:// URI or name on the hub")
    parser.add_argument("--chunk-chars", type=int, default=2_000, help="of a chunk, at most")
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
        prompt="Describe this text as JSON with title, topic and is_about_software.\n\n{text}",
        json_schema=SCHEMA,
        output="found",
        engine={"max_model_len": args.context} if args.context else {},
    )
    run = eksml.batch(
        model,
        eksml.batches.documents(args.data, chunk_chars=args.chunk_chars, overlap_chars=100),
        args.output,
        cluster=args.cluster,
        storage=args.storage,
        name=args.name,
    )
    report = run.result()
    print(f"{run.name}: {report['rows']:,} chunks, {report['errors']:,} errors, in {args.output}")


if __name__ == "__main__":
    main()
