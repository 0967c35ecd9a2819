"""Records as tests write them."""

from __future__ import annotations

from array import array

from stillhouse_loadgen.record import RequestRecord
from stillhouse_loadgen.report.document import Document, Environment, LoadShape, Run
from stillhouse_loadgen.report.summary import summarize


def record(due_s=0.0, *, sent_s=None, first_s=0.1, gaps_s=(0.05, 0.05), **fields):
    """A whole answer, unless *fields* say otherwise; *first_s* is counted from when it was due."""
    first_token_s = due_s + first_s
    return RequestRecord(
        **{
            "number": 0,
            "conversation": 0,
            "turn": 0,
            "key": "key 1",
            "max_tokens": 3,
            "intended_s": due_s,
            "sent_s": due_s if sent_s is None else sent_s,
            "first_token_s": first_token_s,
            "gaps_s": array("f", gaps_s),
            "end_s": first_token_s + sum(gaps_s),
            "status": 200,
            "prompt_tokens": 10,
            "cached_tokens": 4,
            "completion_tokens": 3,
            "cost_usd": 0.001,
            "finish_reason": "stop",
        }
        | fields
    )


def refused(due_s=0.0, *, after_s=0.01, **fields):
    """A 429."""
    return RequestRecord(
        **{
            "number": 0,
            "conversation": 0,
            "turn": 0,
            "key": "key 1",
            "max_tokens": 3,
            "intended_s": due_s,
            "sent_s": due_s,
            "end_s": due_s + after_s,
            "status": 429,
            "failure": "http_429",
            "retry_after": "1",
            "message": "Model busy",
        }
        | fields
    )


def document(*runs, targets=(), **fields):
    """A benchmark of runs, each given by its records."""
    return Document(
        **{
            "command": ["stillhouse", "bench"],
            "environment": Environment(
                stillhouse="0.2.0",
                python="3.11.7",
                aiohttp="3.14.5",
                system="Linux 6",
                processor="AMD EPYC",
                num_cpus=2,
            ),
            "url": "http://127.0.0.1:8000/v1/chat/completions",
            "model": "a/model",
            "seed": 0,
            "tokens_per_word": 1.25,
            "targets": targets,
            "runs": [
                Run(
                    load=LoadShape(rate=float(number), arrivals="poisson"),
                    started_at="2026-11-22T18:00:00+00:00",
                    is_interrupted=False,
                    num_given_up=0,
                    summary=summarize(records, targets),
                    records=list(records),
                )
                for number, records in enumerate(runs, start=1)
            ],
        }
        | fields
    )
