"""The settings of the recurrent policy."""

# No postponed annotations here: `strict` cannot check values against annotations that are strings.
import difflib
from typing import Literal, no_type_check

from huggingface_hub.dataclasses import strict
from huggingface_hub.errors import StrictDataclassFieldValidationError
from transformers import PreTrainedConfig

from freerun.vocabulary import Vocabulary

MAX_LAYERS = 1_000
"""More layers are not made one by one until memory ends."""


# `strict` checks types itself, and transformers takes more keywords than the signature has.
@no_type_check
@strict
class RecurrentConfig(PreTrainedConfig):
    """The configuration of a recurrent policy.

    Args:
        features: the width of real-valued sources; None for sources of tokens.
        factors: for sources of tokens, the number of ids of each token of a position; their
            embeddings are summed.
        symbols: the text of every action.
        bos: the token that a target is started with.
        pad: the token that fills shorter rows.
        eos: the action that ends a sequence; None for targets as long as their source.
        backspace: the action that withdraws a token, if there is one.
        unknown: the action that stands for any symbol that is not among `symbols`, if there is one.
        limit: the maximum number of tokens of an output, eos included; None if there is no eos.
        cell: `gru` or `lstm`.
        hidden_size: the width of the recurrent states of encoder (each direction) and decoder.
        embedding_size: the width of embeddings of tokens, of the source and the target.
        layers: recurrent layers of encoder and decoder.
        bidirectional: whether the encoder reads in both directions.
        attention: how the decoder looks at the source: `none` (only through its first state),
            `general` (Luong et al. 2015, arXiv 1508.04025), `additive` (Bahdanau et al. 2015, arXiv
            1409.0473), or `aligned` (cell t reads position t; for targets as long as their source).
        input_feeding: whether the decoder also reads its last attentional output (Luong et al.,
            section 3.3).
        dropout: probability of dropping embeddings, states between layers, and outputs.
    """

    model_type = "freerun_recurrent"

    features: int | None = None
    factors: list[int] | tuple[int, ...] = ()
    symbols: list[str] | tuple[str, ...] = ()
    bos: int = 0
    pad: int = 0
    eos: int | None = None
    backspace: int | None = None
    unknown: int | None = None
    limit: int | None = None
    cell: Literal["gru", "lstm"] = "gru"
    hidden_size: int = 128
    embedding_size: int = 128
    layers: int = 1
    bidirectional: bool = False
    attention: Literal["none", "general", "additive", "aligned"] = "none"
    input_feeding: bool = False
    dropout: float | int = 0.0

    def __post_init__(self, **kwargs: object) -> None:
        """Check values and combinations.

        Raises:
            ValueError: if settings contradict each other, or sources are not described.
        """
        super().__post_init__(**kwargs)
        for name in ("hidden_size", "embedding_size", "layers", "features", "limit"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} is {value}; it must be at least 1")
        if self.layers > MAX_LAYERS:
            raise ValueError(f"layers is {self.layers}; it must be at most {MAX_LAYERS}")
        if any(count < 1 for count in self.factors):
            raise ValueError(f"factors are {list(self.factors)}; each must be at least 1")
        if self.input_feeding and self.attention == "none":
            raise ValueError(
                "input_feeding needs attention: without it, there is no attentional output to feed"
            )
        if self.attention == "aligned" and self.eos is not None:
            raise ValueError(
                "attention='aligned' needs targets as long as their source, "
                "but this vocabulary has an eos"
            )
        # transformers also makes a configuration without arguments, to save what differs from it.
        if self.symbols and (self.limit is None) != (self.eos is None):
            raise ValueError("limit is given exactly where the vocabulary has an eos")
        if self.symbols and (self.features is None) == (not self.factors):
            raise ValueError("give features (real-valued inputs) or factors (token inputs)")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout is {self.dropout}; it must lie in [0, 1)")

    @property
    def vocabulary(self) -> Vocabulary:
        """The tokens that the policy writes."""
        return Vocabulary(
            tuple(self.symbols),
            bos=self.bos,
            pad=self.pad,
            eos=self.eos,
            backspace=self.backspace,
            unknown=self.unknown,
        )

    def set_vocabulary(self, vocabulary: Vocabulary) -> None:
        """Describe another vocabulary."""
        self.symbols = vocabulary.symbols
        self.bos, self.pad, self.eos = vocabulary.bos, vocabulary.pad, vocabulary.eos
        self.backspace, self.unknown = vocabulary.backspace, vocabulary.unknown

    @classmethod
    def from_vocabulary(
        cls,
        vocabulary: Vocabulary,
        *,
        features: int | None = None,
        factors: tuple[int, ...] = (),
        limit: int | None = None,
        **settings: object,
    ) -> "RecurrentConfig":
        """Return the configuration of a policy that writes `vocabulary`; the rest are other fields.

        Raises:
            ValueError: if a setting is unknown, has the wrong type or is out of range, or settings
                contradict each other.
        """
        # transformers would keep an unknown setting as an attribute that nobody reads.
        known = [name for name in cls.__annotations__ if name != "model_type"]
        for name in settings:
            if name not in known:
                near = difflib.get_close_matches(name, known, 1)
                hint = f"; did you mean {near[0]}?" if near else ""
                raise ValueError(f"a recurrent policy has no setting {name!r}{hint}")
        try:
            return cls(
                features=features,
                factors=factors,
                limit=limit,
                symbols=vocabulary.symbols,
                bos=vocabulary.bos,
                pad=vocabulary.pad,
                eos=vocabulary.eos,
                backspace=vocabulary.backspace,
                unknown=vocabulary.unknown,
                **settings,
            )
        except StrictDataclassFieldValidationError as error:
            raise ValueError(str(error.__cause__)) from None
