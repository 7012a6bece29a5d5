"""The settings of a recurrent model."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import ClassVar, Literal

from freerun.policies.backspace import with_backspace
from freerun.policies.recurrent import RecurrentConfig, RecurrentPolicy
from freerun.policies.settings.base import ModelSettings
from freerun.tasks.base import Codec
from freerun.vocabulary import Vocabulary


@dataclass(frozen=True, kw_only=True)
class RecurrentSettings(ModelSettings):
    """What a recurrent encoder-decoder is made of.

    Args:
        cell: `gru` or `lstm`.
        hidden_size: the width of the recurrent states of encoder (each direction) and decoder.
        embedding_size: the width of the embeddings of tokens, of the source and the target.
        layers: recurrent layers, of the encoder and of the decoder.
        bidirectional: whether the encoder reads both ways.
        attention: how the decoder looks at the source: `none` (only through its first state),
            `general` (Luong et al. 2015), `additive` (Bahdanau et al. 2015), or `aligned` (cell t
            reads position t; for targets as long as their source).
        input_feeding: whether the decoder also reads its last attentional output (Luong et al.
            2015).
        dropout: probability of dropping embeddings, states between layers, and outputs, in [0, 1).

    Raises:
        ValueError: where a setting is out of range, or settings contradict each other.
    """

    kind: ClassVar[str] = "recurrent"

    cell: Literal["gru", "lstm"] = "gru"
    hidden_size: int = 128
    embedding_size: int = 128
    layers: int = 1
    bidirectional: bool = False
    attention: Literal["none", "general", "additive", "aligned"] = "none"
    input_feeding: bool = False
    dropout: float = 0.0

    def __post_init__(self) -> None:
        """Check the settings as the policy's own configuration does, for some task."""
        RecurrentConfig.of(Vocabulary.build("a", eos=False), factors=(1,), **asdict(self))

    @classmethod
    def of(cls, config: RecurrentConfig) -> RecurrentSettings:
        """The settings that a policy was made with."""
        return cls(**{field.name: getattr(config, field.name) for field in fields(cls)})

    def build(self, codec: Codec) -> RecurrentPolicy:
        """A policy that reads and writes what `codec` says, its weights drawn from torch's RNG.

        A backspace takes part in no draw (see `with_backspace`): all others are the same without.

        Raises:
            ValueError: where a setting does not suit the task.
        """
        config = RecurrentConfig.of(
            codec.target.without_backspace(),
            features=codec.features,
            factors=codec.factors,
            limit=codec.limit,
            **asdict(self),
        )
        policy = RecurrentPolicy(config)
        return policy if codec.target.backspace is None else with_backspace(policy, codec)
