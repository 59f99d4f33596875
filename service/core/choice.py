"""Which model serves which head."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from service.card import InputSpec, ModelCard
from service.errors import InvalidOption
from service.types import HEADS, Head


@dataclass(frozen=True, slots=True)
class Choice:
    """The models that answer a request."""

    heads: Mapping[Head, ModelCard]
    """The heads that are answered, and the model that serves each."""
    models: Mapping[str, tuple[Head, ...]]
    """The same, by the model's name."""
    specs: Mapping[str, InputSpec]
    """The crops that they take, by the model's name."""
    ids: Mapping[Head, str]
    """`name@version` of each head's."""


def by_head(cards: Sequence[ModelCard]) -> dict[Head, ModelCard]:
    """The first card for each head."""
    return {head: card for card in reversed(cards) for head in card.heads}


def choose(
    names: Sequence[str],
    attributes: Collection[Head] | None,
    cards: Mapping[str, ModelCard],
    defaults: Mapping[Head, ModelCard],
) -> Choice:
    """For each head that is answered the first model named that has it, else its default.

    Args:
        names: of models that the caller prefers.
        attributes: heads that the caller wants; None for all.
        cards: of the models that are served, by name.
        defaults: which model serves a head when none is named.

    Raises:
        InvalidOption: a model that is not served, or a head that none has.
    """
    for name in names:
        if name not in cards:
            raise InvalidOption(f"no model {name!r}; there are {', '.join(cards)}")
    served = dict(defaults) | by_head([cards[name] for name in names])
    asked = served.keys() if attributes is None else attributes
    wanted = [head for head in HEADS if head in asked]
    if missing := [head for head in wanted if head not in served]:
        raise InvalidOption(f"no model that is served has the head {missing[0]!r}")
    heads = {head: served[head] for head in wanted}
    models: dict[str, tuple[Head, ...]] = {}
    for head, card in heads.items():
        models[card.name] = (*models.get(card.name, ()), head)
    return Choice(
        heads,
        models,
        {card.name: card.input for card in heads.values()},
        {head: card.id for head, card in heads.items()},
    )
