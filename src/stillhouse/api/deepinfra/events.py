"""Encodes DeepInfra's native streams, in text-generation-inference's format."""

from __future__ import annotations

import codecs
import json

from stillhouse.api.deepinfra.response import InferenceEventOut, last_event, token_event
from stillhouse.api.http import errors as http_errors
from stillhouse.api.http.sse import COMMENT, data_event
from stillhouse.errors import StillhouseError
from stillhouse.types.events import ChatEvent, Finish, TextDelta
from stillhouse.types.logprobs import TokenLogprobs
from stillhouse.types.response_meta import ResponseMeta, ResponseProgress


class InferenceEvents:
    """
    Encodes the events of one stream: one token each; the last one has the whole text.

    The texts of all events together are the whole text: a token cut by a stop string has what is
    left of it, and a character of several tokens comes with the last of them.
    """

    keep_alive = COMMENT

    def __init__(self, meta: ResponseMeta) -> None:
        self._meta = meta
        self._emitted: list[str] = []
        self._pending = ""
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def opening(self) -> bytes:
        """Returns nothing."""
        return b""

    def event(self, event: ChatEvent, _completion: ResponseProgress) -> bytes:
        """Encodes an event per new token, or the last one, with the whole text and its cost."""
        if isinstance(event, TextDelta):
            self._pending += event.content
            return b"".join(self._token(token) for token in event.logprobs)
        return self._end(event) if isinstance(event, Finish) else b""

    def closing(self) -> bytes:
        """Returns nothing: the event with the whole text is the last one."""
        return b""

    def error(self, error: StillhouseError, charged: Finish | None = None) -> bytes:
        """Encodes an error after the first byte."""
        return data_event(http_errors.body_of(error, charged=charged))

    def _token(self, token: TokenLogprobs) -> bytes:
        """Encodes a token with its part of the text."""
        sampled = token.sampled
        text = self._emit(len(self._decoder.decode(sampled.token_bytes)))
        return _encode(token_event(sampled.token_id, text, sampled.logprob))

    def _end(self, finish: Finish) -> bytes:
        rest = self._emit(len(self._pending))
        text = "".join(self._emitted)
        return _encode(last_event(self._meta, rest=rest, text=text, finish=finish))

    def _emit(self, num_chars: int) -> str:
        text, self._pending = self._pending[:num_chars], self._pending[num_chars:]
        self._emitted.append(text)
        return text


def _encode(event: InferenceEventOut) -> bytes:
    return data_event(json.dumps(event, ensure_ascii=False).encode())
