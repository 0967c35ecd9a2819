"""
Defines every error that stillhouse raises on purpose, as one tree.

    StillhouseError                    never raised itself
      RequestError                     the caller must change something
        InvalidRequestError            a field has a value that cannot be honoured
          BodyTooLargeError            the body has more bytes than allowed
          BodyTooSlowError             the body did not come in the time allowed
          MalformedRequestError        the bytes are not one HTTP request
          HeadTooLargeError            the head has more bytes or lines than allowed
          TargetTooLongError           the path with its query is longer than allowed
          HeadTooSlowError             the head did not come in the time allowed
          UnsupportedFeatureError      the model does not support the feature
          WrongTaskError               the model is for another kind of request
          NameTakenError               the name is taken
          KeyNotFoundError             no live key has this name or id, or several have
          TooManyKeysError             the account has as many keys as it may have
          ContextLengthError           the prompt does not fit into the model's context
          RequestTooLargeForEngineError  the engine's KV cache can never hold the request
          QuarantinedRequestError      the engine crashed while it worked on this, more than once
          IdempotencyMismatchError     the Idempotency-Key belongs to another request
        AuthenticationError            the key is missing, wrong, expired or revoked
        PermissionDeniedError          the key is right, but not for this
        ModelNotFoundError             no such model is served here
        InsufficientFundsError         the balance or spending limit does not cover the request
        RateLimitError                 the account or its key sends too much
        IdempotencyConflictError       the first request with the Idempotency-Key is still running
      ServingError                     the fault is ours; the same request may succeed later
        OverloadedError                every slot is taken, and the queue is full
        ModelUnavailableError          the model is loading, draining, or failed to load
        EngineUnavailableError         the engine is starting, restarting or stopped
        EngineCrashedError             the engine died while it worked on the request
        StoreUnavailableError          the ledger cannot be written now
      OperatorError                    the operator must change something
        ConfigError                    a file or setting is wrong
        CheckpointError                a model's files are missing or wrong
        ModelLoadError                 no model could be loaded
        IllegalTransitionError         the model's state does not allow what is asked
        AddressInUseError              another program listens on the port

``api/http/errors.py`` alone maps each error to an HTTP status.
"""

from __future__ import annotations


class StillhouseError(Exception):
    """The root of every error that is raised on purpose; never raised itself."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class RequestError(StillhouseError):
    """The caller must change something before trying again."""


class InvalidRequestError(RequestError):
    """A field has a value that cannot be honoured; `param` names it, if one field is at fault."""

    def __init__(self, message: str, *, param: str | None = None) -> None:
        super().__init__(message)
        self.param = param


class BodyTooLargeError(InvalidRequestError):
    """The body has more bytes than allowed."""


class BodyTooSlowError(InvalidRequestError):
    """The body did not come in the time allowed."""


class MalformedRequestError(InvalidRequestError):
    """The bytes are not an HTTP request, or can be read as two different ones."""


class HeadTooLargeError(InvalidRequestError):
    """The request's head has more bytes or lines than allowed."""


class TargetTooLongError(InvalidRequestError):
    """The request's path with its query is longer than allowed."""


class HeadTooSlowError(InvalidRequestError):
    """The request's head did not come in the time allowed."""


class UnsupportedFeatureError(InvalidRequestError):
    """The model does not support the requested feature."""


class WrongTaskError(InvalidRequestError):
    """The model is for another kind of request, such as raw text instead of chat."""


class NameTakenError(InvalidRequestError):
    """The name is taken."""


class ContextLengthError(InvalidRequestError):
    """The prompt does not fit into the model's context."""

    def __init__(
        self,
        *,
        prompt_tokens: int,
        max_prompt_tokens: int,
        is_lower_bound: bool = False,
        param: str = "messages",
    ) -> None:
        length = f"of at least {prompt_tokens}" if is_lower_bound else str(prompt_tokens)
        super().__init__(
            f"Requested input length {length} exceeds maximum input length {max_prompt_tokens}",
            param=param,
        )
        self.prompt_tokens = prompt_tokens
        self.max_prompt_tokens = max_prompt_tokens


class AuthenticationError(RequestError):
    """The key is missing, wrong, expired or revoked."""


class PermissionDeniedError(RequestError):
    """The key is right, but not for this."""


class ModelNotFoundError(RequestError):
    """No such model is served here."""


class KeyNotFoundError(InvalidRequestError):
    """No live API key has this name or id, or several have."""


class TooManyKeysError(InvalidRequestError):
    """The account has as many API keys as it may have."""


class InsufficientFundsError(RequestError):
    """The balance or spending limit does not cover the request's highest possible cost."""


class RateLimitError(RequestError):
    """The account or its key sends too much; the limit admits it again after `retry_after_s`."""

    def __init__(self, message: str, *, retry_after_s: float) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class ServingError(StillhouseError):
    """The fault is ours; the same request may succeed later."""


class IdempotencyMismatchError(InvalidRequestError):
    """The Idempotency-Key belongs to a request with another body."""


class IdempotencyConflictError(RequestError):
    """The first request with the Idempotency-Key is still running."""


class OverloadedError(ServingError):
    """Every slot is taken, and the queue is full."""

    def __init__(self, message: str, *, retry_after_s: float) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class ModelUnavailableError(ServingError):
    """The model is known here but does not serve; `retry_after_s` says when to come back."""

    def __init__(self, message: str, *, retry_after_s: float) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class EngineUnavailableError(ServingError):
    """The engine is starting, restarting or stopped; a retry makes sense after `retry_after_s`."""

    def __init__(self, message: str, *, retry_after_s: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class EngineCrashedError(ServingError):
    """The engine died while it worked on the request; `crash` counts that engine's crashes."""

    def __init__(self, message: str, *, crash: int = 0) -> None:
        super().__init__(message)
        self.crash = crash


class RequestTooLargeForEngineError(InvalidRequestError):
    """The engine's KV cache can never hold the request, however long it waits."""


class QuarantinedRequestError(InvalidRequestError):
    """The engine crashed on this request more than once; the gateway does not retry it."""


class StoreUnavailableError(ServingError):
    """The ledger cannot be written now."""


class OperatorError(StillhouseError):
    """The operator must change something."""


class ConfigError(OperatorError):
    """A file or setting is wrong; the message names the file, the key and what would be right."""


class CheckpointError(OperatorError):
    """A model's files are missing or wrong."""


class ModelLoadError(OperatorError):
    """No model could be loaded; the message has the reason of each."""


class IllegalTransitionError(OperatorError):
    """The state of a model does not allow what is asked; the message says what it allows."""


class AddressInUseError(OperatorError):
    """Another program listens on the port."""
