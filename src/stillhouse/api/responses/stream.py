"""Encodes a response as server-sent events: item by item, each event with its number."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NotRequired

from typing_extensions import TypedDict

from stillhouse.api.http.sse import COMMENT, typed_event
from stillhouse.api.openai.chat_response import TokenLogprobsOut
from stillhouse.api.responses.response import (
    EchoOut,
    ItemOut,
    ReasoningPartOut,
    ResponseErrorOut,
    ResponseOut,
    StatusOut,
    TextPartOut,
    call_out,
    ending_of,
    failure_out,
    item_id,
    message_out,
    reasoning_out,
    reasoning_part_out,
    response_out,
    text_logprobs_out,
    text_part_out,
)
from stillhouse.errors import StillhouseError
from stillhouse.types.events import ChatEvent, ChoiceEnd, Finish, TextDelta, ToolCallDelta
from stillhouse.types.logprobs import TokenLogprobs
from stillhouse.types.messages import ToolCall
from stillhouse.types.response_meta import ResponseMeta, ResponseProgress


class ResponseEventOut(TypedDict):
    """One event of a stream; its type determines its fields."""

    type: str
    sequence_number: int
    response: NotRequired[ResponseOut]
    output_index: NotRequired[int]
    item: NotRequired[ItemOut]
    item_id: NotRequired[str]
    content_index: NotRequired[int]
    part: NotRequired[ReasoningPartOut | TextPartOut]
    delta: NotRequired[str]
    logprobs: NotRequired[list[TokenLogprobsOut]]
    text: NotRequired[str]
    name: NotRequired[str]
    arguments: NotRequired[str]
    code: NotRequired[str]
    message: NotRequired[str]
    param: NotRequired[None]


@dataclass(slots=True)
class _OpenItem:
    """The item in progress: ``rs`` is reasoning, ``msg`` text, ``fc`` a call."""

    kind: str
    id: str
    output_index: int
    texts: list[str] = field(default_factory=list)
    logprobs: list[TokenLogprobs] = field(default_factory=list)
    call_id: str = ""
    name: str = ""

    @property
    def text(self) -> str:
        return "".join(self.texts)

    @property
    def at(self) -> dict[str, Any]:
        """Returns the fields that locate the item in events."""
        location = {"item_id": self.id, "output_index": self.output_index}
        return location if self.kind == "fc" else {**location, "content_index": 0}

    def begun(self) -> ItemOut:
        """Returns the item before its first text."""
        if self.kind == "rs":
            return reasoning_out(self.id, None, "in_progress")
        if self.kind == "msg":
            return message_out(self.id, None, (), "in_progress")
        return call_out(self.id, ToolCall(self.call_id, self.name, ""), "in_progress")

    def part(self) -> ReasoningPartOut | TextPartOut:
        """Returns its text so far."""
        if self.kind == "rs":
            return reasoning_part_out(self.text)
        return text_part_out(self.text, tuple(self.logprobs))

    def done(self, status: StatusOut) -> ItemOut:
        """Returns the whole item."""
        if self.kind == "rs":
            return reasoning_out(self.id, self.text, status)
        if self.kind == "msg":
            return message_out(self.id, self.text, tuple(self.logprobs), status)
        return call_out(self.id, ToolCall(self.call_id, self.name, self.text), status)


class ResponseEncoder:
    """
    Encodes the events of one response.

    Args:
        echo: The request's fields, from `echo_out`.

    Source:
        platform.openai.com, API reference, Streaming events of responses; its end is the last
        event, and no ``[DONE]`` follows.

    """

    keep_alive = COMMENT

    def __init__(self, meta: ResponseMeta, echo: EchoOut) -> None:
        self._meta = meta
        self._echo = echo
        self._num_events = 0
        self._output: list[ItemOut] = []
        self._open: _OpenItem | None = None

    def opening(self) -> bytes:
        """Encodes the response before its first item."""
        return self._lifecycle("created", "in_progress") + self._lifecycle(
            "in_progress", "in_progress"
        )

    def event(self, event: ChatEvent, _completion: ResponseProgress) -> bytes:
        """Encodes new text in items that it opens and closes; at the end, the whole response."""
        if isinstance(event, TextDelta):
            return self._grow(event)
        if isinstance(event, ChoiceEnd):  # only with several choices, which this dialect lacks
            return b""
        status = ending_of(event.reason)
        return self._close(status) + self._lifecycle(status, status, finish=event)

    def closing(self) -> bytes:
        """Returns nothing: the last event marks the end."""
        return b""

    def error(self, error: StillhouseError, charged: Finish | None = None) -> bytes:
        """Encodes an error after the first byte, then the failed response."""
        failure = failure_out(error)
        said = self._event("error", **failure, param=None)
        return said + self._lifecycle("failed", "failed", finish=charged, failure=failure)

    def _grow(self, delta: TextDelta) -> bytes:
        events = b""
        if delta.reasoning:
            events += self._in_item("rs") + self._add_text("reasoning_text", delta.reasoning)
        if delta.content or delta.logprobs:
            logprobs = text_logprobs_out(delta.logprobs)
            events += self._in_item("msg", delta.logprobs)
            events += self._add_text("output_text", delta.content, logprobs=logprobs)
        return events + b"".join(self._call(call) for call in delta.tool_calls)

    def _call(self, call: ToolCallDelta) -> bytes:
        events = self._close() + self._begin("fc", call.id, call.name) if call.id else b""
        if call.arguments:
            events += self._add_text("function_call_arguments", call.arguments)
        return events

    def _in_item(self, kind: str, logprobs: tuple[TokenLogprobs, ...] = ()) -> bytes:
        is_new = self._open is None or self._open.kind != kind
        events = self._close() + self._begin(kind) if is_new else b""
        self._item.logprobs += logprobs
        return events

    def _add_text(self, name: str, text: str, **more: Any) -> bytes:
        self._item.texts.append(text)
        return self._event(f"response.{name}.delta", **self._item.at, delta=text, **more)

    def _begin(self, kind: str, call_id: str = "", name: str = "") -> bytes:
        index = len(self._output)
        item = _OpenItem(kind, item_id(kind, self._meta, index), index, call_id=call_id, name=name)
        self._open = item
        events = self._event("response.output_item.added", output_index=index, item=item.begun())
        if kind == "fc":
            return events
        return events + self._event("response.content_part.added", **item.at, part=item.part())

    def _close(self, status: StatusOut = "completed") -> bytes:
        if self._open is None:
            return b""
        item = self._open
        whole = item.done(status)
        self._open = None
        self._output.append(whole)
        return self._text_done(item) + self._event(
            "response.output_item.done", output_index=item.output_index, item=whole
        )

    def _text_done(self, item: _OpenItem) -> bytes:
        if item.kind == "fc":
            return self._event(
                "response.function_call_arguments.done",
                **item.at,
                name=item.name,
                arguments=item.text,
            )
        part = item.part()
        text_event = (
            self._event("response.reasoning_text.done", **item.at, text=item.text)
            if item.kind == "rs"
            else self._event(
                "response.output_text.done",
                **item.at,
                text=item.text,
                logprobs=text_logprobs_out(tuple(item.logprobs)),
            )
        )
        return text_event + self._event("response.content_part.done", **item.at, part=part)

    @property
    def _item(self) -> _OpenItem:
        assert self._open is not None, "text is added to an item that is not open. This is a bug."
        return self._open

    def _lifecycle(
        self,
        name: str,
        status: StatusOut,
        *,
        finish: Finish | None = None,
        failure: ResponseErrorOut | None = None,
    ) -> bytes:
        response = response_out(
            self._meta,
            self._echo,
            status=status,
            output=self._output,
            finish=finish,
            failure=failure,
        )
        return self._event(f"response.{name}", response=response)

    def _event(self, type_: str, **fields: Any) -> bytes:
        self._num_events += 1
        return typed_event({"type": type_, "sequence_number": self._num_events - 1, **fields})
