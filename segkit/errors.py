"""The errors a user can meet. Everything else that is raised is a bug.

SegkitError
├── ConfigError            a flag or a configuration file says something impossible
├── DataError              images, masks, archives
│   └── LabelMapError      labelmap.txt, or a colour or class id that it does not have
├── ModelError             an architecture or an image size that cannot be built
├── CheckpointError        a checkpoint that is missing, damaged or of another model
├── ExportError            a version that cannot be exported, published or loaded
│   └── EngineUnavailable  not on this machine: a package, processor or GPU is missing
├── VideoError             a source that cannot be read, a sink that cannot be written
└── ServerError            a model server, as its client sees it
    ├── ServerUnavailable  nothing answers at that address
    │   └── ServerOverloaded   it answers, and has no room for the request just now
    ├── PredictionTimeout  no answer before the deadline
    ├── ModelNotFound      the server answers, but does not serve that model or version
    ├── MessageTooLarge    a request or a reply is over a size limit
    └── ContractMismatch   the model does not speak segkit's serving contract
"""

from __future__ import annotations

__all__ = [
    "CheckpointError",
    "ConfigError",
    "ContractMismatch",
    "DataError",
    "EngineUnavailable",
    "ExportError",
    "LabelMapError",
    "MessageTooLarge",
    "ModelError",
    "ModelNotFound",
    "PredictionTimeout",
    "SegkitError",
    "ServerError",
    "ServerOverloaded",
    "ServerUnavailable",
    "VideoError",
]


class SegkitError(Exception):
    """A mistake that the user can mend.

    Args:
        problem: What was wrong, with the value and where it came from.
        expected: What was expected, or what is available.
        next_step: What to do next.
    """

    def __init__(self, problem: str, *, expected: str = "", next_step: str = "") -> None:
        super().__init__(problem, expected, next_step)
        self.problem = problem
        self.expected = expected
        self.next_step = next_step

    def __str__(self) -> str:
        parts = [
            self.problem,
            f"  expected: {self.expected}" if self.expected else "",
            f"  next: {self.next_step}" if self.next_step else "",
        ]
        return "\n".join(part for part in parts if part)


class ConfigError(SegkitError):
    """A flag or a configuration file says something impossible."""


class DataError(SegkitError):
    """An image, a mask, an archive or a list of them cannot be used."""


class LabelMapError(DataError):
    """A labelmap.txt is malformed, or a colour or class id is not in it."""


class ModelError(SegkitError):
    """No network of that name or size can be built."""


class CheckpointError(SegkitError):
    """A checkpoint is missing, damaged or of another model."""


class ExportError(SegkitError):
    """A version cannot be exported, published or loaded."""


class EngineUnavailable(ExportError):
    """A form of a model that this machine cannot make or run: something it needs is missing."""


class VideoError(SegkitError):
    """A source cannot be read or a sink cannot be written."""


class ServerError(SegkitError):
    """A model server refused or failed a request."""


class ServerUnavailable(ServerError):
    """Nothing answers at the server's address."""


class ServerOverloaded(ServerUnavailable):
    """The server has no room for the request just now."""


class PredictionTimeout(ServerError):
    """The server did not answer before the deadline."""


class ModelNotFound(ServerError):
    """The server does not serve that model or version."""


class MessageTooLarge(ServerError):
    """A request or a reply is over a size limit."""


class ContractMismatch(ServerError):
    """The model behind the server does not speak segkit's serving contract."""
