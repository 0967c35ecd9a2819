"""What is on offer here: catalogue entries joined with the engines that run them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from stillhouse.billing.price import Price
from stillhouse.catalogue.model_spec import ModelSpec
from stillhouse.serving.registry.public_prefixes import NO_PUBLIC_PREFIXES, PublicPrefixes
from stillhouse.serving.registry.replicas import ReplicaSet
from stillhouse.text.chat_model import ChatModel
from stillhouse.text.prompt.encoder import Prompt
from stillhouse.types.requests import GenerationRequest
from stillhouse.types.service_tier import ServiceTier

#: What an engine calls a tier: where not everything fits, the lower number goes first, for as long
#: as there is any. So priority has precedence in the queue alone; here it would shut out others.
ENGINE_PRIORITY = {ServiceTier.PRIORITY: 0, ServiceTier.DEFAULT: 0, ServiceTier.FLEX: 1}


@dataclass(frozen=True, slots=True)
class ServedModel:
    """
    A model that answers requests: its words, its engine and its prices by tier.

    Args:
        public_prefixes: Beginnings of its prompts that are no account's secret.

    """

    spec: ModelSpec
    chat: ChatModel
    replicas: ReplicaSet
    prices: Mapping[ServiceTier, Price]
    public_prefixes: PublicPrefixes = NO_PUBLIC_PREFIXES

    @property
    def price(self) -> Price:
        """What a request costs that names no tier."""
        return self.prices[ServiceTier.DEFAULT]

    @property
    def context_length(self) -> int:
        """Most tokens of one sequence: what both the model and the engine's memory allow."""
        return min(self.chat.context_length, self.replicas.context_length)

    def max_new_tokens(self, request: GenerationRequest, prompt: Prompt) -> int:
        """How many tokens the request may generate: its own wish, within the context."""
        room = self.context_length - len(prompt.token_ids)
        wish = request.max_tokens
        return min(room, self.spec.max_output_tokens if wish is None else wish)
