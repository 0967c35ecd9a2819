"""
Samples the tokens of a step, and accepts draft tokens that equal the sampled ones.

Source:
    The acceptance rule of speculative decoding, arXiv 2211.17192, for a draft that is certain of
    its tokens: sample from the model, and go on only where the sample is the draft token.
    Speculation does not change the output distribution, nor the tokens of a seed.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from stillhouse.engines.openvino.sampling.logprobs import step_logprobs
from stillhouse.engines.openvino.sampling.sampler import sample
from stillhouse.errors import InvalidRequestError

if TYPE_CHECKING:
    from numpy import float32
    from numpy.typing import NDArray

    from stillhouse.engines.openvino.scheduling.sequence import Sequence
    from stillhouse.engines.openvino.speculation.drafts import Draft
    from stillhouse.types.logprobs import StepLogprobs


@dataclass(slots=True)
class SamplerOutput:
    """
    The tokens that were sampled for one sequence in one step.

    Args:
        logprobs: One for each token where the request asks for them, else none.
        error: Why no token can be sampled after them.

    """

    token_ids: list[int] = field(default_factory=list)
    logprobs: list[StepLogprobs] = field(default_factory=list)
    error: InvalidRequestError | None = None

    @property
    def num_accepted(self) -> int:
        """Number of draft tokens that were accepted and followed by another token."""
        return max(0, len(self.token_ids) - 1)


def sample_tokens(sequence: Sequence, logits: NDArray[float32], draft: Draft) -> SamplerOutput:
    """
    Samples the next tokens and appends them: one, and one more for each accepted draft token.

    Args:
        logits: float32, shape (1 + draft tokens, vocabulary): after its last token, and after each
            draft token if all before it are right; not changed.
        draft: The draft; may be empty.

    """
    output = SamplerOutput()
    for row, draft_token_id in zip(logits, (*draft.token_ids, None), strict=True):
        try:
            token_id = _draw(sequence, row)
        except InvalidRequestError as error:
            output.error = error
            break
        output.token_ids.append(token_id)
        if sequence.request.top_logprobs is not None:
            output.logprobs.append(step_logprobs(row, token_id, sequence.request.top_logprobs))
        if token_id != draft_token_id or sequence.finish is not None:
            break
    return output


def _draw(sequence: Sequence, logits: NDArray[float32]) -> int:
    """Samples the sequence's next token and appends it."""
    rules = sequence.logit_rules
    if rules is None:
        token_id = sample(logits, sequence.request.sampling, sequence.generator)
    else:
        token_id = sample(rules.apply(logits), sequence.request.sampling, sequence.generator)
        rules.advance(token_id)
    sequence.append(token_id)
    return token_id
