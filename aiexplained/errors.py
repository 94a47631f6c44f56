"""Errors that callers may want to catch by name. Everything else is ValueError or TypeError."""


class AIExplainedError(Exception):
    """Base of this package's own errors."""


class WeightsUnavailable(AIExplainedError):
    """Real weights were asked for and are not on this machine; the message says how to get them."""


class CorpusUnavailable(AIExplainedError):
    """A text was asked for and is not on this machine; the message says how to get it."""


class OutOfBlocks(AIExplainedError, RuntimeError):
    """An engine has fewer free blocks of keys and values than a sequence needs now."""


class RecordError(AIExplainedError, ValueError):
    """A recorded result is missing, malformed or made with another schema."""


class UnsupportedVerdict(AIExplainedError, ValueError):
    """A claim's stated verdict is not the one that its reading supports."""
