"""Joins a catalogue entry with the replicas that run it and the prices it has."""

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

#: Maps a tier to an engine's priority: the lower number always goes first, so the tier `priority`
#: has precedence in the queue alone; in the engine it would starve the others.
ENGINE_PRIORITY = {ServiceTier.PRIORITY: 0, ServiceTier.DEFAULT: 0, ServiceTier.FLEX: 1}


@dataclass(frozen=True, slots=True)
class ServedModel:
    """
    Holds a loaded model: its text side, its replicas and its prices by tier.

    Args:
        public_prefixes: Prompt prefixes whose cached tokens all accounts share.

    """

    spec: ModelSpec
    chat: ChatModel
    replicas: ReplicaSet
    prices: Mapping[ServiceTier, Price]
    public_prefixes: PublicPrefixes = NO_PUBLIC_PREFIXES

    @property
    def price(self) -> Price:
        """The price of a request that names no tier."""
        return self.prices[ServiceTier.DEFAULT]

    @property
    def context_length(self) -> int:
        """Most tokens of one sequence: what both the model and the engine's memory allow."""
        return min(self.chat.context_length, self.replicas.context_length)

    def max_new_tokens(self, request: GenerationRequest, prompt: Prompt) -> int:
        """Returns how many tokens the request may generate within the context."""
        room = self.context_length - len(prompt.token_ids)
        requested = request.max_tokens
        return min(room, self.spec.max_output_tokens if requested is None else requested)
