"""Specifies a model: what it is, what it costs, and where its files are."""

from __future__ import annotations

from dataclasses import dataclass, field

from stillhouse.catalogue.task import Task
from stillhouse.types.sampling import SamplingParams
from stillhouse.types.tariff import Tariff

MAX_OUTPUT_TOKENS = 16_384  # DeepInfra's cap where a request names none


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSpec:
    """
    Specifies a model: what it is, what it costs, and where its files are.

    Args:
        id: ``owner/name``, as clients write it.
        family: The name of an entry of `stillhouse.text.families.FAMILIES`.
        task: The kind of request that the model serves.
        aliases: Other names of the same model.
        version: The version that may follow ``id:``; None allows no version.
        checkpoint: The folder of the model's files, or the name of one that comes with stillhouse;
            None: the catalogue knows the model, but has no files to load.
        context_length: The most tokens of prompt and answer together; None takes the checkpoint's.
        max_output_tokens: The most tokens of an answer where the request names none.
        recommended: The sampling parameters that the model's makers recommend.
        reasoning_in_content: Writes reasoning into the content, between its tags, as DeepInfra did
            before August 2025; otherwise it is separate.

    """

    id: str
    family: str
    price: Tariff
    task: Task = Task.CHAT
    aliases: tuple[str, ...] = ()
    version: str | None = None
    checkpoint: str | None = None
    context_length: int | None = None
    max_output_tokens: int = MAX_OUTPUT_TOKENS
    recommended: SamplingParams = field(default_factory=SamplingParams)
    reasoning_in_content: bool = False
    quantization: str | None = None
    description: str = ""
    tags: tuple[str, ...] = ()

    @property
    def owner(self) -> str:
        """The maker of the model: the part of its id before the slash."""
        return self.id.partition("/")[0]
