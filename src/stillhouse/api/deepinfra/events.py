"""DeepInfra's native streams: a token in each event, as text-generation-inference sends them."""

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
    Encodes the events of one stream: a token in each, and in the last one the whole text.

    The texts of all events together are the whole text: of a token that a stop string cuts it is
    what is left, and a character of several tokens comes with the last of them.
    """

    keep_alive = COMMENT

    def __init__(self, meta: ResponseMeta) -> None:
        self._meta = meta
        self._emitted: list[str] = []
        self._pending = ""
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def opening(self) -> bytes:
        """Nothing."""
        return b""

    def event(self, event: ChatEvent, _completion: ResponseProgress) -> bytes:
        """An event for each new token; or the last one, with all that was told and its cost."""
        if isinstance(event, TextDelta):
            self._pending += event.content
            return b"".join(self._token(token) for token in event.logprobs)
        return self._end(event) if isinstance(event, Finish) else b""

    def closing(self) -> bytes:
        """Nothing: the event with the whole text is the last one."""
        return b""

    def error(self, error: StillhouseError, charged: Finish | None = None) -> bytes:
        """An error after the first byte."""
        return data_event(http_errors.body_of(error, charged=charged))

    def _token(self, token: TokenLogprobs) -> bytes:
        """A token with its part of the text."""
        sampled = token.sampled
        text = self._tell(len(self._decoder.decode(sampled.token_bytes)))
        return _encode(token_event(sampled.token_id, text, sampled.logprob))

    def _end(self, finish: Finish) -> bytes:
        rest = self._tell(len(self._pending))
        text = "".join(self._emitted)
        return _encode(last_event(self._meta, rest=rest, text=text, finish=finish))

    def _tell(self, num_chars: int) -> str:
        text, self._pending = self._pending[:num_chars], self._pending[num_chars:]
        self._emitted.append(text)
        return text


def _encode(event: InferenceEventOut) -> bytes:
    return data_event(json.dumps(event, ensure_ascii=False).encode())
