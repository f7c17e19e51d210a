"""OpenAI's batch object, made from a batch's records. Pure, but for reading them."""

from __future__ import annotations

from typing import Any

from eksml.serving.batch_jobs.records import Asked, Batch, Closing, Counts, End, Plan, Progress
from eksml.serving.batch_jobs.usage import Usage


def read_view(batch: Batch, now_s: float) -> dict[str, Any] | None:
    """The batch as its client sees it; None if there is no such batch. Blocks.

    Raises:
        Damaged: a record is not what was written.
    """
    asked = batch.asked()
    if asked is None:
        return None
    cancelled_at = batch.cancelled_at()
    end = batch.end()
    if end is not None:
        return {**_common(asked, cancelled_at), **_ended(asked, end)}
    plan, closing, progress = batch.plan(), batch.closing(), batch.progress()
    if plan is None and now_s >= asked.expires_at:
        # Nobody has begun it in its time; a worker that comes will say the same
        return {**_common(asked, cancelled_at), **_ended(asked, _never_begun(asked))}
    open_view = _open(asked, plan, closing, progress, cancelled_at)
    return {**_common(asked, cancelled_at), **open_view}


def _common(asked: Asked, cancelled_at: int | None) -> dict[str, Any]:
    return {
        "id": asked.id,
        "object": "batch",
        "endpoint": asked.endpoint,
        "model": asked.model,
        "input_file_id": asked.input_file_id,
        "completion_window": asked.completion_window,
        "metadata": asked.metadata,
        "created_at": asked.created_at,
        "expires_at": asked.expires_at,
        "cancelling_at": cancelled_at,
        **dict.fromkeys(("in_progress_at", "finalizing_at", "errors")),
        **dict.fromkeys(("completed_at", "failed_at", "expired_at", "cancelled_at")),
        **dict.fromkeys(("output_file_id", "error_file_id")),
    }


def _open(
    asked: Asked,
    plan: Plan | None,
    closing: Closing | None,
    progress: Progress | None,
    cancelled_at: int | None,
) -> dict[str, Any]:
    if cancelled_at is not None:
        status = "cancelling"
    elif closing is not None:
        status = "finalizing"
    else:
        status = "validating" if plan is None else "in_progress"
    counts = progress.counts if progress else Counts(total=plan.total if plan else 0)
    return {
        "status": status,
        "in_progress_at": plan and plan.at,
        "finalizing_at": closing and closing.at,
        "request_counts": counts.model_dump(),
        "usage": (progress.usage if progress else Usage()).view(),
    }


def _ended(asked: Asked, end: End) -> dict[str, Any]:
    return {
        "status": end.status,
        f"{end.status}_at": end.at,
        "in_progress_at": end.in_progress_at,
        "finalizing_at": end.finalizing_at,
        "request_counts": end.counts.model_dump(),
        "usage": end.usage.view(),
        "output_file_id": end.output_file_id,
        "error_file_id": end.error_file_id,
        "errors": {"object": "list", "data": [error.model_dump() for error in end.errors]}
        if end.errors
        else None,
    }


def _never_begun(asked: Asked) -> End:
    return End(at=asked.expires_at, status="expired")
